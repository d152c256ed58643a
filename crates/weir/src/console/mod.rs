//! The web console: what runs, seen by a person.
//!
//! [`hub::ConsoleHub`] holds the last state of everything shown. The worker's consumers write into
//! it; [`router`] serves it, together with the page itself, which travels inside the binary
//! (`crates/weir/ui/dist`, built by `crates/weir/ui/build.sh`).
//!
//! | path | answer |
//! |---|---|
//! | `/live` | WebSocket: positions as binary frames, everything else as JSON frames ([`live`]) |
//! | `/api/state` | all of it once, as JSON; `?devices_max=n`, up to 10,000 |
//! | `/api/device?id=x` | one device and its last events |
//! | `/api/layers` | which layers run and how to turn the others on |
//! | `/`, `/map`, ... | the pages of [`assets`]; `/app.js`, `/app.css`, `/land.bin` |
//! | anything else | 404 with WEIR-1004 |
//!
//! Must never know: the broker, the client, the traffic manager. It takes plain values only.

mod assets;
mod fleet;
pub(crate) mod hub;
mod live;
mod secure;
#[cfg(test)]
mod tests;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State, WebSocketUpgrade};
use axum::http::{header, HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::http::guard::{self, Hosts};
use hub::ConsoleHub;

/// Devices listed by `/api/state` unless the caller asks for more.
const STATE_DEVICES: usize = 1_000;
/// And at most: the answer is made in memory.
const STATE_DEVICES_MAX: usize = 10_000;

/// Who may talk to the console, and how many at once.
#[derive(Debug, Clone)]
pub(crate) struct ConsoleConfig {
    /// Host names, without port, that are answered besides `localhost` and loopback addresses.
    pub(crate) hosts: Vec<String>,
    /// Open `/live` connections; each costs one task and the frame being sent.
    pub(crate) clients_max: usize,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self { hosts: Vec::new(), clients_max: 64 }
    }
}

#[derive(Debug, Clone)]
struct Shared {
    hub: ConsoleHub,
    hosts: std::sync::Arc<Hosts>,
    clients_max: usize,
}

/// The console over `hub`. The caller binds it, to loopback unless told otherwise.
pub(crate) fn router(hub: ConsoleHub, config: ConsoleConfig) -> Router {
    let shared = Shared {
        hub,
        hosts: std::sync::Arc::new(Hosts::only(&config.hosts)),
        clients_max: config.clients_max,
    };
    Router::new()
        .route("/live", get(live_upgrade))
        .route("/api/state", get(api_state))
        .route("/api/device", get(api_device))
        .route("/api/layers", get(api_layers))
        .fallback(get(asset).fallback(method_not_allowed))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(shared.clone(), check_host))
        .with_state(shared)
}

/// Refuses a request whose Host is a name of somebody else, which is how a web page reaches a
/// loopback service through DNS rebinding. Everything that passes gets the security headers.
async fn check_host(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let host = guard::host_of(request.headers(), request.uri()).map(str::to_owned);
    // No browser leaves it out.
    if !host.as_deref().is_some_and(|host| shared.hosts.has(host)) {
        return refused(
            StatusCode::FORBIDDEN,
            "WEIR-1001",
            &format!("host {:?} is not a name of this console", host.unwrap_or_default()),
            "open it as http://localhost, or add the name to console.hosts in weir.yaml",
        );
    }
    let mut response = next.run(request).await;
    secure::headers(response.headers_mut());
    response
}

async fn live_upgrade(
    State(shared): State<Shared>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !guard::same_origin(&headers) {
        return refused(
            StatusCode::FORBIDDEN,
            "WEIR-1002",
            "the live connection was opened by a page of another origin",
            "open the console itself; programs without a browser send no Origin header",
        );
    }
    let Some(seat) = shared.hub.take_seat(shared.clients_max) else {
        return refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "WEIR-1003",
            &format!("{} consoles are connected, the limit", shared.clients_max),
            "close one, or raise console.clients_max in weir.yaml",
        );
    };
    let hub = shared.hub;
    upgrade
        .max_message_size(live::INCOMING_BYTES_MAX)
        .max_frame_size(live::INCOMING_BYTES_MAX)
        .on_upgrade(move |socket| live::serve(socket, hub, seat))
}

#[derive(Debug, Deserialize)]
struct StateQuery {
    devices_max: Option<usize>,
}

async fn api_state(
    State(shared): State<Shared>,
    query: Result<Query<StateQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return bad_query(&error),
    };
    let devices_max = query.devices_max.unwrap_or(STATE_DEVICES).min(STATE_DEVICES_MAX);
    json_bytes(shared.hub.state_json(devices_max))
}

#[derive(Debug, Deserialize)]
struct DeviceQuery {
    id: String,
}

async fn api_device(
    State(shared): State<Shared>,
    query: Result<Query<DeviceQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return bad_query(&error),
    };
    match shared.hub.device_json(&query.id) {
        Some(body) => json_bytes(body),
        None => refused(
            StatusCode::NOT_FOUND,
            "WEIR-1004",
            &format!("no position of device {:?} has been seen", query.id),
            "curl /api/state lists the devices; the id is the record key",
        ),
    }
}

async fn api_layers(State(shared): State<Shared>) -> Response {
    json_bytes(shared.hub.layers_json())
}

async fn asset(headers: HeaderMap, request: Request) -> Response {
    let path = request.uri().path();
    assets::serve(path, &headers).unwrap_or_else(|| {
        let is_api = path == "/api" || path.starts_with("/api/");
        if !is_api {
            // Who typed a wrong address gets a page that says so, and shows the way.
            if let Some(page) = assets::page_of_nothing(&headers) {
                return page;
            }
        }
        let help = match is_api {
            true => "/api/state, /api/device?id=, /api/layers and /live exist",
            false => "the console starts at /",
        };
        let message = format!("there is nothing at {path}");
        refused(StatusCode::NOT_FOUND, "WEIR-1004", &message, help)
    })
}

/// axum adds the header `Allow`.
async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    let help = "the console only shows: everything is read by GET";
    refused(StatusCode::METHOD_NOT_ALLOWED, "WEIR-1005", &message, help)
}

/// A query string that cannot be read.
fn bad_query(error: &QueryRejection) -> Response {
    let help = "/api/state takes devices_max, a number; /api/device takes id";
    refused(StatusCode::BAD_REQUEST, "WEIR-1006", &error.body_text(), help)
}

fn json_bytes(body: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

/// A refusal of the console: code, sentence, next step. (The gateway answers in the shape of an event's outcome.)
fn refused(status: StatusCode, code: &'static str, message: &str, help: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": message, "help": help } });
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
