//! What happens around every request: a span, numbers, security headers, and a net under panics.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::HttpMessage as _;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::web::Data;
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::drain::Drain;
use super::error::{self, Current, Problem};
use super::peer::{Connection, Face, Peer};

/// Headers of every answer of the web face, unless the handler chose its own.
const WEB_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The middleware around every route table.
pub(super) async fn observe<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, actix_web::Error> {
    let begun = Instant::now();
    let face = request.conn_data::<Connection>().map_or(Face::Pki, |c| c.face);
    // Guards see only the request's own data, and choose the route table by it when two faces share a port.
    request.extensions_mut().insert(face);
    let trace_id = uuid::Uuid::new_v4().simple().to_string();
    let method = request.method().clone();
    let span = tracing::info_span!(
        "request",
        trace.id = %trace_id,
        face = face.as_str(),
        http.method = %method,
        http.route = tracing::field::Empty,
        http.status = tracing::field::Empty,
        peer = tracing::field::Empty,
    );
    if !span.is_disabled() {
        match Peer::of(request.request()) {
            Ok(peer) => span.record("peer", tracing::field::display(peer.address)),
            Err(_) => span.record("peer", "malformed"),
        };
    }
    let drain = request.app_data::<Data<Drain>>().cloned();
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let in_browser = accept.contains("text/html");
    let answer = error::within(Current { trace_id, in_browser }, async {
        let Some(_in_flight) = drain.as_ref().map(|d| d.enter()).transpose()? else { return Err(Problem::internal().into()) };
        // A handler that panics must cost its own request only.
        match AssertUnwindSafe(next.call(request)).catch_unwind().await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(error),
            Err(panic) => {
                let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
                tracing::error!(panic = said.unwrap_or_default(), "a handler panicked: this is a bug");
                metrics::counter!("muster_panics_total").increment(1);
                Err(Problem::internal().into())
            }
        }
    })
    .instrument(span.clone())
    .await;
    let (route, status) = match &answer {
        Ok(response) => (response.request().match_pattern(), response.status()),
        Err(error) => (None, error.as_response_error().status_code()),
    };
    let route = route.unwrap_or_else(|| "none".into());
    span.record("http.route", route.as_str());
    span.record("http.status", status.as_u16());
    let seconds = begun.elapsed().as_secs_f64();
    let _in = span.enter();
    if status.is_server_error() {
        tracing::warn!(http.seconds = seconds, "answered");
    } else {
        tracing::debug!(http.seconds = seconds, "answered");
    }
    metrics::counter!("muster_http_requests_total", "face" => face.as_str(), "route" => route.clone(),
        "method" => known_method(&method), "status" => status.as_u16().to_string())
    .increment(1);
    metrics::histogram!("muster_http_request_seconds", "face" => face.as_str(), "route" => route).record(seconds);
    answer.map(|mut response| {
        if face == Face::Web {
            add_headers(response.headers_mut());
        }
        response
    })
}

/// Strangers choose methods freely; the numbers must not grow a row for each.
fn known_method(method: &actix_web::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in WEB_HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
}
