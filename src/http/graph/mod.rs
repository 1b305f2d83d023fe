//! The Graph-shaped API below `/v1.0` and `/beta`: what Microsoft's SDKs speak. One implementation with two projections; a new entity set is a
//! file in [`entity`] and a line in its table.

pub mod answer;
mod batch;
pub mod entity;
pub mod error;
pub mod list;
pub mod request;
pub mod route;

use actix_web::http::Method;
use actix_web::web::{Data, Path, Payload, ServiceConfig, resource, route};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _};

use self::error::{GraphProblem, Result};
use self::request::{Request, Version};
use super::bearer;
use super::error::{Problem, trace_id};
use super::peer::Peer;
use super::table;
use crate::app::App;
use crate::service::callers::Weight;

/// Largest body (Graph's own limit is 4 MB).
const LARGEST: usize = 4 * 1024 * 1024;

/// Everything below the two roots, the roots themselves, and what has more slashes before them than one: whoever means this API is answered
/// in its form.
pub fn routes(all: &mut ServiceConfig) {
    all.service(resource(r"/{slashes:/*}{version:(?i:v1\.0|beta)}{path:(?:/.*)?}").route(route().to(answer)));
}

/// Answers a call, whatever comes of it in the form that clients of Graph read.
pub async fn answer(
    app: Data<App>,
    path: Path<(String, String, String)>,
    request: HttpRequest,
    peer: std::result::Result<Peer, Problem>,
    payload: Payload,
) -> HttpResponse {
    let client_request_id = super::identity::token::correlation_id(&request);
    let work = call(&app, &path, &request, peer, payload);
    let outcome = table::caught(work).await;
    let request_id = trace_id();
    match outcome {
        Ok(answer) => answer.respond(&request_id, &client_request_id),
        Err(problem) => {
            let body = problem.body(&client_request_id, app.now().to_utc());
            let answer =
                answer::Answer { status: problem.status_code(), headers: problem.headers().collect(), body: answer::Body::Json(body) };
            answer.respond(&request_id, &client_request_id)
        }
    }
}

async fn call(
    app: &App,
    (slashes, version, path): &(String, String, String),
    request: &HttpRequest,
    peer: std::result::Result<Peer, Problem>,
    payload: Payload,
) -> Result<answer::Answer> {
    let caller = async { bearer::caller(app, request).await.map_err(GraphProblem::from) };
    let (caller, origin, body) = table::open::<LARGEST, _>(request, peer, payload, caller).await?;
    if !slashes.is_empty() {
        return Err(GraphProblem::segment(""));
    }
    let version = Version::parse(version).ok_or_else(|| GraphProblem::segment(version))?;
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    let call = Request::new(version, method, path, request.query_string(), request.headers(), body)?;
    let answer = if batch::is_batch(&call) {
        // Its calls are counted besides.
        app.callers.count(&caller, Weight::Read).map_err(GraphProblem::throttled)?;
        batch::answer(app, &caller, &origin, &call).await?
    } else {
        route::dispatch(app, &caller, &origin, &call, entity::TABLE).await?
    };
    Ok(if call.bare { answer.bare() } else { answer })
}
