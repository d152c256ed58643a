//! Web pages of other origins must not use the gateway: it trusts whoever is on this machine, and a
//! browser on this machine runs pages of strangers. Programs other than browsers send no `Origin`.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{header, HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::Json;

use super::outcome::{EventOutcome, Rejection};

/// Whether a request comes from no browser page, or from a page served by this very host.
///
/// The host must be an address or localhost: a name could be a stranger's that resolves to this
/// machine (DNS rebinding), whose page then has the same origin as the gateway.
pub(super) fn is_ours(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin == host && is_address(host))
}

fn is_address(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

pub(super) fn refusal() -> impl IntoResponse {
    let message = "a page of another origin may not use this gateway";
    let rejection = Rejection::bad("WEIR-0909", message).status(StatusCode::FORBIDDEN);
    (StatusCode::FORBIDDEN, Json(EventOutcome::Rejected(rejection)))
}

/// Middleware for everything the gateway serves.
pub(super) async fn check(request: Request, next: Next) -> Response {
    if is_ours(request.headers()) {
        next.run(request).await
    } else {
        refusal().into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origin: Option<&'static str>, expect: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "127.0.0.1:8084".parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        assert_eq!(is_ours(&headers), expect, "{origin:?}");
    }

    #[test]
    fn only_pages_of_this_host_and_programs_pass() {
        check(None, true);
        check(Some("http://127.0.0.1:8084"), true);
        check(Some("http://127.0.0.1:8090"), false);
        check(Some("https://evil.example"), false);
        check(Some("null"), false);
    }

    #[test]
    fn page_of_a_name_that_resolves_to_this_machine_is_refused() {
        for (host, ours) in
            [("evil.example:8084", false), ("localhost:8084", true), ("[::1]:8084", true)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            headers.insert(header::ORIGIN, format!("http://{host}").parse().unwrap());
            assert_eq!(is_ours(&headers), ours, "{host}");
        }
    }
}
