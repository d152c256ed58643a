//! AlterUserScramCredentials: sets and removes SCRAM credentials (KIP-554).

use bytes::Bytes;

use crate::types::Str;

messages! {
    api AlterUserScramCredentials, versions 0..=0;

    request AlterUserScramCredentialsRequest {
        deletions: Vec<ScramCredentialDeletion>;
        upsertions: Vec<ScramCredentialUpsertion>;
    }

    struct ScramCredentialDeletion {
        name: Str;
        mechanism: i8;
    }

    struct ScramCredentialUpsertion {
        name: Str;
        mechanism: i8;
        iterations: i32;
        salt: Bytes;
        salted_password: Bytes;
    }

    response AlterUserScramCredentialsResponse {
        throttle_time_ms: i32;
        results: Vec<AlterUserScramCredentialsResult>;
    }

    struct AlterUserScramCredentialsResult {
        user: Str;
        error_code: i16;
        error_message: Option<Str>;
    }
}
