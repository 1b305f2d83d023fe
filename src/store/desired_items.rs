//! Desired items: which device should have which profile, recomputed with a handful of statements whatever the number of devices.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::dialect::each_backend;
use super::profiles::{self as documents, Stored};
use super::schema::{desired_items, profile_versions, profiles};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::assignment::Mode;
use crate::domain::desired::{Detail, Item, Loaded, State};
use crate::domain::group::rule::Subject;
use crate::domain::profile::Kind;
use crate::ids::{DeviceId, GroupId, ProfileId, UserId};
use crate::secret::Sealer;

/// What a recomputation looks at. Everything outside keeps its rows.
#[derive(Clone, Copy)]
enum Scope {
    Profile,
    Group,
    User,
    Device,
}

impl Scope {
    /// The condition on devices `d` and profiles `p` when `parameter` is the scope's id.
    fn on_targets(self, parameter: &str) -> String {
        match self {
            Self::Profile => format!("p.id = {parameter}"),
            Self::Group => format!("p.id IN (SELECT profile_id FROM assignments WHERE group_id = {parameter})"),
            Self::User => format!("d.user_id = {parameter}"),
            Self::Device => format!("d.id = {parameter}"),
        }
    }

    /// The condition on a row of `desired_items`.
    fn on_items(self, parameter: &str) -> String {
        match self {
            Self::Profile => format!("desired_items.profile_id = {parameter}"),
            Self::Group => format!("desired_items.profile_id IN (SELECT profile_id FROM assignments WHERE group_id = {parameter})"),
            Self::User => format!("desired_items.device_id IN (SELECT id FROM devices WHERE user_id = {parameter})"),
            Self::Device => format!("desired_items.device_id = {parameter}"),
        }
    }

    /// The common table expressions that end in `wanted (device_id, profile_id, version, kind)`.
    ///
    /// Four plain joins instead of one with OR: each of them can start from an index.
    fn wanted(self, parameter: &str) -> String {
        let within = self.on_targets(parameter);
        let branch = |condition: &str, join: &str| {
            format!(
                "SELECT d.id AS device_id, p.id AS profile_id, p.version AS version, p.kind AS kind, a.mode AS mode
                 FROM assignments a JOIN profiles p ON p.id = a.profile_id {join}
                 WHERE {condition} AND d.platform = p.platform AND d.state = 'managed' AND {within}"
            )
        };
        let every = "JOIN devices d ON d.platform = p.platform";
        let by_device = "JOIN group_members m ON m.group_id = a.group_id AND m.member_kind = 'device' JOIN devices d ON d.id = m.member_id";
        let by_user =
            "JOIN group_members m ON m.group_id = a.group_id AND m.member_kind = 'user' JOIN devices d ON d.user_id = m.member_id";
        let targets = [
            branch("a.target = 'all-devices'", every),
            branch("a.target = 'all-users' AND d.user_id IS NOT NULL", every),
            branch("a.target = 'group'", by_device),
            branch("a.target = 'group'", by_user),
        ]
        .join(" UNION ALL ");
        let of_mode = |mode: &str| format!("SELECT device_id, profile_id, version, kind FROM targets WHERE mode = '{mode}'");
        format!("targets AS ({targets}), wanted AS ({} EXCEPT {})", of_mode(Mode::Include.as_str()), of_mode(Mode::Exclude.as_str()))
    }

    /// Beside [`Self::wanted`], `stale (device_id, profile_id)`: the rows that should not be there.
    ///
    /// EXCEPT and IN rather than NOT EXISTS and NOT IN: both databases do these with one pass over a hash or a sorted set.
    fn stale(self, parameter: &str) -> String {
        format!(
            "{}, stale AS (SELECT device_id, profile_id FROM desired_items WHERE {} EXCEPT SELECT device_id, profile_id FROM wanted)",
            self.wanted(parameter),
            self.on_items(parameter)
        )
    }
}

/// Recomputes which devices should have the profile: after its content or its assignments changed, or it was deleted.
///
/// # Errors
/// Only the database's own.
pub fn recompute_profile(tx: &mut Tx<'_>, id: &ProfileId, now: Time) -> Result<()> {
    mend_profile(tx, id, now).map(|_| ())
}

/// As [`recompute_profile`]; returns how many rows were not as they should be.
///
/// # Errors
/// Only the database's own.
pub fn mend_profile(tx: &mut Tx<'_>, id: &ProfileId, now: Time) -> Result<usize> {
    recompute(tx, Scope::Profile, id.as_str(), now)
}

/// The profiles that a device has or should have, those that were deleted among them, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_profiles(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<ProfileId>> {
    let mut ids: Vec<String> =
        profiles::table.filter(profiles::id.gt(after)).order(profiles::id).limit(limit).select(profiles::id).load(conn)?;
    let left: Vec<String> = desired_items::table
        .left_join(profiles::table.on(profiles::id.eq(desired_items::profile_id)))
        .filter(profiles::id.is_null())
        .filter(desired_items::profile_id.gt(after))
        .select(desired_items::profile_id)
        .distinct()
        .order(desired_items::profile_id)
        .limit(limit)
        .load(conn)?;
    ids.extend(left);
    ids.sort_unstable();
    ids.truncate(usize::try_from(limit).unwrap_or_default());
    Ok(ids.into_iter().map(ProfileId::from_store).collect())
}

/// Recomputes the profiles that are assigned to the group, for all devices: after many members changed. For one member, recompute the
/// device or the user.
///
/// # Errors
/// Only the database's own.
pub fn recompute_group(tx: &mut Tx<'_>, id: &GroupId, now: Time) -> Result<()> {
    recompute(tx, Scope::Group, id.as_str(), now).map(|_| ())
}

/// Recomputes the devices of the user: after the user joined or left a group.
///
/// # Errors
/// Only the database's own.
pub fn recompute_user(tx: &mut Tx<'_>, id: &UserId, now: Time) -> Result<()> {
    recompute(tx, Scope::User, id.as_str(), now).map(|_| ())
}

/// Recomputes the device: after it enrolled, changed its user, joined or left a group, or left management. Groups that go by a rule have it
/// or not from then on.
///
/// # Errors
/// Only the database's own.
pub fn recompute_device(tx: &mut Tx<'_>, id: &DeviceId, now: Time) -> Result<()> {
    super::group_rules::follow(tx, Subject::Device, id.as_str(), now)?;
    recompute(tx, Scope::Device, id.as_str(), now).map(|_| ())
}

/// The order in which a statement names its parameters.
#[derive(Clone, Copy)]
enum Parameters {
    Id,
    IdThenNow,
    NowThenId,
}

/// Takes the enrolments of the devices that are about to be told something else, in the order of their ids, before anything of theirs is
/// touched: a session holds its enrolment and then wants its items.
fn lock_enrollments(tx: &mut Tx<'_>, scope: Scope, id: &str) -> Result<()> {
    let Conn::Postgres(conn) = tx.conn() else { return Ok(()) };
    let query = format!(
        "WITH {} SELECT e.id FROM enrollments e WHERE e.ended_at IS NULL AND e.device_id IN (
             SELECT w.device_id FROM wanted w {NOT_YET} UNION SELECT device_id FROM stale)
         ORDER BY e.id FOR NO KEY UPDATE OF e",
        scope.stale("$1")
    );
    diesel::sql_query(query).bind::<Text, _>(id).execute(conn)?;
    Ok(())
}

/// The rows of `wanted w` that are not in `desired_items` as they should be.
const NOT_YET: &str = "LEFT JOIN desired_items i ON i.device_id = w.device_id AND i.profile_id = w.profile_id
             WHERE (i.desired_version IS NULL OR i.desired_version <> w.version)";

/// Returns how many rows were not as they should be. The transaction has taken its [turn](super::targets::take_turn) before.
fn recompute(tx: &mut Tx<'_>, scope: Scope, id: &str, now: Time) -> Result<usize> {
    lock_enrollments(tx, scope, id)?;
    let wanted = scope.wanted("$1");
    // Only what is to change: PostgreSQL locks a row that conflicts, also where there is nothing to update.
    let add = format!(
        "WITH {wanted}
         INSERT INTO desired_items
             (device_id, profile_id, kind, desired_version, applied_version, state, detail, attempts, due_at, updated_at)
         SELECT w.device_id, w.profile_id, w.kind, w.version, NULL,
             CASE w.kind WHEN 'compliance' THEN 'assigned' ELSE 'pending' END, '{{}}', 0, $2, $2
         FROM wanted w {NOT_YET}
         ON CONFLICT (device_id, profile_id) DO UPDATE SET desired_version = excluded.desired_version,
             state = excluded.state, attempts = 0, due_at = excluded.due_at, updated_at = excluded.updated_at"
    );
    let mut mended = execute(tx, &add, Parameters::IdThenNow, id, now)?;

    let stale = scope.stale("$1");
    let items = scope.on_items("$1");
    // Compliance is judged anew where a policy came (the rows just written) or goes (the rows about to be deleted).
    let judged = format!(
        "(reevaluate_at IS NULL OR reevaluate_at > $2) AND device_id IN (
             SELECT device_id FROM desired_items WHERE {items} AND kind = 'compliance' AND desired_version IS NOT NULL
                 AND (updated_at = $2 OR (device_id, profile_id) IN (SELECT device_id, profile_id FROM stale)))"
    );
    if matches!(tx.conn(), Conn::Postgres(_)) {
        // In the order in which those take verdicts who judge many devices.
        let lock = format!("WITH {stale} SELECT device_id FROM compliance_states WHERE {judged} ORDER BY device_id FOR NO KEY UPDATE");
        execute(tx, &lock, Parameters::IdThenNow, id, now)?;
    }
    let judge = format!("WITH {stale} UPDATE compliance_states SET reevaluate_at = $2, version = version + 1 WHERE {judged}");
    execute(tx, &judge, Parameters::IdThenNow, id, now)?;

    // Nothing to take away: the device was given nothing of it, or it is not managed any more.
    let delete = format!(
        "WITH {stale}
         DELETE FROM desired_items WHERE (device_id, profile_id) IN (SELECT device_id, profile_id FROM stale)
             AND (detail = '{{}}' OR EXISTS (
                 SELECT 1 FROM devices d WHERE d.id = desired_items.device_id AND d.state <> 'managed'))"
    );
    mended += execute(tx, &delete, Parameters::Id, id, now)?;

    let remove = format!(
        "WITH {stale}
         UPDATE desired_items SET desired_version = NULL, state = 'removing', attempts = 0, due_at = $2, updated_at = $2
         WHERE desired_version IS NOT NULL AND (device_id, profile_id) IN (SELECT device_id, profile_id FROM stale)"
    );
    mended += execute(tx, &remove, Parameters::IdThenNow, id, now)?;

    // Rows that are due already are written as well: a session that ends meanwhile waits for us, and a device that has put something off is
    // woken for what is new.
    let wake = format!(
        "UPDATE enrollments SET work_at = $1 WHERE state IN ('provisioned', 'active')
         AND device_id IN (SELECT device_id FROM desired_items WHERE {} AND updated_at = $1 AND due_at = $1)",
        scope.on_items("$2")
    );
    execute(tx, &wake, Parameters::NowThenId, id, now)?;
    Ok(mended)
}

fn execute(tx: &mut Tx<'_>, sql: &str, parameters: Parameters, id: &str, now: Time) -> Result<usize> {
    // SQLite numbers named parameters by their first use, PostgreSQL by their name: statements use $1 before $2.
    let rows = each_backend!(tx.conn(), c => {
        let query = diesel::sql_query(sql);
        match parameters {
            Parameters::Id => query.bind::<Text, _>(id).execute(c),
            Parameters::IdThenNow => query.bind::<Text, _>(id).bind::<BigInt, _>(now.0).execute(c),
            Parameters::NowThenId => query.bind::<BigInt, _>(now.0).bind::<Text, _>(id).execute(c),
        }
    })?;
    Ok(rows)
}

/// Has the devices looked at that should have the profile, because something that it names is another one by now: they have work, and
/// whoever is at one of them at this moment looks again.
///
/// # Errors
/// Only the database's own.
pub fn update_looked_at(tx: &mut Tx<'_>, profile: &ProfileId, now: Time) -> Result<()> {
    let devices =
        "ended_at IS NULL AND device_id IN (SELECT device_id FROM desired_items WHERE profile_id = $2 AND desired_version IS NOT NULL)";
    if let Conn::Postgres(conn) = tx.conn() {
        // In the order in which a recomputation takes them.
        let lock = format!("SELECT id FROM enrollments WHERE {} ORDER BY id FOR NO KEY UPDATE", devices.replace("$2", "$1"));
        diesel::sql_query(lock).bind::<Text, _>(profile.as_str()).execute(conn)?;
    }
    let wake = format!("UPDATE enrollments SET work_at = $1, version = version + 1 WHERE {devices}");
    execute(tx, &wake, Parameters::NowThenId, profile.as_str(), now)?;
    Ok(())
}

/// Forgets what the device was given: after a new enrolment its tree is empty or unknown. Removals are over with it.
///
/// # Errors
/// Only the database's own.
pub fn update_as_new(tx: &mut Tx<'_>, device: &DeviceId, now: Time) -> Result<()> {
    let of_device = desired_items::device_id.eq(device.as_str());
    diesel::delete(desired_items::table.filter(of_device).filter(desired_items::desired_version.is_null())).execute(tx.conn())?;
    for (kind, state) in [(Kind::Configuration, State::Pending), (Kind::Compliance, State::Assigned)] {
        diesel::update(desired_items::table.filter(of_device).filter(desired_items::kind.eq(kind.as_str())))
            .set((
                desired_items::applied_version.eq(None::<i64>),
                desired_items::state.eq(state.as_str()),
                desired_items::detail.eq("{}"),
                desired_items::attempts.eq(0),
                desired_items::due_at.eq(Some(now.0)),
                desired_items::updated_at.eq(now.0),
            ))
            .execute(tx.conn())?;
    }
    Ok(())
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = desired_items)]
struct Row {
    device_id: String,
    profile_id: String,
    kind: String,
    desired_version: Option<i64>,
    applied_version: Option<i64>,
    state: String,
    detail: String,
    attempts: i64,
    due_at: Option<i64>,
    updated_at: i64,
}

impl TryFrom<Row> for Item {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            device_id: DeviceId::from_store(row.device_id),
            profile_id: ProfileId::from_store(row.profile_id),
            kind: Kind::parse(&row.kind).ok_or_else(|| Error::corrupt("desired_items.kind"))?,
            desired_version: row.desired_version,
            applied_version: row.applied_version,
            state: State::parse(&row.state).ok_or_else(|| Error::corrupt("desired_items.state"))?,
            detail: serde_json::from_str::<Detail>(&row.detail)?,
            attempts: row.attempts,
            due_at: row.due_at.map(Time),
            updated_at: Time(row.updated_at),
        })
    }
}

/// A row with the wanted document, the given document and the profile's name.
type Joined = (Row, Option<Stored>, Option<Stored>, Option<String>);

/// The device's items with the documents that they name, in the order in which the profiles were created.
///
/// # Errors
/// Only the database's own, and what does not open.
pub fn list_for_device(conn: &mut Conn, sealer: &Sealer, device: &DeviceId) -> Result<Vec<Loaded>> {
    let (wanted, given) = diesel::alias!(profile_versions as wanted, profile_versions as given);
    let rows: Vec<Joined> = desired_items::table
        .left_join(
            wanted.on(wanted
                .field(profile_versions::profile_id)
                .eq(desired_items::profile_id)
                .and(wanted.field(profile_versions::version).nullable().eq(desired_items::desired_version))),
        )
        .left_join(
            given.on(given
                .field(profile_versions::profile_id)
                .eq(desired_items::profile_id)
                .and(given.field(profile_versions::version).nullable().eq(desired_items::applied_version))),
        )
        .left_join(profiles::table.on(profiles::id.eq(desired_items::profile_id)))
        .filter(desired_items::device_id.eq(device.as_str()))
        // Ids are UUIDv7: their order is the order of creation.
        .order(desired_items::profile_id)
        .select((
            Row::as_select(),
            wanted.fields((profile_versions::sealed_document, profile_versions::rules)).nullable(),
            given.fields((profile_versions::sealed_document, profile_versions::rules)).nullable(),
            profiles::display_name.nullable(),
        ))
        .load(conn)?;
    rows.into_iter()
        .map(|(row, wanted, given, name)| {
            let item = Item::try_from(row)?;
            let name = name.unwrap_or_else(|| item.profile_id.to_string());
            let document = |stored: Option<Stored>| stored.map(|stored| documents::open(sealer, &stored)).transpose();
            Ok(Loaded { item, name, desired: document(wanted)?, applied: document(given)? })
        })
        .collect()
}

/// The device's items with the names of their profiles, in the same order.
///
/// # Errors
/// Only the database's own.
pub fn list_items(conn: &mut Conn, device: &DeviceId) -> Result<Vec<(Item, String)>> {
    let rows: Vec<(Row, Option<String>)> = desired_items::table
        .left_join(profiles::table.on(profiles::id.eq(desired_items::profile_id)))
        .filter(desired_items::device_id.eq(device.as_str()))
        .order(desired_items::profile_id)
        .select((Row::as_select(), profiles::display_name.nullable()))
        .load(conn)?;
    let mut items = Vec::new();
    for (row, name) in rows {
        let item = Item::try_from(row)?;
        let name = match name {
            Some(name) => name,
            None => {
                let kept = documents::find_deleted_name(conn, &item.profile_id)?.unwrap_or_else(|| item.profile_id.to_string());
                format!("deleted {} {kept}", if item.kind == Kind::Compliance { "policy" } else { "profile" })
            }
        };
        items.push((item, name));
    }
    Ok(items)
}

/// How far the device is with what its compliance policies enforce, policy by policy.
///
/// # Errors
/// Only the database's own.
pub fn list_enforced(conn: &mut Conn, device: &DeviceId) -> Result<Vec<(ProfileId, Detail)>> {
    let rows: Vec<(String, String)> = desired_items::table
        .filter(desired_items::device_id.eq(device.as_str()))
        .filter(desired_items::kind.eq(Kind::Compliance.as_str()))
        .select((desired_items::profile_id, desired_items::detail))
        .load(conn)?;
    rows.into_iter().map(|(id, detail)| Ok((ProfileId::from_store(id), serde_json::from_str(&detail)?))).collect()
}

/// Whether the device should have the profile.
///
/// # Errors
/// Only the database's own.
pub fn is_desired(conn: &mut Conn, device: &DeviceId, profile: &ProfileId) -> Result<bool> {
    let row = desired_items::table.find((device.as_str(), profile.as_str())).filter(desired_items::desired_version.is_not_null());
    Ok(diesel::select(diesel::dsl::exists(row)).get_result(conn)?)
}

/// A page of the devices that have a row for the profile, after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_for_profile(conn: &mut Conn, profile: &ProfileId, after: &str, limit: i64) -> Result<Vec<Item>> {
    let rows: Vec<Row> = desired_items::table
        .filter(desired_items::profile_id.eq(profile.as_str()))
        .filter(desired_items::device_id.gt(after))
        .order(desired_items::device_id)
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Item::try_from).collect()
}

/// How many devices are in which state with the profile.
///
/// # Errors
/// Only the database's own.
pub fn count_by_state(conn: &mut Conn, profile: &ProfileId) -> Result<Vec<(State, i64)>> {
    let rows: Vec<(String, i64)> = desired_items::table
        .filter(desired_items::profile_id.eq(profile.as_str()))
        .group_by(desired_items::state)
        .select((desired_items::state, diesel::dsl::count_star()))
        .order(desired_items::state)
        .load(conn)?;
    rows.into_iter().map(|(state, count)| Ok((State::parse(&state).ok_or_else(|| Error::corrupt("desired_items.state"))?, count))).collect()
}

/// Stores how far an item has got. The desired version is not written: it may have changed since the item was read.
///
/// # Errors
/// [`Error::Conflict`] when the desired version is not `item.desired_version` any more: read the item again.
pub fn update_item(tx: &mut Tx<'_>, item: &Item, now: Time) -> Result<()> {
    let same = desired_items::table.find((item.device_id.as_str(), item.profile_id.as_str()));
    let change = (
        desired_items::applied_version.eq(item.applied_version),
        desired_items::state.eq(item.state.as_str()),
        desired_items::detail.eq(serde_json::to_string(&item.detail)?),
        desired_items::attempts.eq(item.attempts),
        desired_items::due_at.eq(item.due_at.map(|at| at.0)),
        desired_items::updated_at.eq(now.0),
    );
    let changed = match item.desired_version {
        Some(version) => diesel::update(same.filter(desired_items::desired_version.eq(version))).set(change).execute(tx.conn())?,
        None => diesel::update(same.filter(desired_items::desired_version.is_null())).set(change).execute(tx.conn())?,
    };
    if changed == 0 { Err(moved()) } else { Ok(()) }
}

/// Deletes an item whose removal is done.
///
/// # Errors
/// [`Error::Conflict`] when the item is wanted again.
pub fn delete_item(tx: &mut Tx<'_>, device: &DeviceId, profile: &ProfileId) -> Result<()> {
    let row = desired_items::table.find((device.as_str(), profile.as_str())).filter(desired_items::desired_version.is_null());
    let gone = diesel::delete(row).execute(tx.conn())?;
    if gone == 0 { Err(moved()) } else { Ok(()) }
}

fn moved() -> Error {
    Error::Conflict("the item was changed in the meantime".into())
}

/// When the next item of the device is due, of those due later than `after`; `None` when none is.
///
/// # Errors
/// Only the database's own.
pub fn find_next_due(conn: &mut Conn, device: &DeviceId, after: Time) -> Result<Option<Time>> {
    let at: Option<i64> = desired_items::table
        .filter(desired_items::device_id.eq(device.as_str()))
        .filter(desired_items::due_at.gt(after.0))
        .select(diesel::dsl::min(desired_items::due_at))
        .first(conn)?;
    Ok(at.map(Time))
}

/// When the server next has something for the device, later than `after`: its items and its facts. The caller adds what else it knows of
/// (commands) and stores the earliest as the enrolment's `work_at`.
///
/// # Errors
/// Only the database's own.
pub fn find_next_work(conn: &mut Conn, device: &DeviceId, after: Time) -> Result<Option<Time>> {
    let items = find_next_due(conn, device, after)?;
    let facts = super::facts::find_next_due(conn, device, after)?;
    Ok([items, facts].into_iter().flatten().min())
}
