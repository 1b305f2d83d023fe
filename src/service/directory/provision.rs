//! Users and groups as identity providers keep them (SCIM): read, changed and written in one transaction.

use std::collections::HashMap;

use serde_json::json;

use super::members::{self, Change};
use super::{By, Stop, change_user, check_name, delete_group_in};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::access::{Caller, may_give};
use crate::domain::group::{Group, Member};
use crate::domain::user::User;
use crate::ids::{GroupId, UserId};
use crate::service::page::{self, Found, find};
use crate::service::{Error, Result, push, role};
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, Conn, audit, groups, provision, roles, users};
use crate::wire::odata::filter::Expr;
use crate::wire::odata::query::Query;

/// How many members, or memberships, an answer shows at most.
pub const MOST_MEMBERS: usize = 25_000;

/// A person.
#[derive(Clone, Debug)]
pub struct Person {
    /// Who.
    pub user: User,
    /// When they came.
    pub created: Time,
    /// When they were changed last.
    pub changed: Time,
    /// The groups that they belong to, with their names, when that was asked for.
    pub groups: Option<Vec<(GroupId, String)>>,
}

/// A group.
#[derive(Clone, Debug)]
pub struct Team {
    /// The group itself.
    pub group: Group,
    /// When it was made.
    pub created: Time,
    /// How many people belong to it and when the last one came, of a group that was asked for by itself.
    pub state: Option<(i64, Option<Time>)>,
    /// Who belongs to it, when that was asked for; `None` also when these are more than are shown.
    pub members: Option<Vec<UserId>>,
}

/// Which of a set: those that fit, from a place on.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Which fit.
    pub filter: Option<Expr>,
    /// How many of them come before.
    pub skip: u32,
    /// How many at most; 0 counts only.
    pub limit: u32,
}

impl Wanted {
    fn query(self) -> (Query, u32) {
        (Query { filter: self.filter, skip: self.skip, count: true, ..Query::default() }, self.limit)
    }
}

/// More belong to it, or to them, than are shown: what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooMany(pub String);

/// Those from the first one on that are shown together, by how many belong to each; none when those of the first alone are too many.
fn fitting<'a>(ids: &'a [String], counts: &HashMap<String, i64>) -> &'a [String] {
    let most = i64::try_from(MOST_MEMBERS).unwrap_or(i64::MAX);
    let mut sum = 0;
    let count = ids.iter().take_while(|id| {
        sum += counts.get(*id).copied().unwrap_or_default();
        sum <= most
    });
    ids.get(..count.count()).unwrap_or_default()
}

/// Those of the people, from the first one on, who are shown together.
fn load_people(conn: &mut Conn, mut ids: &[String], with_groups: bool) -> store::Result<std::result::Result<Vec<Person>, TooMany>> {
    let mut groups_of: HashMap<UserId, Vec<(GroupId, String)>> = HashMap::new();
    if let (true, Some(first)) = (with_groups, ids.first()) {
        ids = fitting(ids, &provision::count_memberships_of(conn, ids)?);
        if ids.is_empty() {
            let named = users::list_by_ids(conn, std::slice::from_ref(first))?.pop();
            return Ok(Err(TooMany(named.map(|(user, _)| user.upn).unwrap_or_default())));
        }
        let pairs = provision::list_memberships(conn, ids)?;
        let mut wanted: Vec<String> = pairs.iter().map(|(_, group)| group.to_string()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut names = HashMap::new();
        for piece in wanted.chunks(500) {
            names.extend(groups::list_by_ids(conn, piece)?.into_iter().map(|(group, _)| (group.id, group.display_name)));
        }
        for (user, group) in pairs {
            if let Some(name) = names.get(&group) {
                groups_of.entry(user).or_default().push((group, name.clone()));
            }
        }
    }
    let found = users::list_with_times(conn, ids)?.into_iter();
    let person = |(user, created, changed): (User, Time, Time)| {
        let groups = with_groups.then(|| groups_of.remove(&user.id).unwrap_or_default());
        Person { user, created, changed, groups }
    };
    Ok(Ok(found.map(person).collect()))
}

/// A page of people, with how many there are in all. It ends before those with whom it would show too much.
///
/// # Errors
/// [`page::Error::Wrong`] when the filter asks for what people have not.
pub async fn page_people(
    app: &App,
    wanted: Wanted,
    with_groups: bool,
) -> std::result::Result<std::result::Result<Found<Person>, TooMany>, page::Error> {
    let (query, limit) = wanted.query();
    if limit == 0 {
        let count = page::count(app, &provision::USERS, &query, Vec::new()).await?;
        return Ok(Ok(Found { objects: Vec::new(), next: None, count: Some(count) }));
    }
    let load = move |conn: &mut Conn, ids: &[String]| {
        Ok(match load_people(conn, ids, with_groups)? {
            Ok(found) => found.into_iter().map(|person| (person.user.id.to_string(), Ok(person))).collect(),
            Err(many) => ids.first().map(|id| (id.clone(), Err(many))).into_iter().collect(),
        })
    };
    Ok(all(find(app, &provision::USERS, &query, Vec::new(), limit, load).await?))
}

fn all<T>(found: Found<std::result::Result<T, TooMany>>) -> std::result::Result<Found<T>, TooMany> {
    let objects = found.objects.into_iter().collect::<std::result::Result<_, _>>()?;
    Ok(Found { objects, next: found.next, count: found.count })
}

/// The person of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find_person(app: &App, id: &str, with_groups: bool) -> Result<std::result::Result<Person, TooMany>> {
    let id = UserId::parse(id).ok_or(Error::NotFound("user"))?;
    let found = app.store.read(move |conn| load_people(conn, &[id.to_string()], with_groups)).await?;
    match found {
        Ok(mut found) => found.pop().map(Ok).ok_or(Error::NotFound("user")),
        Err(many) => Ok(Err(many)),
    }
}

/// Changes a person as they are: `change` says what becomes of them, or why nothing does. What stays the same writes nothing. Who has a
/// role that the caller may not give is neither called otherwise nor let in again: that would be a way to their role. Disabling is none.
///
/// # Errors
/// `USR0012`, `PRF0004`, `USR0013`, `USR0015`; `ACC0009`, `ACC0013`; [`Error::NotFound`].
pub async fn change_person<E, F>(app: &App, id: &UserId, caller: &Caller, by: &By, change: F) -> Result<std::result::Result<(), E>>
where
    E: Send + 'static,
    F: Fn(&User) -> std::result::Result<User, E> + Send + 'static,
{
    let caller = caller.clone();
    let change = move |conn: &mut Conn, before: &User| {
        let after = match change(before) {
            Ok(after) => after,
            Err(error) => return Ok(Err(error)),
        };
        let renamed = after.upn.to_lowercase() != before.upn || after.mail != before.mail;
        if renamed || (after.enabled && !before.enabled) {
            role::check_helper_in(conn, &caller, &before.id)?;
        }
        Ok(Ok(after))
    };
    change_user(app, id, by, change).await
}

/// Those of the groups, from the first one on, that are shown together.
fn load_teams(conn: &mut Conn, mut ids: &[String], with_members: bool) -> store::Result<std::result::Result<Vec<Team>, TooMany>> {
    let mut members_of: HashMap<GroupId, Vec<UserId>> = HashMap::new();
    if let (true, Some(first)) = (with_members, ids.first()) {
        ids = fitting(ids, &provision::count_members_of(conn, ids)?);
        if ids.is_empty() {
            let named = groups::list_by_ids(conn, std::slice::from_ref(first))?.pop();
            return Ok(Err(TooMany(named.map(|(group, _)| group.display_name).unwrap_or_default())));
        }
        for (group, user) in provision::list_members(conn, ids)? {
            members_of.entry(group).or_default().push(user);
        }
    }
    let found = groups::list_by_ids(conn, ids)?.into_iter();
    let team = |(group, created): (Group, Time)| {
        let members = with_members.then(|| members_of.remove(&group.id).unwrap_or_default());
        Team { group, created, state: None, members }
    };
    Ok(Ok(found.map(team).collect()))
}

/// A page of groups, with how many there are in all. It ends before the group with whose members it would show too much.
///
/// # Errors
/// [`page::Error::Wrong`] when the filter asks for what groups have not.
pub async fn page_teams(
    app: &App,
    wanted: Wanted,
    with_members: bool,
) -> std::result::Result<std::result::Result<Found<Team>, TooMany>, page::Error> {
    let (query, limit) = wanted.query();
    if limit == 0 {
        let count = page::count(app, &provision::GROUPS, &query, Vec::new()).await?;
        return Ok(Ok(Found { objects: Vec::new(), next: None, count: Some(count) }));
    }
    let load = move |conn: &mut Conn, ids: &[String]| {
        Ok(match load_teams(conn, ids, with_members)? {
            Ok(found) => found.into_iter().map(|team| (team.group.id.to_string(), Ok(team))).collect(),
            Err(many) => ids.first().map(|id| (id.clone(), Err(many))).into_iter().collect(),
        })
    };
    Ok(all(find(app, &provision::GROUPS, &query, Vec::new(), limit, load).await?))
}

/// The group of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find_team(app: &App, id: &str, with_members: bool) -> Result<std::result::Result<Team, TooMany>> {
    let id = GroupId::parse(id).ok_or(Error::NotFound("group"))?;
    let found = app.store.read(move |conn| {
        let state = provision::count_members(conn, &id)?;
        Ok(load_teams(conn, &[id.to_string()], with_members)?.map(|found| (found, state)))
    });
    match found.await? {
        Ok((mut found, state)) => {
            let team = found.pop().ok_or(Error::NotFound("group"))?;
            Ok(Ok(Team { state: Some(state), ..team }))
        }
        Err(many) => Ok(Err(many)),
    }
}

/// What becomes of a group.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The group itself.
    pub group: Group,
    /// Who belongs to it, one change after the other; of people who are named by an id that is none, none are found.
    pub members: Vec<Change>,
}

/// A change of who belongs to a group, by the ids that a client gives.
///
/// # Errors
/// `USR0011` when somebody who is to belong to it is not named by an id.
pub fn people(add: bool, ids: &[String]) -> Result<Change> {
    let known = || ids.iter().filter_map(|id| UserId::parse(id));
    if !add {
        return Ok(Change::Remove(known().map(Member::User).collect()));
    }
    let found: Vec<Member> = known().map(Member::User).collect();
    if found.len() < ids.len() { Err(Refusal::GroupMemberUnknown.into()) } else { Ok(Change::Add(found)) }
}

/// That these people belong to a group and nobody else does; devices stay.
///
/// # Errors
/// `USR0011` when somebody is not named by an id.
pub fn only(ids: &[String]) -> Result<Change> {
    let found: Vec<UserId> = ids.iter().filter_map(|id| UserId::parse(id)).collect();
    if found.len() < ids.len() { Err(Refusal::GroupMemberUnknown.into()) } else { Ok(Change::SetPeople(found)) }
}

/// Makes a group with its members.
///
/// # Errors
/// `PRF0004`, `USR0014`, `USR0011`.
pub async fn create_team(app: &App, made: Changed, by: &By) -> Result<GroupId> {
    check_team(&made.group)?;
    let (id, by, now, push) = (made.group.id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    app.store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            groups::insert_group(tx, &made.group, now)?;
            let moved = members::change_in(tx, &made.group, &made.members, push, now)?;
            audit::append(tx, &by.entry("group.create", format!("group:{}", made.group.id)).after(&json!(made.group)), now)?;
            moved.note(tx, &made.group.id, &by, now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(id)
}

/// Deletes a group, which can be restored for a while, when `check` says nothing against it as it is. A group that gives a role is deleted
/// by those only who may give the role.
///
/// # Errors
/// `ACC0008`, `ACC0009`; [`Error::NotFound`].
pub async fn delete_team<E, F>(app: &App, id: &GroupId, caller: &Caller, by: &By, check: F) -> Result<std::result::Result<(), E>>
where
    E: Send + 'static,
    F: Fn(&Group, (i64, Option<Time>)) -> std::result::Result<(), E> + Send + 'static,
{
    let (id, caller, by, now, push) = (id.clone(), caller.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    let outcome = app
        .store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            let before = groups::lock_group(tx, &id)?;
            if let Err(error) = check(&before, provision::count_members(tx.conn(), &id)?) {
                return Ok(Err(error));
            }
            if !roles::list_roles_about_group(tx.conn(), &id)?.iter().all(|role| may_give(&caller, role)) {
                return Err(Refusal::RoleBeyondGiver.into());
            }
            delete_group_in(tx, &id, &by, push, now).map(Ok)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(outcome)
}

fn check_team(group: &Group) -> Result<()> {
    check_name(&group.display_name)?;
    group.external_id.as_deref().map_or(Ok(()), check_name)
}

/// Changes a group as it is: `change` says what becomes of it, or why nothing does. What stays the same writes nothing. A group that gives
/// a role, or to which one reaches, is changed by those only who may give the role.
///
/// # Errors
/// `PRF0004`, `USR0014`, `USR0011`; `DIR0001` when the group goes by a rule; `ACC0008`, `ACC0009`; [`Error::NotFound`].
pub async fn change_team<E, F>(app: &App, id: &GroupId, caller: &Caller, by: &By, change: F) -> Result<std::result::Result<(), E>>
where
    E: Send + 'static,
    F: Fn(&Group, (i64, Option<Time>)) -> std::result::Result<Changed, E> + Send + 'static,
{
    let (id, caller, by, now, push) = (id.clone(), caller.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    let outcome = app
        .store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            let before = groups::lock_group(tx, &id)?;
            let state = provision::count_members(tx.conn(), &id)?;
            let after = match change(&before, state) {
                Ok(after) => after,
                Err(error) => return Ok(Err(Stop::Change(error))),
            };
            if let Err(error) = check_team(&after.group) {
                return Ok(Err(Stop::Refused(error)));
            }
            let held = roles::list_roles_about_group(tx.conn(), &id)?;
            let changes = after.group != before || !after.members.is_empty();
            if changes && !held.iter().all(|role| may_give(&caller, role)) {
                return Err(Refusal::RoleBeyondGiver.into());
            }
            let renamed = after.group != before;
            if renamed {
                groups::update_group(tx, &after.group)?;
            }
            let moved = match after.members.is_empty() {
                true => members::Moved::default(),
                false => members::change_in(tx, &after.group, &after.members, push, now)?,
            };
            if renamed {
                let entry = by.entry("group.update", format!("group:{id}")).before(&json!(before)).after(&json!(after.group));
                audit::append(tx, &entry, now)?;
            }
            moved.note(tx, &id, &by, now).map(Ok)
        })
        .await?;
    app.outbox.notify_waiters();
    match outcome {
        Ok(()) => Ok(Ok(())),
        Err(Stop::Change(error)) => Ok(Err(error)),
        Err(Stop::Refused(error)) => Err(error),
    }
}
