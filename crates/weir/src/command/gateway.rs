//! The gateway's address as a person gives it.

use crate::error::{Outcome, UserError};

/// Where events are posted, for `http://HOST:PORT`; the answer then has only what was refused.
pub(super) fn events_url(gateway: &str) -> Outcome<String> {
    let fault = |why: &str| {
        UserError::new("WEIR-0803", format!("--gateway: \"{gateway}\" {why}"))
            .why("in --gateway")
            .help("write it as http://127.0.0.1:8084")
    };
    let uri: ureq::http::Uri = gateway.parse().map_err(|_| fault("is not a URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(fault("asks for TLS, which the gateway does not speak yet")),
        _ => return Err(fault("does not begin with http://")),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(fault("names no host"));
    }
    Ok(format!("{}/v1/events?results=refused", gateway.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_scheme_is_refused_at_once() {
        for good in ["http://127.0.0.1:8084", "http://gw.example/", "http://[::1]:8084"] {
            assert!(events_url(good).unwrap().ends_with("/v1/events?results=refused"), "{good}");
        }
        for bad in ["nonsense", "127.0.0.1:8084", "https://gw:8084", "http://", "", "ftp://x"] {
            assert_eq!(events_url(bad).unwrap_err().code, "WEIR-0803", "{bad}");
        }
    }
}
