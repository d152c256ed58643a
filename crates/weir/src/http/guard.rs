//! Keeps web pages of strangers out: a browser on this machine runs them, and weir trusts whoever is on
//! this machine. Programs other than browsers send no `Origin`.

use std::net::IpAddr;

use axum::http::{header, HeaderMap, Uri};

/// The host names a door answers to.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    /// `None`: to any.
    names: Option<Vec<String>>,
}

impl Hosts {
    /// To `localhost`, to addresses, and to these names.
    pub(crate) fn only(names: &[String]) -> Self {
        Self { names: Some(names.iter().map(|name| name.to_ascii_lowercase()).collect()) }
    }

    pub(crate) const fn any() -> Self {
        Self { names: None }
    }

    /// Whether a request for this host is meant for this door. A name that is not ours may be a
    /// stranger's that resolves to this machine (DNS rebinding): its page then has the same origin as
    /// this door. An address cannot be made to mean another machine.
    pub(crate) fn has(&self, host: &str) -> bool {
        let Some(names) = &self.names else { return true };
        let name = without_port(host).to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        address.unwrap_or(&name).parse::<IpAddr>().is_ok()
            || name == "localhost"
            || names.contains(&name)
    }
}

/// The authority a request was meant for, with its port if it has one. A browser always sends one; only
/// a program of HTTP/1.0 does not.
pub(crate) fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let authority = uri.authority().map(|authority| authority.as_str());
    authority.or_else(|| headers.get(header::HOST).and_then(|host| host.to_str().ok()))
}

/// True unless a browser says that the request comes from another origin. The same-origin policy
/// does not cover WebSockets, so the server has to look (RFC 6455 §10.2).
pub(crate) fn same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| {
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
    });
    match (origin, host) {
        (Some(origin), Some(host)) => origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_ours_is_refused_and_an_address_never_is() {
        let hosts = Hosts::only(&["Weir.Example".to_owned()]);
        for ours in
            ["localhost:1", "LOCALHOST", "127.0.0.1:8084", "10.0.0.1", "[::1]:8084", "[::2]"]
        {
            assert!(hosts.has(ours), "{ours}");
        }
        assert!(hosts.has("weir.example:80"));
        for strange in ["evil.example:8084", "localhost.evil.example", "", "127.0.0.1.evil", "[x]"]
        {
            assert!(!hosts.has(strange), "{strange}");
            assert!(Hosts::any().has(strange), "{strange}");
        }
    }

    #[test]
    fn an_origin_must_be_this_very_host() {
        for (origin, expect) in [
            (None, true),
            (Some("http://127.0.0.1:8084"), true),
            (Some("http://127.0.0.1:8090"), false),
            (Some("https://evil.example"), false),
            (Some("null"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8084".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(same_origin(&headers), expect, "{origin:?}");
        }
    }
}
