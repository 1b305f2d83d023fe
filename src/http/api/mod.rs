//! The product's own API below `/api`, for what Microsoft Graph has no shape for. A new resource is a file in [`resource`] and a line in
//! its table; the document at `/api/openapi.json` is made of the table.

pub mod openapi;
pub mod page;
pub mod problem;
pub mod request;
pub mod resource;
pub mod route;
pub mod schema;

use actix_web::guard;
use actix_web::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use actix_web::web::{Data, Payload, ServiceConfig, resource as at, route as any};
use actix_web::{HttpRequest, HttpResponse};

use self::problem::{ApiProblem, Result};
use self::request::Request;
use super::bearer;
use super::error::Problem;
use super::limits::Anonymous;
use super::peer::Peer;
use super::table;
use crate::app::App;
use crate::config::Config;

/// Where it begins.
pub const ROOT: &str = "/api";
/// Where the document is.
pub const DOCUMENT: &str = "/api/openapi.json";
/// Largest body.
const LARGEST: usize = 1024 * 1024;

/// Everything below the root.
pub fn routes(all: &mut ServiceConfig) {
    let reads = || guard::Any(guard::Get()).or(guard::Head());
    all.service(at(DOCUMENT).route(any().guard(reads()).to(show_document)).route(any().to(answer)))
        .service(at(["/api", "/api/{path:.*}"]).route(any().to(answer)));
}

/// The base URL, from the configuration: what a client says the host is called is not believed.
#[must_use]
pub fn base(config: &Config) -> String {
    format!("{}{ROOT}", config.web_url())
}

/// `GET /api/openapi.json`: says nothing of this instance, only what the product's source says to everybody, and tools read it before they
/// have a token; so it asks for none.
pub async fn show_document(request: HttpRequest) -> HttpResponse {
    if let Err(problem) = Anonymous::count(&request) {
        return problem.json();
    }
    let (text, etag) = openapi::text();
    let known = request.headers().get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known == Some(etag) {
        return HttpResponse::NotModified().insert_header((ETAG, etag)).finish();
    }
    HttpResponse::Ok().content_type("application/json").insert_header((ETAG, etag)).insert_header((CACHE_CONTROL, "no-cache")).body(text)
}

/// Answers a call, whatever comes of it in the form of this API.
pub async fn answer(app: Data<App>, request: HttpRequest, peer: std::result::Result<Peer, Problem>, payload: Payload) -> HttpResponse {
    let work = call(&app, &request, peer, payload);
    let outcome = table::caught(work).await;
    match outcome {
        Ok(answer) => answer.respond(),
        Err(problem) => problem.respond(),
    }
}

async fn call(app: &App, request: &HttpRequest, peer: std::result::Result<Peer, Problem>, payload: Payload) -> Result<route::Answer> {
    let caller = async { bearer::caller(app, request).await.map_err(ApiProblem::from) };
    let (caller, origin, body) = table::open::<LARGEST, _>(request, peer, payload, caller).await?;
    let call = Request::new(request, ROOT, body)?;
    if request.uri().path() == DOCUMENT {
        return Err(ApiProblem::method(request.method().as_str(), &["GET", "HEAD"]));
    }
    route::dispatch(app, &caller, &origin, &call, resource::TABLE).await
}
