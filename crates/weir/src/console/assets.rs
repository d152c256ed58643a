//! The page, embedded. Built by `crates/weir/ui/build.sh`; cargo needs no node.

use axum::body::Body;
use axum::http::{header, HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "ui/dist"]
struct Dist;

/// The pages, as `ui/src/pages/registry.ts` lists them. Each is `index.html`: the browser reads the
/// address.
const PAGES: [&str; 6] = ["", "map", "alerts", "tasks", "topics", "groups"];

/// Answers `path`, or `None` if there is neither such a page nor such a file.
pub(super) fn serve(path: &str, headers: &HeaderMap) -> Option<Response> {
    // The page takes an address with slashes around it for the same.
    let name = match PAGES.contains(&path.trim_matches('/')) {
        true => "index.html",
        false => path.strip_prefix('/')?,
    };
    // The precompressed twin is an encoding of its file, not a file of its own.
    if name.ends_with(".gz") {
        return None;
    }
    let plain = Dist::get(name)?;
    let etag = etag_of(&plain);
    let zipped = if accepts_gzip(headers) { Dist::get(&format!("{name}.gz")) } else { None };

    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let unchanged = known.is_some_and(|tags| tags.split(',').any(|tag| same_tag(tag, &etag)));
    let encoded = zipped.is_some();
    let body = if unchanged { Body::empty() } else { body_of(zipped.unwrap_or(plain)) };

    let mut response = Response::new(body);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    // Always asked for, seldom sent again: a new weir is seen at the next reload.
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, tag);
    }
    if encoded && !unchanged {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Some(response)
}

/// For a browser that asks for a page which is not there: the page, which says so, as 404. `None` for who takes no HTML.
pub(super) fn page_of_nothing(headers: &HeaderMap) -> Option<Response> {
    let accepted = headers.get(header::ACCEPT)?.to_str().ok()?;
    if !accepted.contains("text/html") {
        return None;
    }
    let mut page = serve("/", headers)?;
    if page.status() == StatusCode::OK {
        *page.status_mut() = StatusCode::NOT_FOUND;
    }
    Some(page)
}

fn body_of(file: EmbeddedFile) -> Body {
    match file.data {
        std::borrow::Cow::Borrowed(bytes) => Body::from(bytes),
        std::borrow::Cow::Owned(bytes) => Body::from(bytes),
    }
}

/// Weak, because the same tag names the plain and the compressed bytes (RFC 9110 §8.8.1).
fn etag_of(file: &EmbeddedFile) -> String {
    let mut tag = String::from("W/\"");
    for byte in &file.metadata.sha256_hash()[..12] {
        tag.push_str(&format!("{byte:02x}"));
    }
    tag.push('"');
    tag
}

fn same_tag(offered: &str, etag: &str) -> bool {
    let offered = offered.trim();
    offered == "*" || offered.trim_start_matches("W/") == etag.trim_start_matches("W/")
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let Some(accepted) = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let refused = |q: &str| matches!(q, "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        parts.next() == Some("gzip") && !parts.any(refused)
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_those_of_the_browser_side() {
        let registry = include_str!("../../ui/src/pages/registry.ts");
        let entries = registry.lines().filter_map(|line| line.trim().strip_prefix("{ id: \""));
        let ids: Vec<&str> = entries.filter_map(|entry| entry.split('"').next()).collect();
        assert_eq!(ids, PAGES, "a page needs its entry in both lists");
    }
}
