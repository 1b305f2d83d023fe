//! The faces of the identity service: sign-in and account pages, discovery, keys, tokens. Clients write these paths in any case and with doubled slashes.

pub mod account;
pub mod discovery;
pub mod error;
mod session;
pub mod sign_in;
pub mod token;

use actix_web::web::{ServiceConfig, post, resource};

use super::routes::read;

/// The paths, below the organisation's id, a domain of it, `common` or `organizations`.
pub fn routes(table: &mut ServiceConfig) {
    let path = |pattern: &str| resource(format!("/{{tenant:[^/]+}}/{{path:/*(?i:{pattern})/?}}"));
    table
        .service(resource(crate::service::identity::sign_in::PATH).route(read().to(sign_in::show)).route(post().to(sign_in::with_pass)))
        .service(resource(sign_in::PASSKEY).route(post().to(sign_in::with_passkey)))
        .service(resource("/signin/welcome").route(read().to(sign_in::welcome)))
        .service(resource("/signout").route(post().to(sign_in::sign_out)))
        .service(resource(account::SECURITY).route(read().to(account::show_security)))
        .service(resource(account::PASSKEYS).route(post().to(account::register)))
        .service(resource("/account/security/passkeys/{id}/name").route(post().to(account::rename)))
        .service(resource("/account/security/passkeys/{id}/remove").route(post().to(account::remove)))
        .service(resource(account::DEVICES).route(read().to(account::show_devices)))
        .service(path(r"(v2\.0/)?\.well-known/openid-configuration").route(read().to(discovery::show_configuration)))
        .service(path(r"discovery/(v2\.0/)?keys").route(read().to(discovery::show_keys)))
        .service(path(r"discovery/instance").route(read().to(discovery::show_instance)))
        .service(path(r"oauth2/v2\.0/token").route(post().to(token::issue)));
}
