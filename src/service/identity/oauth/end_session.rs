//! Signing out at an application's wish (OpenID Connect RP-Initiated Logout).

use super::{Result, keys};
use crate::app::App;
use crate::domain::application::Application;
use crate::service::identity::session::Signed;
use crate::store::applications;
use crate::wire::form::Form;
use crate::wire::jwt::Compact;

/// A wish to sign out.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The application proved by an identity token that it is about this person: nobody has to be asked.
    pub certain: bool,
    /// Where to go then: an address that the application registered.
    pub to: Option<String>,
}

/// Reads a wish. What does not fit is as if it were not there: somebody who signs out is signed out.
///
/// # Errors
/// When the database fails.
pub async fn read(app: &App, form: &Form, signed: Option<&Signed>) -> Result<Wish> {
    let hint = match form.get("id_token_hint") {
        Some(text) => hinted(app, text).await?,
        None => None,
    };
    let client_id = hint.as_ref().map(|(client, _)| client.as_str()).or_else(|| form.get("client_id")).map(str::to_lowercase);
    // Section 2: both, when both are there, name one application.
    let agree = match (&hint, form.get("client_id")) {
        (Some((hinted, _)), Some(said)) => hinted.eq_ignore_ascii_case(said),
        _ => true,
    };
    let application = match client_id.filter(|_| agree) {
        Some(id) => app.store.look_up(move |conn| applications::find_by_client_id(conn, &id)).await?,
        None => None,
    };
    let certain = agree && hint.as_ref().zip(signed).is_some_and(|((_, person), signed)| *person == signed.user.id.as_str());
    let to = form.get("post_logout_redirect_uri").zip(application.as_ref()).and_then(|(uri, known)| target(known, uri));
    let to = to.map(|uri| match form.get("state") {
        Some(state) => with(&uri, state),
        None => uri,
    });
    Ok(Wish { certain, to })
}

/// Application and person of an identity token of ours. One that has expired still says who they were (section 2).
async fn hinted(app: &App, text: &str) -> Result<Option<(String, String)>> {
    let Ok(token) = Compact::parse(text) else { return Ok(None) };
    let (Some("RS256"), Some(kid)) = (token.head("alg"), token.head("kid")) else { return Ok(None) };
    let ours = token.text("iss") == Some(super::issuer(app).as_str());
    if !ours || !keys::is_signed(app, kid, token.input, &token.signature).await? {
        return Ok(None);
    }
    Ok(token.text("aud").zip(token.text("sub")).map(|(client, person)| (client.to_owned(), person.to_owned())))
}

/// Addresses are compared letter by letter; those of sign-in count, too, as clients of Entra ID expect.
fn target(application: &Application, uri: &str) -> Option<String> {
    let known = application.logout_redirects.iter().any(|known| known == uri) || application.redirects.iter().any(|known| known.uri == uri);
    known.then(|| uri.to_owned())
}

fn with(uri: &str, state: &str) -> String {
    let state = percent_encoding::utf8_percent_encode(state, percent_encoding::NON_ALPHANUMERIC);
    format!("{uri}{}state={state}", if uri.contains('?') { '&' } else { '?' })
}
