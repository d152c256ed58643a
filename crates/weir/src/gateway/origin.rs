//! Web pages of other origins must not use the gateway ([`guard`]).

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::events::refused;
use super::outcome::Rejection;
use super::Gateway;
use crate::http::guard;

/// Middleware for everything the gateway serves, reading included: a page of a name that a stranger has
/// pointed at this machine has the gateway's own origin, and a browser sends no Origin with its reads.
/// Only a program leaves the host out.
pub(super) async fn check(
    State(gateway): State<Gateway>,
    request: Request,
    next: Next,
) -> Response {
    let (headers, uri) = (request.headers(), request.uri());
    let message = match guard::host_of(headers, uri) {
        Some(host) if !gateway.hosts.has(host) => {
            let shown: String = host.chars().take(80).collect();
            format!("host \"{shown}\" is not a name of this gateway; gateway.hosts has its names")
        }
        _ if !guard::same_origin(headers) => {
            "a page of another origin may not use this gateway".to_owned()
        }
        _ => return next.run(request).await,
    };
    refused(Rejection::bad("WEIR-0909", message).status(StatusCode::FORBIDDEN)).into_response()
}
