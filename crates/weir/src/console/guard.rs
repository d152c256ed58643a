//! Keeps other web pages out of a service on loopback: Host and Origin checks, security headers.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{header, HeaderMap, HeaderName, HeaderValue, Uri};

/// Nothing is loaded from anywhere else, no other page may frame this one.
const CSP: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                   form-action 'none'; frame-ancestors 'none'";

/// The host names this console answers to.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
}

impl Guard {
    pub(super) fn new(hosts: Vec<String>) -> Self {
        Self { hosts: hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    /// Loopback addresses, `localhost` and the configured names pass. A request without a host
    /// (HTTP/1.0) does not: no browser sends one.
    pub(super) fn allows_host(&self, host: Option<&str>) -> bool {
        let Some(name) = host.map(without_port) else { return false };
        let name = name.to_ascii_lowercase();
        let loopback = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback()),
            None => name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        };
        loopback || name == "localhost" || self.hosts.contains(&name)
    }
}

/// The authority a request was meant for, with its port if it has one.
pub(super) fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let authority = uri.authority().map(|authority| authority.as_str());
    authority.or_else(|| headers.get(header::HOST).and_then(|host| host.to_str().ok()))
}

/// True unless a browser says that the request comes from another origin. The same-origin policy
/// does not cover WebSockets, so the server has to look (RFC 6455 §10.2).
pub(super) fn same_origin(headers: &HeaderMap) -> bool {
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

/// Adds what every answer carries.
pub(super) fn secure(headers: &mut HeaderMap) {
    let fixed: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}
