//! `POST /api/orders`: the orders of the command line from another machine, by an access token. What an order is and what it needs, the
//! command line knows; this face says who gives it, and bounds what is read.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use super::bearer::{self, Unknown};
use super::error::Problem;
use super::limits::{Anonymous, Body};
use super::peer::Peer;
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

/// Takes an order.
///
/// # Errors
/// As a problem: 401 without a good token, 403 for what the caller may not do, and the order's own.
pub(super) async fn receive(
    app: Data<App>,
    orders: Data<Orders>,
    request: HttpRequest,
    peer: Peer,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let Some(carrier) = orders.0 else { return Err(Problem::not_found()) };
    let caller = match bearer::caller(&app, &request).await {
        Ok(caller) => caller,
        Err(Unknown::Failed(error)) => return Err(error.into()),
        Err(Unknown::Denied { text, challenge }) => {
            // Who is not recognised is counted by address, as everybody without a name.
            Anonymous::count(&request)?;
            let mut answer = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", text).json();
            if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            return Ok(answer);
        }
    };
    // Only now: strangers send nothing that is read.
    let body = Body::<LARGEST>::of_known(&request, payload.into_inner()).await?;
    let answer = carrier.carry(app.into_inner(), caller, peer.origin(), body.to_vec()).await?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(answer))
}
