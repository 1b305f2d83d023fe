//! `POST /api/orders`: the orders of the command line from another machine, by an access token. What an order is and what it needs, the
//! command line knows; this face says who gives it, and bounds what is read.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use super::api::problem::{ApiProblem, Result};
use super::error::Problem;
use super::peer::Peer;
use super::{bearer, table};
use crate::app::App;
use crate::domain::access::Caller;
use crate::service;

/// Where orders are given.
pub const PATH: &str = "/api/orders";
/// Largest order, in bytes (a profile or a certificate file may be in it).
pub const LARGEST: usize = 16 * 1024 * 1024;

/// What comes of an order.
pub type Carried = Pin<Box<dyn Future<Output = service::Result<Value>> + Send>>;

/// Carries orders out.
pub trait Carrier: fmt::Debug + Sync {
    /// Has the order that `body` holds carried out for who calls from `origin`, as far as they may.
    fn carry(&self, app: Arc<App>, caller: Caller, origin: String, body: Vec<u8>) -> Carried;
}

/// Who carries orders out here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orders(pub(super) Option<&'static dyn Carrier>);

/// Takes an order, and answers as `/api` does.
pub(super) async fn receive(
    app: Data<App>,
    orders: Data<Orders>,
    request: HttpRequest,
    peer: std::result::Result<Peer, Problem>,
    payload: Payload,
) -> HttpResponse {
    match table::caught(order(app, &orders, &request, peer, payload)).await {
        Ok(answer) => HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(answer),
        Err(problem) => problem.respond(),
    }
}

async fn order(
    app: Data<App>,
    orders: &Orders,
    request: &HttpRequest,
    peer: std::result::Result<Peer, Problem>,
    payload: Payload,
) -> Result<Value> {
    if request.method() != Method::POST {
        return Err(ApiProblem::method(request.method().as_str(), &["POST"]));
    }
    let carrier = orders.0.ok_or_else(Problem::not_found)?;
    let caller = async { bearer::caller(&app, request).await.map_err(ApiProblem::from) };
    let (caller, origin, body) = table::open::<LARGEST, _>(request, peer, payload, caller).await?;
    Ok(carrier.carry(app.into_inner(), caller, origin, body.to_vec()).await?)
}
