//! Who belongs to a group: changes of any size, in few statements.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::json;

use super::{Belonging, By, Listed};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::access::Reach;
use crate::domain::group::{Group, Member};
use crate::domain::user::User;
use crate::ids::{GroupId, UserId};
use crate::service::desired::{Changed, recompute_in};
use crate::service::page::{self, Found};
use crate::service::role::rising::{Ended, Rising};
use crate::service::{Result, role};
use crate::store::odata::Within;
use crate::store::{self, Tx, audit, provision, roles, users};
use crate::wire::odata::query::Query;

/// The first members of each of some groups, at most `limit`.
///
/// # Errors
/// When the database fails.
pub async fn list_first(app: &App, groups: Vec<GroupId>, limit: i64) -> Result<HashMap<GroupId, Vec<Belonging>>> {
    let found = app.store.read(move |conn| {
        let members = store::groups::list_first_members(conn, &groups, limit)?;
        let (mut people, mut things) = (BTreeSet::new(), BTreeSet::new());
        for (_, member) in &members {
            match member {
                Member::User(id) => people.insert(id.to_string()),
                Member::Device(id) => things.insert(id.to_string()),
            };
        }
        let people: Vec<String> = people.into_iter().collect();
        let things: Vec<String> = things.into_iter().collect();
        let people = users::list_by_ids(conn, &people)?.into_iter();
        let known = people.map(|(user, at)| (Member::User(user.id.clone()), Belonging::User(Box::new(user), at)));
        let things = super::listed(conn, &things)?.into_iter();
        let things = things.map(|found| (Member::Device(found.device.id.clone()), Belonging::Device(Box::new(found))));
        let known: BTreeMap<Member, Belonging> = known.chain(things).collect();
        let mut of: HashMap<GroupId, Vec<Belonging>> = HashMap::new();
        for (group, member) in members {
            of.entry(group).or_default().extend(known.get(&member).cloned());
        }
        Ok(of)
    });
    Ok(found.await?)
}

/// The people with these ids, those that there are, each with when they were made.
///
/// # Errors
/// When the database fails.
pub async fn list_owners(app: &App, ids: BTreeSet<UserId>) -> Result<HashMap<UserId, (User, Time)>> {
    let ids: Vec<String> = ids.iter().map(UserId::to_string).collect();
    let found = app.store.read(move |conn| users::list_by_ids(conn, &ids)).await?;
    Ok(found.into_iter().map(|(user, created)| (user.id.clone(), (user, created))).collect())
}

/// A page of the devices of a person.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what devices have not.
pub async fn page_devices_of(
    app: &App,
    user: &UserId,
    query: &Query,
    reach: &Reach,
    limit: u32,
) -> std::result::Result<Found<Listed>, page::Error> {
    let mut within = page::within(reach);
    within.push(Within::Equal("d.user_id", user.to_string()));
    page::find(app, &store::devices::SET, query, within, limit, |conn: &mut store::Conn, ids: &[String]| {
        Ok(super::listed(conn, ids)?.into_iter().map(|found| (found.device.id.to_string(), found)).collect())
    })
    .await
}

/// From how many members on the group's profiles are recomputed for all devices at once instead of device by device.
const MANY: usize = 20;

/// A change of who belongs to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These as well.
    Add(Vec<Member>),
    /// Without these.
    Remove(Vec<Member>),
    /// Of all people these; devices stay.
    SetPeople(Vec<UserId>),
}

/// Who came and who left.
#[derive(Debug, Default)]
pub(super) struct Moved {
    came: BTreeSet<Member>,
    left: BTreeSet<Member>,
    ended: Vec<Ended>,
}

impl Moved {
    /// How many.
    pub(super) fn count(&self) -> usize {
        self.came.len() + self.left.len()
    }

    /// Who came.
    pub(super) fn came(&self) -> usize {
        self.came.len()
    }

    /// Notes it in the audit log, whose head is held from then on: what else the transaction does comes before.
    pub(super) fn note(&self, tx: &mut Tx<'_>, group: &GroupId, by: &By, now: Time) -> store::Result<()> {
        for (action, moved) in [("group.add-members", &self.came), ("group.remove-members", &self.left)] {
            if !moved.is_empty() {
                audit::append(tx, &by.entry(action, format!("group:{group}")).after(&json!(moved)), now)?;
            }
        }
        role::rising::note(tx, &self.ended, by, now)
    }
}

/// The people who may come by changes.
fn named(changes: &[Change]) -> BTreeSet<UserId> {
    let person = |member: &Member| match member {
        Member::User(id) => Some(id.clone()),
        Member::Device(_) => None,
    };
    let people = |change: &Change| match change {
        Change::Add(members) => members.iter().filter_map(person).collect(),
        Change::Remove(_) => Vec::new(),
        Change::SetPeople(people) => people.clone(),
    };
    changes.iter().flat_map(people).collect()
}

/// Makes changes one after the other, in the caller's transaction; [`Moved::note`] is left to do.
///
/// # Errors
/// `USR0011` when a member does not exist; `ACC0009` when nobody would be left who may do everything; `DIR0001` when the group goes by a
/// rule.
pub(super) fn change_in(tx: &mut Tx<'_>, group: &Group, changes: &[Change], push: bool, now: Time) -> store::Result<Moved> {
    if group.rule.is_some() {
        return Err(Refusal::GroupDynamic.into());
    }
    let rising = match roles::list_roles_of_group(tx.conn(), &group.id)?.is_empty() {
        true => Rising::default(),
        false => Rising::of(tx, &named(changes), now)?,
    };
    let (mut came, mut left) = (BTreeSet::new(), BTreeSet::new());
    for change in changes {
        let (mut add, mut remove) = (BTreeSet::new(), BTreeSet::new());
        match change {
            Change::Add(members) => add.extend(members.iter().cloned()),
            Change::Remove(members) => remove.extend(members.iter().cloned()),
            Change::SetPeople(people) => {
                let wanted: BTreeSet<UserId> = people.iter().cloned().collect();
                remove.extend(provision::list_people(tx, &group.id)?.difference(&wanted).cloned().map(Member::User));
                add.extend(wanted.into_iter().map(Member::User));
            }
        }
        if provision::list_existing(tx.conn(), &add)?.len() < add.len() {
            return Err(Refusal::GroupMemberUnknown.into());
        }
        let already = provision::list_belonging(tx.conn(), &group.id, &add)?;
        let add: BTreeSet<Member> = add.difference(&already).cloned().collect();
        let remove = provision::list_belonging(tx.conn(), &group.id, &remove)?;
        provision::insert_members(tx, &group.id, &add, now)?;
        provision::delete_members(tx, &group.id, &remove)?;
        // Who came and left again has not moved.
        came.extend(add.iter().filter(|member| !left.remove(*member)).cloned());
        left.extend(remove.iter().filter(|member| !came.remove(*member)).cloned());
    }
    if !left.is_empty() && role::is_of_administrators(tx, &group.id)? {
        role::check_administrators(tx)?;
    }
    let moved = Moved { came, left, ended: rising.end(tx, now)? };
    if moved.count() > MANY {
        recompute_in(tx, Changed::Group(&group.id), push, now)?;
    } else {
        for member in moved.came.iter().chain(&moved.left) {
            let member = match member {
                Member::User(id) => Changed::User(id),
                Member::Device(id) => Changed::Device(id),
            };
            recompute_in(tx, member, push, now)?;
        }
    }
    Ok(moved)
}
