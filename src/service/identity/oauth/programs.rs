//! The programs that are signed in as a person, for the person to see and end.

use std::collections::BTreeMap;

use serde_json::json;

use super::access_token;
use crate::app::App;
use crate::clock::Time;
use crate::domain::grant::Grant;
use crate::ids::{GrantId, UserId};
use crate::service::Result;
use crate::service::directory::By;
use crate::store::{self, applications, audit, grants};

/// How many are shown at most.
const MOST: i64 = 100;

/// A program that is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What the person gave it.
    pub id: GrantId,
    /// What it is called.
    pub name: String,
    /// Since when.
    pub since: Time,
    /// When it was last given a token.
    pub used: Time,
}

/// The programs that are signed in as a person, newest first.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App, user: &UserId) -> Result<Vec<Program>> {
    let (user, now) = (user.clone(), app.now());
    let found = app.store.read(move |conn| {
        let (mut names, mut found) = (BTreeMap::new(), Vec::new());
        for grant in grants::list_of_user(conn, &user, now, MOST)?.into_iter().filter(|grant| is_in_use(grant, now)) {
            if !names.contains_key(&grant.application) {
                let application = applications::load_application(conn, &grant.application)?;
                names.insert(grant.application.clone(), application.display_name);
            }
            let name = names.get(&grant.application).cloned().unwrap_or_default();
            found.push(Program { id: grant.id, name, since: grant.created_at, used: grant.rotated_at });
        }
        Ok(found)
    });
    Ok(found.await?)
}

/// Whether there may be a token that is good, or a way to get one.
fn is_in_use(grant: &Grant, now: Time) -> bool {
    grant.asked.offline || now.since(grant.rotated_at) < access_token::LIFETIME
}

/// Ends a program that is signed in as that person: its tokens open nothing from now on.
///
/// # Errors
/// [`Error::NotFound`](crate::service::Error::NotFound) for one of somebody else.
pub async fn end(app: &App, user: &UserId, id: &GrantId, origin: &str) -> Result<()> {
    let (user, id, now) = (user.clone(), id.clone(), app.now());
    let by = By { actor: format!("user:{user}"), origin: origin.to_owned() };
    app.store
        .write(move |tx| {
            let grant = grants::find_grant(tx.conn(), &id)?.filter(|grant| grant.user == user).ok_or(store::Error::NotFound)?;
            grants::delete_grant(tx, &id)?;
            let state = json!({ "grant": id, "application": grant.application });
            audit::append(tx, &by.entry("grant.revoke", format!("user:{user}")).before(&state), now)
        })
        .await?;
    Ok(())
}
