//! What a request asks for, and whether an administrator has consented to it.

use std::collections::BTreeSet;

use super::{Error, Result, resource};
use crate::app::App;
use crate::domain::access::{Action, Reach, Scope};
use crate::domain::application::Application;
use crate::domain::grant::Asked;
use crate::domain::oauth::Failure;
use crate::ids::{ApplicationId, UserId};
use crate::service::application;
use crate::service::directory::By;
use crate::store::{self, Conn, applications, roles};

/// Reads the scope of a request. Permissions are named alone or behind our API's name, which is there once or not at all. The older form of
/// the protocol names the resource alone, and asks for all.
///
/// # Errors
/// [`Failure::ParameterMissing`], [`Failure::ScopeInvalid`], [`Failure::ResourceUnknown`].
pub fn read(app: &App, scope: Option<&str>, resource: Option<&str>) -> Result<Asked> {
    if let Some(resource) = resource {
        check_resource(app, resource)?;
    }
    let mut words = Vec::new();
    for word in scope.unwrap_or_default().split(' ').filter(|word| !word.is_empty()) {
        match word.rsplit_once('/') {
            Some((resource, word)) => {
                check_resource(app, resource)?;
                words.push(word);
            }
            None => words.push(word),
        }
    }
    if resource.is_some() {
        words.extend([".default", "openid", "profile", "offline_access"]);
    }
    if words.is_empty() {
        return Err(Error::of(Failure::ParameterMissing, "scope"));
    }
    Asked::read(words.into_iter()).map_err(|word| {
        let shown: String = word.chars().filter(char::is_ascii_graphic).take(80).collect();
        Error::of(Failure::ScopeInvalid, format!("{shown} is no permission of this API"))
    })
}

fn check_resource(app: &App, name: &str) -> Result<()> {
    if resource::is_api(&app.config, app.tenant.as_str(), name) { Ok(()) } else { Err(Failure::ResourceUnknown.into()) }
}

/// What an administrator consented to for everybody.
pub(super) async fn consented(app: &App, application: &ApplicationId) -> Result<BTreeSet<Scope>> {
    let id = application.clone();
    Ok(app.store.look_up(move |conn| applications::load_grants(conn, &id)).await?.delegated)
}

/// Whether the person may consent for everybody: who may change applications everywhere.
pub(super) fn may_consent(conn: &mut Conn, user: &UserId) -> store::Result<bool> {
    let held = roles::list_roles_of_user(conn, user)?;
    Ok(held.iter().any(|(role, reach)| role.allows(Action::ApplicationsUpdate) && *reach == Reach::All))
}

/// Consents for everybody to what was asked for and is missing, in the name of a person who may; false when more is missing than the person
/// was `shown`.
///
/// # Errors
/// [`Failure::ConsentMissing`] when the person may not.
pub async fn consent(
    app: &App,
    application: &Application,
    asked: &Asked,
    shown: &BTreeSet<Scope>,
    person: (&UserId, &str),
) -> Result<bool> {
    let (user, origin) = person;
    let by = By { actor: format!("user:{user}"), origin: origin.to_owned() };
    let (id, asked, shown, user, now) = (application.id.clone(), asked.clone(), shown.clone(), user.clone(), app.now());
    // One transaction: what somebody else takes away meanwhile does not come back, and who may no longer consent does not.
    let done = app.store.write(move |tx| {
        if !may_consent(tx.conn(), &user)? {
            return Ok(None);
        }
        application::add_consent(tx, &id, |delegated| Some(asked.missing(delegated)).filter(|missing| missing.is_subset(&shown)), &by, now)
            .map(Some)
    });
    Ok(done.await?.ok_or(Failure::ConsentMissing)?)
}
