//! Is the process alive, is it ready for requests, and what do its numbers say.

use actix_web::http::StatusCode;
use actix_web::http::header::{FORWARDED, VIA};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::error::Problem;
use super::peer::Peer;
use crate::app::App;
use crate::{service, telemetry};

/// `GET /healthz`: the process answers.
pub async fn show_alive() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// `GET /readyz`: the database answers, and takes writes, too.
///
/// # Errors
/// 503 when it does not.
pub async fn show_ready(app: Data<App>) -> Result<HttpResponse, Problem> {
    service::health::check_ready(&app).await?;
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n"))
}

/// `GET /metrics`: the numbers, for callers on this machine.
///
/// # Errors
/// 403 from anywhere else, also by way of a proxy on this machine.
pub async fn show_metrics(peer: Peer, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let relayed = [FORWARDED.as_str(), VIA.as_str(), "x-forwarded-for"].iter().any(|name| request.headers().contains_key(*name));
    if relayed || peer.via_proxy || !peer.address.is_loopback() {
        return Err(Problem::new(StatusCode::FORBIDDEN, "loopback-only", "the numbers are shown to callers on the server itself"));
    }
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(telemetry::render_metrics()))
}
