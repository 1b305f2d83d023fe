//! Identity tokens: who signed in, for the application alone (OpenID Connect Core, section 2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::access_token::LIFETIME;
use super::{issuer, keys};
use crate::app::App;
use crate::domain::application::Application;
use crate::domain::grant::Grant;
use crate::domain::user::User;
use crate::service::Result;
use crate::wire::jwt;

/// Makes an identity token for the application that the grant is for.
///
/// # Errors
/// When the database or OpenSSL fails.
pub async fn issue(app: &App, application: &Application, grant: &Grant, user: &User) -> Result<String> {
    let now = app.now();
    let key = keys::active(app).await?;
    // It says no longer than the access token who signed in.
    let end = now.plus(LIFETIME);
    let mut claims = json!({
        "aud": application.client_id,
        "iss": issuer(app),
        "iat": now.seconds(),
        "nbf": now.seconds(),
        "exp": grant.method_ends_at.map_or(end, |method| method.min(end)).seconds(),
        "amr": grant.method.amr(),
        "auth_time": grant.signed_in_at.seconds(),
        "oid": user.id,
        "sid": grant.id,
        "sub": user.id,
        "tid": app.tenant,
        "ver": "2.0",
    });
    if let Some(claims) = claims.as_object_mut() {
        // Section 3.1.3.7, 11: the application compares it with what it sent.
        if let Some(nonce) = &grant.nonce {
            claims.insert("nonce".into(), nonce.as_str().into());
        }
        claims.extend(names(user, grant.asked.profile, grant.asked.email));
    }
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": key.kid });
    let input = jwt::signing_input(&header, &claims);
    let signature = key.sign(input.clone()).await?;
    Ok(jwt::join(input, &signature))
}

/// What is said of a person by the scopes `profile` and `email` (OpenID Connect Core, section 5.4).
pub(super) fn names(user: &User, profile: bool, email: bool) -> serde_json::Map<String, Value> {
    let mut names = serde_json::Map::new();
    if profile {
        names.insert("name".into(), user.display_name.as_str().into());
        names.insert("preferred_username".into(), user.upn.as_str().into());
        for (claim, value) in [("given_name", &user.details.given_name), ("family_name", &user.details.surname)] {
            names.extend(value.as_deref().map(|value| (claim.to_owned(), value.into())));
        }
    }
    if email {
        names.extend(user.mail.as_deref().map(|mail| ("email".to_owned(), mail.into())));
    }
    names
}

/// What Microsoft's libraries name an account by (`client_info`).
pub(super) fn client_info(app: &App, user: &User) -> String {
    URL_SAFE_NO_PAD.encode(json!({ "uid": user.id, "utid": app.tenant }).to_string())
}
