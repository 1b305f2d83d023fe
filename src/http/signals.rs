//! The signal transmitter's metadata and keys.

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;

use super::error::Problem;
use crate::app::App;
use crate::service::{signals, signing_keys};

/// `GET /.well-known/ssf-configuration` (SSF 1.0 section 7.1).
pub async fn show_configuration(app: Data<App>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "max-age=3600")).json(signals::metadata(&app.config))
}

/// The published keys, as a JWK set. A new key is published a day before it signs, so an hour in a cache does no harm.
///
/// # Errors
/// 503 when the database does not answer.
pub async fn show_keys(app: Data<App>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "max-age=3600")).json(signing_keys::jwks(&app).await?))
}
