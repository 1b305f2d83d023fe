//! What each face answers: one table per face, and nothing is reachable that is not in it.

use actix_web::Route;
use actix_web::guard::{Any, Get, Head};
use actix_web::web::{ServiceConfig, post, put, resource, route};

use super::apple::{account, apps, automated, enroll as apple_enroll, manage as apple, site};
use super::windows::{enroll, manage};
use super::{api, graph, health, identity, orders, pki, scep, scim, signals, signin, welcome};
use crate::service::apple::enroll::account::{DISCOVERY_PATH, path as account_path, sign_in_path};
use crate::service::apple::enroll::over_the_air;
use crate::service::signals::JWKS_PATH;
use crate::wire::apple::enroll::Mode;

// Windows writes these paths in capitals at times.
const DISCOVERY: &str = r"/{path:(?i:EnrollmentServer/Discovery\.svc)}";
const AUTHENTICATE: &str = "/{path:(?i:EnrollmentServer/Authenticate)}";
const TERMS: &str = "/{path:(?i:EnrollmentServer/TermsOfUse)}";
const POLICY: &str = r"/{path:(?i:EnrollmentServer/Policy\.svc)}";
// As we spell it ourselves: found without a regular expression, on the path that devices call most.
const MANAGEMENT_EXACTLY: &str = "/ManagementServer/MDM.svc";
const MANAGEMENT: &str = r"/{path:(?i:ManagementServer/MDM\.svc)}";
const ENROLLMENT: &str = r"/{path:(?i:EnrollmentServer/Enrollment\.svc)}";

/// GET, and HEAD as the same without the body.
pub(super) fn read() -> Route {
    route().guard(Any(Get()).or(Head()))
}

/// The face that never asks for a client certificate.
pub fn web(table: &mut ServiceConfig) {
    table
        .configure(scep::routes)
        .service(resource("/").route(read().to(welcome::show)))
        .service(resource("/.well-known/apple-app-site-association").route(read().to(site::show_association)))
        .service(resource("/.well-known/ssf-configuration").route(read().to(signals::show_configuration)))
        .service(resource(AUTHENTICATE).route(read().to(signin::show)).route(post().to(signin::sign_in)))
        .service(resource(DISCOVERY).route(read().to(enroll::probe)).route(post().to(enroll::discover)))
        .service(resource(TERMS).route(read().to(enroll::show_terms)).route(post().to(enroll::decide_terms)))
        .service(resource(apple::CHECK_IN).route(put().to(apple::check_in)))
        .service(resource(apple::COMMANDS).route(put().to(apple::connect)))
        .configure(apple::assets)
        .service(resource(apps::ROUTE).route(read().to(apps::show)))
        .service(resource("/enroll/apple").route(read().to(apple_enroll::show)).route(post().to(apple_enroll::sign_in)))
        .service(resource(DISCOVERY_PATH).route(read().to(account::discover)))
        .service(resource(account_path(Mode::User)).route(post().to(account::enroll_user)))
        .service(resource(account_path(Mode::Device)).route(post().to(account::enroll_device)))
        .service(resource(sign_in_path(Mode::User)).route(read().to(account::show_user)).route(post().to(account::sign_in_user)))
        .service(resource(sign_in_path(Mode::Device)).route(read().to(account::show_device)).route(post().to(account::sign_in_device)))
        .service(resource(automated::DEVICE).route(post().to(automated::enroll)))
        .service(resource(automated::SETUP).route(read().to(automated::show_setup)).route(post().to(automated::sign_in)))
        .service(resource(automated::SIGN_IN).route(read().to(automated::show_sign_in)).route(post().to(automated::authenticate)))
        .service(
            resource(over_the_air::PAGE_PATH)
                .route(read().to(apple_enroll::show_over_the_air))
                .route(post().to(apple_enroll::sign_in_over_the_air)),
        )
        .service(
            resource("/enroll/apple/ota/{token}")
                .route(read().to(apple_enroll::show_link))
                .route(post().to(apple_enroll::use_link_over_the_air)),
        )
        .service(resource(over_the_air::SERVICE_PATH).route(post().to(apple_enroll::answer)))
        .service(resource("/enroll/apple/{token}").route(read().to(apple_enroll::show_link)).route(post().to(apple_enroll::use_link)))
        .service(resource("/enroll/windows").route(read().to(enroll::show_guide)))
        .service(resource("/healthz").route(read().to(health::show_alive)))
        .service(resource("/metrics").route(read().to(health::show_metrics)))
        .service(resource("/readyz").route(read().to(health::show_ready)))
        .service(resource(JWKS_PATH).route(read().to(signals::show_keys)))
        .service(resource(orders::PATH).route(route().to(orders::receive)))
        .configure(api::routes)
        .configure(graph::routes)
        .configure(identity::routes)
        .configure(scim::routes);
}

/// The face that asks for a client certificate.
pub fn device(table: &mut ServiceConfig) {
    table
        .service(resource(MANAGEMENT_EXACTLY).route(post().to(manage::receive)))
        .service(resource(apple::CHECK_IN).route(put().to(apple::check_in)))
        .service(resource(apple::COMMANDS).route(put().to(apple::connect)))
        .configure(apple::assets)
        .service(resource(DISCOVERY).route(read().to(enroll::probe)).route(post().to(enroll::discover)))
        .service(resource(ENROLLMENT).route(post().to(enroll::request_token)))
        .service(resource(MANAGEMENT).route(post().to(manage::receive)))
        .service(resource(POLICY).route(post().to(enroll::get_policies)))
        .service(resource("/healthz").route(read().to(health::show_alive)));
}

/// The plain HTTP face of the CA.
pub fn pki(table: &mut ServiceConfig) {
    table
        .service(resource("/aia/{name}.cer").route(read().to(pki::show_certificate)))
        .service(resource("/aia/{name}.pem").route(read().to(pki::show_chain)))
        .service(resource("/crl/{name}.crl").route(read().to(pki::show_crl)))
        .service(resource("/ocsp/{name}").route(post().to(pki::answer_posted)))
        .service(resource("/ocsp/{name}/{request:.*}").route(read().to(pki::answer_got)))
        .service(resource("/healthz").route(read().to(health::show_alive)))
        .service(resource("/metrics").route(read().to(health::show_metrics)))
        .service(resource("/readyz").route(read().to(health::show_ready)))
        .configure(scep::routes);
}
