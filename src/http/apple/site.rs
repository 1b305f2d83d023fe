//! What Apple's systems read about this host.

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use serde_json::json;

use crate::app::App;
use crate::http::error::Problem;
use crate::http::limits::Anonymous;
use crate::service::apple::single_sign_on;

/// Which applications and extensions may do single sign-on with this host (associated domains, service `authsrv`); nothing is here when
/// none is configured (`apple.sso`).
pub async fn show_association(app: Data<App>, _: Anonymous) -> Result<HttpResponse, Problem> {
    let apps = single_sign_on::associated(&app);
    if apps.is_empty() {
        return Err(Problem::not_found());
    }
    let mut answer = HttpResponse::Ok();
    Ok(answer.insert_header((CACHE_CONTROL, "public, max-age=3600")).json(json!({ "authsrv": { "apps": apps } })))
}
