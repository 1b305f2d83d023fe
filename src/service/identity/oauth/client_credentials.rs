//! Tokens for applications in their own name (RFC 6749, section 4.4).

use super::access_token::{self, Issued, Order, Proved};
use super::{Error, Result, resource};
use crate::app::App;
use crate::domain::application::Application;
use crate::domain::oauth::Failure;
use crate::store::applications;

/// Makes a token for an application that has proved itself. It holds all that the application was granted: single permissions cannot be
/// asked for, as Entra ID has it.
///
/// # Errors
/// [`Failure::ScopeInvalid`] for another scope than `RESOURCE/.default`; [`Failure::ResourceUnknown`]; [`Failure::SecretMissing`] when the
/// application is public.
pub async fn grant(app: &App, (application, proved): (&Application, Proved), scope: Option<&str>, claims: Option<&str>) -> Result<Issued> {
    if proved == Proved::Not {
        return Err(Failure::SecretMissing.into());
    }
    let scope = scope.ok_or_else(|| Error::of(Failure::ParameterMissing, "scope"))?;
    let wanted = resource::default_of(scope.trim()).ok_or(Failure::ScopeInvalid)?;
    if !resource::is_api(&app.config, app.tenant.as_str(), wanted) {
        return Err(Failure::ResourceUnknown.into());
    }
    let id = application.id.clone();
    let granted = app.store.look_up(move |conn| applications::load_grants(conn, &id)).await?.own;
    let granted: Vec<&str> = granted.iter().map(|scope| scope.as_str()).collect();
    let capabilities = access_token::capabilities(claims)?;
    let order = Order { application, proved, person: None, scopes: &granted, capabilities: &capabilities };
    Ok(access_token::issue(app, &order).await?)
}
