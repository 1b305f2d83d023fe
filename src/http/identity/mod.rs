//! The faces of the identity service: discovery, keys, tokens. Clients write these paths in any case and with doubled slashes.

pub mod discovery;
pub mod error;
pub mod token;

use actix_web::web::{ServiceConfig, post, resource};

use super::routes::read;

/// The paths, below the organisation's id, a domain of it, `common` or `organizations`.
pub fn routes(table: &mut ServiceConfig) {
    let path = |pattern: &str| resource(format!("/{{tenant:[^/]+}}/{{path:/*(?i:{pattern})/?}}"));
    table
        .service(path(r"(v2\.0/)?\.well-known/openid-configuration").route(read().to(discovery::show_configuration)))
        .service(path(r"discovery/(v2\.0/)?keys").route(read().to(discovery::show_keys)))
        .service(path(r"discovery/instance").route(read().to(discovery::show_instance)))
        .service(path(r"oauth2/v2\.0/token").route(post().to(token::issue)));
}
