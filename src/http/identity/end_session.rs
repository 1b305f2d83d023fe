//! Signing out at an application's wish, and what is said of the person who signed in.

use actix_web::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde_json::json;

use super::authorize::{origin, told};
use super::discovery::check_tenant;
use super::session::{go_out, mark, signed};
use super::sign_in::LARGEST_FORM;
use crate::app::App;
use crate::http::error::Problem;
use crate::http::limits::{Anonymous, Body};
use crate::http::page::Page;
use crate::http::peer::Peer;
use crate::service::identity::oauth::end_session;
use crate::service::identity::oauth::userinfo;
use crate::service::identity::{session, sign_in};
use crate::wire::form::Form;

#[derive(Template)]
#[template(path = "signout.html")]
struct SignOutPage<'a> {
    nonce: &'a str,
    organisation: &'a str,
    mark: &'a str,
    name: &'a str,
    /// What was asked, for the way back.
    request: &'a str,
}

/// `GET …/logout`: at once when the application proves who is meant, else the person is asked.
///
/// # Errors
/// 400 for another organisation.
pub async fn show(
    app: Data<App>,
    path: Path<(String, String)>,
    request: HttpRequest,
    peer: Peer,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    check_tenant(&app, &path.0)?;
    end(&app, &request, &peer, request.query_string().as_bytes()).await
}

/// `POST …/logout`: the same by a form.
///
/// # Errors
/// As [`show`].
pub async fn submit(
    app: Data<App>,
    path: Path<(String, String)>,
    request: HttpRequest,
    peer: Peer,
    body: Body<LARGEST_FORM>,
    _: Anonymous,
) -> Result<HttpResponse, Problem> {
    check_tenant(&app, &path.0)?;
    end(&app, &request, &peer, &body).await
}

async fn end(app: &App, request: &HttpRequest, peer: &Peer, query: &[u8]) -> Result<HttpResponse, Problem> {
    let form = Form::parse(query).unwrap_or_default();
    let signed = signed(app, request).await?;
    let wish = end_session::read(app, &form, signed.as_ref()).await.map_err(|error| told(&error))?;
    match signed {
        None => Ok(go_out(wish.to.as_deref().unwrap_or(sign_in::PATH))),
        Some(signed) if wish.certain => {
            session::end(app, &signed, &peer.address.to_string()).await?;
            Ok(go_out(wish.to.as_deref().unwrap_or(sign_in::PATH)))
        }
        Some(signed) => {
            let mark = mark(request);
            let (organisation, name) = (app.config.organisation.as_str(), signed.user.display_name.as_str());
            let page = match &wish.to {
                Some(uri) => Page::new()?.forms_to(&origin(uri)),
                None => Page::new()?,
            };
            let request = form.query(&[], &[]);
            page.show(|nonce| SignOutPage { nonce, organisation, mark: &mark, name, request: &request })
        }
    }
}

/// `/oidc/userinfo` (OpenID Connect Core, section 5.3).
///
/// # Errors
/// When the database does not answer.
pub async fn show_userinfo(app: Data<App>, request: HttpRequest, _: Anonymous) -> Result<HttpResponse, Problem> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, token)| token.trim());
    let answer = match userinfo::show(&app, token).await? {
        Ok(claims) => {
            HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*")).json(claims)
        }
        Err(_) => HttpResponse::Unauthorized()
            .insert_header((WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""))
            .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
            .json(
                json!({ "error": "invalid_token", "error_description": "The access token is none of a person who signed in with openid." }),
            ),
    };
    Ok(answer)
}
