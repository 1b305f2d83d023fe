//! What clients read first: where everything is, and which keys sign (OpenID Connect Discovery 1.0, RFC 8414).

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use actix_web::web::{Data, Path};
use serde_json::{Value, json};

use crate::app::App;
use crate::http::error::Problem;
use crate::service::identity::oauth::{self, device_code, is_tenant};
use crate::service::signing_keys;

/// Says no to another organisation's name.
pub(super) fn check_tenant(app: &App, name: &str) -> Result<(), Problem> {
    let unknown = || Problem::new(StatusCode::BAD_REQUEST, "invalid_tenant", "AADSTS90002: no such organisation is here");
    if is_tenant(app, name) { Ok(()) } else { Err(unknown()) }
}

fn cached(value: &Value) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "max-age=3600")).insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*")).json(value)
}

/// The provider's metadata. The issuer is the organisation's, whatever name the client used.
///
/// # Errors
/// 400 for another organisation.
pub async fn show_configuration(app: Data<App>, path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    check_tenant(&app, &path.0)?;
    let base = format!("{}/{}", app.config.web_url(), app.tenant);
    Ok(cached(&json!({
        "issuer": oauth::issuer(&app),
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "authorization_response_iss_parameter_supported": true,
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
        "revocation_endpoint": format!("{base}/oauth2/v2.0/revoke"),
        "userinfo_endpoint": format!("{}/oidc/userinfo", app.config.web_url()),
        "end_session_endpoint": format!("{base}/oauth2/v2.0/logout"),
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token", device_code::GRANT_TYPE],
        "prompt_values_supported": ["none", "login", "select_account", "consent"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "private_key_jwt", "none"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "PS256", "ES256"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "name", "preferred_username", "email", "given_name", "family_name", "oid", "tid", "sid", "ver", "amr"],
        "request_uri_parameter_supported": false,
        "claims_parameter_supported": true,
        "tenant_region_scope": null,
        "cloud_instance_name": app.config.web_host(),
        "msgraph_host": app.config.web_host(),
    })))
}

/// The keys that sign tokens, as a JWK set.
///
/// # Errors
/// 400 for another organisation; 503 when the database does not answer.
pub async fn show_keys(app: Data<App>, path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    check_tenant(&app, &path.0)?;
    Ok(cached(&signing_keys::jwks(&app).await?))
}

/// Whether this server is one whose word on organisations can be taken, as clients ask before they trust an address (`discovery/instance`).
///
/// # Errors
/// 400 for another organisation.
pub async fn show_instance(app: Data<App>, path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    check_tenant(&app, &path.0)?;
    let host = app.config.web_host();
    let authority = app.config.web_url();
    let name = authority.strip_prefix("https://").unwrap_or(&authority);
    let mut aliases = vec![name.to_owned()];
    if host != name {
        aliases.push(host);
    }
    Ok(cached(&json!({
        "tenant_discovery_endpoint": format!("{authority}/{}/v2.0/.well-known/openid-configuration", app.tenant),
        "api-version": "1.1",
        "metadata": [{ "preferred_network": name, "preferred_cache": name, "aliases": aliases }],
    })))
}
