//! `/me`: the person who signed in.

use super::users;
use crate::domain::access::{Need, Reach, Scope};
use crate::http::graph::answer::Answer;
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::service::directory;
use crate::service::identity::session;

pub(super) const OWN: Need =
    Need { scopes: &[Scope::UserRead, Scope::UserReadWrite, Scope::UserReadAll, Scope::UserReadWriteAll], action: None };

/// Ending what they are signed in to is everybody's own right.
const REVOKE: Need = Need {
    scopes: &[Scope::UserRevokeSessionsAll, Scope::UserReadWrite, Scope::UserReadWriteAll, Scope::DirectoryReadWriteAll],
    action: None,
};

routes! {
    Get "me", OWN => show;
    Post "me/revokeSignInSessions", REVOKE => revoke_sessions, urgent;
    Get "me/memberOf", OWN => member_of;
}

/// The person; an application in its own name is none.
pub(super) fn person<'a>(call: &'a Call<'_>) -> Result<&'a str> {
    let person = call.caller.person().map(crate::ids::UserId::as_str);
    person.ok_or_else(|| GraphProblem::bad("/me request is only valid with delegated authentication flow."))
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let (user, created) = directory::find_user(call.app, person(&call)?, &Reach::All).await?;
    Ok(Answer::ok(list::single(&call, &users::SHAPE, "users", users::json(&user, created))?))
}

async fn revoke_sessions(call: Call<'_>) -> Result<Answer> {
    person(&call)?;
    if let Some(person) = call.caller.person() {
        session::end_all(call.app, person, &call.by()).await?;
    }
    Ok(super::authentication::revoked(&call))
}

async fn member_of(call: Call<'_>) -> Result<Answer> {
    let (user, _) = directory::find_user(call.app, person(&call)?, &Reach::All).await?;
    let groups = directory::groups_of_user(call.app, &user.id).await?;
    list::few(&call, &super::groups::SHAPE, "directoryObjects", groups.iter().map(super::groups::typed).collect())
}
