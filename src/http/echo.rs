//! A handler that gives back what it is sent: what transport, TLS and routing alone cost, to measure the product against.

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig, resource};

use super::limits::Body;
use super::server::Routes;

/// The largest body that is given back.
const LARGEST: usize = 256 * 1024;

/// The same one route on every face.
pub const ROUTES: Routes = Routes { web: table, device: table, pki: table, orders: None };

fn table(table: &mut ServiceConfig) {
    table.service(resource("/echo").route(web::post().to(repeat)));
}

async fn repeat(body: Body<LARGEST>) -> HttpResponse {
    HttpResponse::Ok().content_type(header::ContentType::octet_stream()).body(body.0)
}
