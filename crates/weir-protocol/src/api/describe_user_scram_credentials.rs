//! DescribeUserScramCredentials: which SCRAM mechanisms users have (KIP-554).

use crate::types::Str;

messages! {
    api DescribeUserScramCredentials, versions 0..=0;

    request DescribeUserScramCredentialsRequest {
        users: Option<Vec<UserName>>;
    }

    struct UserName {
        name: Str;
    }

    response DescribeUserScramCredentialsResponse {
        throttle_time_ms: i32;
        error_code: i16;
        error_message: Option<Str>;
        results: Vec<DescribeUserScramCredentialsResult>;
    }

    struct DescribeUserScramCredentialsResult {
        user: Str;
        error_code: i16;
        error_message: Option<Str>;
        credential_infos: Vec<CredentialInfo>;
    }

    struct CredentialInfo {
        mechanism: i8;
        iterations: i32;
    }
}
