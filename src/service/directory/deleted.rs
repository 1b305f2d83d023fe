//! Users and groups that are deleted: they can be restored for a while, and are gone for good after that.

use serde_json::json;

use super::{By, judge, shown};
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::access::Reach;
use crate::domain::group::rule::Subject;
use crate::domain::group::{Group, Member};
use crate::domain::user::User;
use crate::ids::{GroupId, UserId};
use crate::service::desired::{Changed, recompute_in};
use crate::service::page::{self, Found, find};
use crate::service::{Error, Result, push};
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, audit, compliance, deleted_members, group_rules, groups, users};
use crate::wire::odata::query::Query;

/// How long what is deleted can be restored.
pub const KEPT: i64 = 30 * DAY;
/// How many are looked at at once.
const BATCH: i64 = 200;

/// Somebody or something that is deleted.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// A person; when they came, and when they were deleted.
    User(Box<User>, Time, Time),
    /// A group; when it was made, and when it was deleted.
    Group(Box<Group>, Time, Time),
}

/// A page of the users who are deleted.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what they have not.
pub async fn page_users(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<Deleted>, page::Error> {
    find(app, &users::DELETED, query, page::within(reach), limit, |conn: &mut store::Conn, ids: &[String]| {
        let found = users::list_deleted_by_ids(conn, ids)?.into_iter();
        Ok(found.map(|(user, made, gone)| (user.id.to_string(), Deleted::User(Box::new(user), made, gone))).collect())
    })
    .await
}

/// A page of the groups that are deleted.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what they have not.
pub async fn page_groups(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<Deleted>, page::Error> {
    find(app, &groups::DELETED, query, page::within(reach), limit, |conn: &mut store::Conn, ids: &[String]| {
        let found = groups::list_deleted_by_ids(conn, ids)?.into_iter();
        Ok(found.map(|(group, made, gone)| (group.id.to_string(), Deleted::Group(Box::new(group), made, gone))).collect())
    })
    .await
}

/// What is deleted and has that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find_deleted(app: &App, id: &str) -> Result<Deleted> {
    let id = id.to_owned();
    let found = app.store.look_up(move |conn| {
        if let Some(user) = UserId::parse(&id)
            && let Some((user, made, gone)) = users::list_deleted_by_ids(conn, &[user.to_string()])?.pop()
        {
            return Ok(Some(Deleted::User(Box::new(user), made, gone)));
        }
        let Some(group) = GroupId::parse(&id) else { return Ok(None) };
        let found = groups::list_deleted_by_ids(conn, &[group.to_string()])?.pop();
        Ok(found.map(|(group, made, gone)| Deleted::Group(Box::new(group), made, gone)))
    });
    found.await?.ok_or(Error::NotFound("deleted user or group"))
}

/// The name is somebody else's by now.
fn taken(error: store::Error) -> store::Error {
    match error {
        store::Error::Refused(Refusal::UserNameTaken | Refusal::GroupNameTaken) => Refusal::RestoreNameTaken.into(),
        other => other,
    }
}

/// Restores a user with the groups of before, but for those that give a role.
///
/// # Errors
/// `DIR0004` when the user principal name is taken; [`Error::NotFound`] when no such user is deleted.
pub async fn restore_user(app: &App, id: &UserId, by: &By) -> Result<()> {
    let (user, by, now, push) = (id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    app.store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            users::restore_user(tx, &user, now).map_err(taken)?;
            deleted_members::give_back_of_user(tx, &user)?;
            group_rules::follow(tx, Subject::User, user.as_str(), now)?;
            recompute_in(tx, Changed::User(&user), push, now)?;
            compliance::update_due_of_user(tx, &user, now)?;
            let after = users::load_present_user(tx.conn(), &user)?;
            audit::append(tx, &by.entry("user.restore", format!("user:{user}")).after(&shown(&after)), now)
        })
        .await?;
    app.outbox.notify_waiters();
    judge(app, id).await;
    Ok(())
}

/// Restores a group with its members and the assignments to it.
///
/// # Errors
/// `DIR0004` when the name is taken; [`Error::NotFound`] when no such group is deleted.
pub async fn restore_group(app: &App, id: &GroupId, by: &By) -> Result<()> {
    let (id, by, now, push) = (id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    app.store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            groups::restore_group(tx, &id).map_err(taken)?;
            let group = groups::load_group(tx.conn(), &id)?;
            deleted_members::give_back_of_group(tx, &group)?;
            group_rules::follow_all(tx, &group, now)?;
            recompute_in(tx, Changed::Group(&id), push, now)?;
            audit::append(tx, &by.entry("group.restore", format!("group:{id}")).after(&json!(group)), now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// Deletes a user for good, who is deleted already.
///
/// # Errors
/// `USR0010` when devices, enrolments or certificates name the user; [`Error::NotFound`] when no such user is deleted.
pub async fn purge_user(app: &App, id: &UserId, by: &By) -> Result<()> {
    let (id, by, now) = (id.clone(), by.clone(), app.now());
    let done = app
        .store
        .write(move |tx| {
            groups::delete_memberships(tx, &Member::User(id.clone()))?;
            let before = users::load_user(tx.conn(), &id)?;
            users::purge_user(tx, &id)?;
            audit::append(tx, &by.entry("user.purge", format!("user:{id}")).before(&shown(&before)), now)
        })
        .await;
    match done {
        Err(store::Error::Conflict(_)) => Err(Error::Refused(Refusal::UserInUse)),
        other => Ok(other?),
    }
}

/// Deletes a group for good, and the assignments to it, which is deleted already.
///
/// # Errors
/// [`Error::NotFound`] when no such group is deleted.
pub async fn purge_group(app: &App, id: &GroupId, by: &By) -> Result<()> {
    let (id, by, now) = (id.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = groups::load_group_or_deleted(tx.conn(), &id)?;
            groups::purge_group(tx, &id)?;
            audit::append(tx, &by.entry("group.purge", format!("group:{id}")).before(&json!(before)), now)
        })
        .await?;
    Ok(())
}

/// Deletes for good what has been deleted for long enough, each in a transaction of its own. Users whom devices or certificates name stay
/// until these are gone.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn purge_old(app: &App) -> Result<()> {
    let (by, before) = (By::local("job:purge"), app.now().plus(-KEPT));
    let mut after = String::new();
    loop {
        let from = std::mem::take(&mut after);
        let found = app.store.read(move |conn| users::list_deleted_before(conn, before, &from, BATCH)).await?;
        let Some(last) = found.last() else { break };
        after = last.to_string();
        for id in &found {
            match purge_user(app, id, &by).await {
                // Restored or deleted by somebody else meanwhile.
                Ok(()) | Err(Error::Refused(Refusal::UserInUse) | Error::NotFound(_)) => {}
                Err(other) => return Err(other),
            }
        }
    }
    loop {
        let from = std::mem::take(&mut after);
        let found = app.store.read(move |conn| groups::list_deleted_before(conn, before, &from, BATCH)).await?;
        let Some(last) = found.last() else { return Ok(()) };
        after = last.to_string();
        for id in &found {
            match purge_group(app, id, &by).await {
                Ok(()) | Err(Error::NotFound(_)) => {}
                Err(other) => return Err(other),
            }
        }
    }
}
