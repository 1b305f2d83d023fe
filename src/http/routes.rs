//! What each face answers: one table per face, and nothing is reachable that is not in it.

use actix_web::web::{ServiceConfig, get, post, resource};

use super::{health, pki, scep, signals};
use crate::service::signals::JWKS_PATH;

/// The face that never asks for a client certificate.
pub fn web(table: &mut ServiceConfig) {
    table
        .service(resource("/.well-known/ssf-configuration").route(get().to(signals::show_configuration)))
        .service(resource("/healthz").route(get().to(health::show_alive)))
        .service(resource("/metrics").route(get().to(health::show_metrics)))
        .service(resource("/readyz").route(get().to(health::show_ready)))
        .service(resource(JWKS_PATH).route(get().to(signals::show_keys)))
        .configure(scep::routes);
}

/// The face that asks for a client certificate.
pub fn device(table: &mut ServiceConfig) {
    table.service(resource("/healthz").route(get().to(health::show_alive)));
}

/// The plain HTTP face of the CA.
pub fn pki(table: &mut ServiceConfig) {
    table
        .service(resource("/aia/{name}.cer").route(get().to(pki::show_certificate)))
        .service(resource("/aia/{name}.pem").route(get().to(pki::show_chain)))
        .service(resource("/crl/{name}.crl").route(get().to(pki::show_crl)))
        .service(resource("/ocsp/{name}").route(post().to(pki::answer_posted)))
        .service(resource("/ocsp/{name}/{request:.*}").route(get().to(pki::answer_got)))
        .service(resource("/healthz").route(get().to(health::show_alive)))
        .service(resource("/metrics").route(get().to(health::show_metrics)))
        .service(resource("/readyz").route(get().to(health::show_ready)))
        .configure(scep::routes);
}
