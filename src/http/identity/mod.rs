//! The faces of the identity service: sign-in and account pages, discovery, keys, codes, tokens. Clients write these paths in any case and
//! with doubled slashes.

pub mod account;
pub mod authorize;
pub mod device_code;
pub mod discovery;
pub mod end_session;
pub mod error;
mod session;
pub mod sign_in;
pub mod token;

use actix_web::http::Method;
use actix_web::web::{ServiceConfig, method, post, resource};

use super::routes::read;
use crate::service::identity::oauth::device_code::PAGE;

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
        .service(resource("/account/security/programs/{id}/end").route(post().to(account::end_program)))
        .service(resource("/account/security/sign-out").route(post().to(account::sign_out_everywhere)))
        .service(resource(account::DEVICES).route(read().to(account::show_devices)))
        .service(path(r"(v2\.0/)?\.well-known/openid-configuration").route(read().to(discovery::show_configuration)))
        .service(path(r"discovery/(v2\.0/)?keys").route(read().to(discovery::show_keys)))
        .service(path(r"discovery/instance").route(read().to(discovery::show_instance)))
        .service(path(r"oauth2/(v2\.0/)?authorize").route(read().to(authorize::show)).route(post().to(authorize::submit)))
        .service(resource(authorize::CONSENT).route(post().to(authorize::consent)))
        .service(path(r"oauth2/(v2\.0/)?token").route(post().to(token::issue)).route(method(Method::OPTIONS).to(token::allow)))
        .service(path(r"oauth2/(v2\.0/)?revoke").route(post().to(token::revoke)))
        .service(path(r"oauth2/(v2\.0/)?devicecode").route(post().to(token::begin_device)))
        .service(resource(PAGE).route(read().to(device_code::show)).route(post().to(device_code::submit)))
        .service(path(r"oauth2/(v2\.0/)?logout").route(read().to(end_session::show)).route(post().to(end_session::submit)))
        .service(
            resource("/oidc/userinfo")
                .route(method(Method::OPTIONS).to(token::allow))
                .route(read().to(end_session::show_userinfo))
                .route(post().to(end_session::show_userinfo)),
        );
}
