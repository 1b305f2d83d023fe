//! Which device should have what: the set-wise recomputation against a model that looks at one device after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use diesel::RunQueryDsl as _;
use muster::app::App;
use muster::clock::Time;
use muster::domain::assignment::{Assignment, Mode, Target};
use muster::domain::desired::State;
use muster::domain::device::{Device, Platform, State as Life};
use muster::domain::enrollment::{Enrollment, Kind as EnrollmentKind, State as EnrollmentState};
use muster::domain::group::{Group, Member};
use muster::domain::profile::{Document, Kind, Profile};
use muster::domain::user::{Details, User};
use muster::ids::{AssignmentId, DeviceId, EnrollmentId, GroupId, ProfileId, UserId};
use muster::secret::Sealer;
use muster::service::directory::{self, By};
use muster::store::{Conn, Error, Store, Tx, assignments, desired_items, devices, enrollments, groups, profiles, users};

use crate::both_backends;

/// A small generator of numbers that repeats itself from run to run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

pub fn device(name: &str, platform: Platform, user: Option<&UserId>) -> Device {
    Device {
        id: DeviceId::new(),
        display_name: name.into(),
        platform,
        user_id: user.cloned(),
        hardware_id: None,
        entra_device_id: None,
        serial_number: None,
        manufacturer: None,
        model: None,
        os_version: None,
        os_edition: None,
        state: Life::Managed,
    }
}

pub fn enrollment(device: &Device, now: Time) -> Enrollment {
    Enrollment {
        id: EnrollmentId::new(),
        device_id: device.id.clone(),
        platform: device.platform,
        kind: if device.platform.is_apple() { EnrollmentKind::Device } else { EnrollmentKind::Full },
        state: EnrollmentState::Active,
        mdm_id: device.id.to_string(),
        provider_id: None,
        user_id: device.user_id.clone(),
        context: "{}".into(),
        channel_uri: None,
        certificate_id: None,
        work_at: None,
        waiting_since: None,
        last_seen_at: Some(now),
        enrolled_at: now,
        ended_at: None,
        version: 1,
    }
}

/// Writes a user as they are to be, whatever they were.
pub async fn write_user(app: &App, user: User, by: &By) -> muster::service::Result<()> {
    let id = user.id.clone();
    let outcome = directory::change_user(app, &id, by, move |_, _| Ok(Ok::<_, Infallible>(user.clone()))).await?;
    outcome.map_err(|never| match never {})
}

pub fn user(upn: &str) -> User {
    User {
        id: UserId::new(),
        upn: upn.into(),
        display_name: upn.into(),
        mail: None,
        sam_account_name: None,
        security_identifier: None,
        distinguished_name: None,
        enabled: true,
        details: Details::default(),
    }
}

/// One sealer for all: what one transaction sealed another opens.
pub fn sealer() -> Arc<Sealer> {
    static SEALER: std::sync::OnceLock<Arc<Sealer>> = std::sync::OnceLock::new();
    Arc::clone(SEALER.get_or_init(|| Arc::new(Sealer::generate().unwrap())))
}

pub fn profile(name: &str, kind: Kind, platform: Platform, document: Document) -> Profile {
    Profile { id: ProfileId::new(), display_name: name.into(), kind, platform, version: 1, document }
}

fn compliance_document() -> Document {
    serde_json::from_value(serde_json::json!({"compliance": {"rules": {"tpmRequired": true}}})).unwrap()
}

/// An organisation, and what should be true of it.
#[derive(Clone, Default)]
struct World {
    users: Vec<User>,
    devices: Vec<Device>,
    groups: Vec<Group>,
    members: BTreeSet<(GroupId, Member)>,
    profiles: Vec<Profile>,
    assignments: Vec<Assignment>,
}

impl World {
    fn new(dice: &mut Dice, count: usize) -> Self {
        let users = (0..count / 2).map(|n| user(&format!("user{n}@example.org"))).collect();
        let mut world = Self { users, ..Self::default() };
        for n in 0..count {
            let platform = if dice.roll(5) == 0 { Platform::MacOs } else { Platform::Windows };
            let owner = (dice.roll(4) > 0).then(|| world.users[dice.roll(world.users.len() as u64) as usize].id.clone());
            let mut one = device(&format!("PC-{n}"), platform, owner.as_ref());
            if dice.roll(20) == 0 {
                one.state = Life::Retired;
            }
            world.devices.push(one);
        }
        for n in 0..6 {
            let group = Group {
                id: GroupId::new(),
                display_name: format!("group {n}"),
                description: String::new(),
                rule: None,
                external_id: None,
                mail_nickname: None,
            };
            for _ in 0..count / 10 {
                let member = if dice.roll(2) == 0 {
                    Member::User(world.users[dice.roll(world.users.len() as u64) as usize].id.clone())
                } else {
                    Member::Device(world.devices[dice.roll(world.devices.len() as u64) as usize].id.clone())
                };
                world.members.insert((group.id.clone(), member));
            }
            world.groups.push(group);
        }
        for n in 0..8 {
            let (kind, document) =
                if n % 4 == 3 { (Kind::Compliance, compliance_document()) } else { (Kind::Configuration, Document::default()) };
            let platform = if n == 5 { Platform::MacOs } else { Platform::Windows };
            world.profiles.push(profile(&format!("profile {n}"), kind, platform, document));
        }
        for n in 0..16 {
            world.assign(dice, n % 8);
        }
        world
    }

    fn assign(&mut self, dice: &mut Dice, profile: usize) -> Assignment {
        let group = self.groups[dice.roll(6) as usize].id.clone();
        let target = match dice.roll(8) {
            0 => Target::AllDevices,
            1 => Target::AllUsers,
            _ => Target::Group(group),
        };
        let mode = if dice.roll(3) == 0 { Mode::Exclude } else { Mode::Include };
        let assignment = Assignment { id: AssignmentId::new(), profile_id: self.profiles[profile].id.clone(), mode, target };
        self.assignments.push(assignment.clone());
        assignment
    }

    fn insert(&self, tx: &mut Tx<'_>, now: Time) -> Result<(), Error> {
        for one in &self.users {
            users::insert_user(tx, one, now)?;
        }
        for one in &self.devices {
            devices::insert_device(tx, one, now)?;
            enrollments::insert_enrollment(tx, &enrollment(one, now))?;
        }
        for one in &self.groups {
            groups::insert_group(tx, one, now)?;
        }
        for (group, member) in &self.members {
            groups::insert_member(tx, group, member, now)?;
        }
        for one in &self.profiles {
            profiles::insert_profile(tx, &sealer(), one, now)?;
        }
        for one in &self.assignments {
            assignments::insert_assignment(tx, one, now)?;
        }
        Ok(())
    }

    /// The model: device by device, assignment by assignment.
    fn expected(&self) -> BTreeMap<(String, String), i64> {
        let meant = |target: &Target, device: &Device| match target {
            Target::AllDevices => true,
            Target::AllUsers => device.user_id.is_some(),
            Target::Group(group) => {
                self.members.contains(&(group.clone(), Member::Device(device.id.clone())))
                    || device.user_id.as_ref().is_some_and(|u| self.members.contains(&(group.clone(), Member::User(u.clone()))))
            }
        };
        let mut rows = BTreeMap::new();
        for device in self.devices.iter().filter(|d| d.state == Life::Managed) {
            for profile in self.profiles.iter().filter(|p| p.platform == device.platform) {
                let of = |mode| self.assignments.iter().filter(move |a| a.profile_id == profile.id && a.mode == mode);
                let included = of(Mode::Include).any(|a| meant(&a.target, device));
                let excluded = of(Mode::Exclude).any(|a| meant(&a.target, device));
                if included && !excluded {
                    rows.insert((device.id.to_string(), profile.id.to_string()), profile.version);
                }
            }
        }
        rows
    }
}

/// The wanted rows; the unwanted ones are removals.
async fn wanted(store: &Store, profiles: &[Profile]) -> BTreeMap<(String, String), i64> {
    let ids: Vec<ProfileId> = profiles.iter().map(|p| p.id.clone()).collect();
    store
        .read(move |conn| {
            let mut rows = BTreeMap::new();
            for id in &ids {
                for item in desired_items::list_for_profile(conn, id, "", 1_000_000)? {
                    if let Some(version) = item.desired_version {
                        rows.insert((item.device_id.to_string(), item.profile_id.to_string()), version);
                    }
                }
            }
            Ok(rows)
        })
        .await
        .unwrap()
}

async fn works(store: &Store, device: &DeviceId) -> Option<Time> {
    let id = device.clone();
    store.read(move |c| enrollments::find_current_enrollment(c, &id)).await.unwrap().unwrap().work_at
}

both_backends! {
    async fn the_recomputation_of_2000_devices_is_what_a_model_says_device_by_device(store: Store) {
        let mut dice = Dice(7);
        let mut world = World::new(&mut dice, 2000);
        let first = world.clone();
        store.write(move |tx| {
            first.insert(tx, Time(1))?;
            first.profiles.iter().try_for_each(|p| desired_items::recompute_profile(tx, &p.id, Time(2)))
        }).await.unwrap();
        assert_eq!(wanted(&store, &world.profiles).await, world.expected());
        assert!(world.expected().len() > 1000);

        for turn in 0..24 {
            let now = Time(10 + turn);
            match turn % 4 {
                // One member comes or goes.
                0 => {
                    let group = world.groups[dice.roll(6) as usize].id.clone();
                    let owner = world.users[dice.roll(1000) as usize].id.clone();
                    let pc = world.devices[dice.roll(2000) as usize].id.clone();
                    let member = if dice.roll(2) == 0 { Member::User(owner) } else { Member::Device(pc) };
                    let key = (group.clone(), member.clone());
                    let joined = !world.members.remove(&key);
                    if joined {
                        world.members.insert(key);
                    }
                    store.write(move |tx| {
                        if joined { groups::insert_member(tx, &group, &member, now)?; } else { groups::delete_member(tx, &group, &member)?; }
                        match &member {
                            Member::User(id) => desired_items::recompute_user(tx, id, now),
                            Member::Device(id) => desired_items::recompute_device(tx, id, now),
                        }
                    }).await.unwrap();
                }
                // A group changes as a whole.
                1 => {
                    let group = world.groups[dice.roll(6) as usize].id.clone();
                    let leaving: Vec<Member> =
                        world.members.iter().filter(|(g, _)| *g == group).map(|(_, m)| m.clone()).filter(|_| dice.roll(2) == 0).collect();
                    for member in &leaving {
                        world.members.remove(&(group.clone(), member.clone()));
                    }
                    store.write(move |tx| {
                        leaving.iter().try_for_each(|m| groups::delete_member(tx, &group, m).map(|_| ()))?;
                        desired_items::recompute_group(tx, &group, now)
                    }).await.unwrap();
                }
                // A profile is edited.
                2 => {
                    let at = dice.roll(8) as usize;
                    let before = world.profiles[at].clone();
                    world.profiles[at].version += 1;
                    store.write(move |tx| {
                        profiles::update_profile(tx, &sealer(), &before, now)?;
                        desired_items::recompute_profile(tx, &before.id, now)
                    }).await.unwrap();
                }
                // An assignment comes or goes.
                _ => {
                    let gone = (dice.roll(2) == 0).then(|| world.assignments.remove(dice.roll(world.assignments.len() as u64) as usize));
                    let new = gone.is_none().then(|| { let at = dice.roll(8) as usize; world.assign(&mut dice, at) });
                    store.write(move |tx| {
                        for a in gone.iter() { assignments::delete_assignment(tx, &a.id)?; }
                        for a in new.iter() { assignments::insert_assignment(tx, a, now)?; }
                        gone.iter().chain(&new).try_for_each(|a| desired_items::recompute_profile(tx, &a.profile_id, now))
                    }).await.unwrap();
                }
            }
            assert_eq!(wanted(&store, &world.profiles).await, world.expected(), "turn {turn}");
        }
    }

    async fn only_devices_with_a_change_get_work_and_only_what_was_given_is_taken_away(store: Store) {
        let (here, there) = (device("HERE", Platform::Windows, None), device("THERE", Platform::Windows, None));
        let given = profile("given", Kind::Configuration, Platform::Windows, Document::default());
        let group = Group { id: GroupId::new(), display_name: "group".into(), description: String::new(), rule: None, external_id: None, mail_nickname: None };
        let assignment = Assignment {
            id: AssignmentId::new(), profile_id: given.id.clone(), mode: Mode::Include, target: Target::Group(group.id.clone()),
        };
        let (h, t, p, g, a) = (here.clone(), there.clone(), given.clone(), group.clone(), assignment.clone());
        store.write(move |tx| {
            for one in [&h, &t] {
                devices::insert_device(tx, one, Time(1))?;
                enrollments::insert_enrollment(tx, &enrollment(one, Time(1)))?;
            }
            groups::insert_group(tx, &g, Time(1))?;
            groups::insert_member(tx, &g.id, &Member::Device(h.id.clone()), Time(1))?;
            profiles::insert_profile(tx, &sealer(), &p, Time(1))?;
            assignments::insert_assignment(tx, &a, Time(1))?;
            desired_items::recompute_profile(tx, &p.id, Time(5))
        }).await.unwrap();
        assert_eq!(works(&store, &here.id).await, Some(Time(5)));
        assert_eq!(works(&store, &there.id).await, None);

        // Nothing was sent yet: what is taken back leaves no trace.
        let (p, a) = (given.id.clone(), assignment.clone());
        store.write(move |tx| {
            assignments::delete_assignment(tx, &a.id)?;
            desired_items::recompute_profile(tx, &p, Time(6))?;
            assert!(desired_items::list_for_profile(tx.conn(), &p, "", 10)?.is_empty());
            assignments::insert_assignment(tx, &a, Time(6))?;
            desired_items::recompute_profile(tx, &p, Time(7))
        }).await.unwrap();

        // It was sent: it has to be taken away, and the row goes with the removal.
        let (p, h, g) = (given.id.clone(), here.id.clone(), group.id.clone());
        store.write(move |tx| {
            let mut item = desired_items::list_items(tx.conn(), &h)?.remove(0).0;
            let record = muster::domain::desired::Record::wanted("hash".into(), Time(7));
            item.detail.records.insert("setting:x@device".into(), record);
            item.state = State::Sent;
            desired_items::update_item(tx, &item, Time(8))?;
            profiles::delete_profile(tx, &p)?;
            desired_items::recompute_profile(tx, &p, Time(9))?;
            let removal = desired_items::list_items(tx.conn(), &h)?.remove(0).0;
            assert_eq!((removal.state, removal.desired_version, removal.due_at), (State::Removing, None, Some(Time(9))));
            // Progress of a session that still believed in the old version is refused.
            assert!(matches!(desired_items::update_item(tx, &item, Time(10)), Err(Error::Conflict(_))));
            desired_items::delete_item(tx, &h, &p)?;
            assert!(desired_items::list_items(tx.conn(), &h)?.is_empty());
            groups::delete_group(tx, &g, Time(11))?;
            groups::purge_group(tx, &g)
        }).await.unwrap();
    }

    async fn the_items_of_a_device_are_read_through_indexes(store: Store) {
        #[derive(diesel::QueryableByName)]
        struct Line {
            #[diesel(sql_type = diesel::sql_types::Text)]
            detail: String,
        }
        let plan = store.read(|conn| {
            // The shape of `list_for_device`, as the database plans it.
            let sql = "SELECT i.device_id FROM desired_items i
                LEFT JOIN profile_versions w ON w.profile_id = i.profile_id AND w.version = i.desired_version
                LEFT JOIN profile_versions g ON g.profile_id = i.profile_id AND g.version = i.applied_version
                LEFT JOIN profiles p ON p.id = i.profile_id WHERE i.device_id = 'x' ORDER BY i.profile_id";
            match conn {
                Conn::Sqlite(c) => Ok(Some(diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load::<Line>(c)?)),
                // PostgreSQL chooses by statistics, which an empty table has none of.
                Conn::Postgres(_) => Ok(None),
            }
        }).await.unwrap();
        for line in plan.iter().flatten() {
            assert!(line.detail.starts_with("SEARCH") && line.detail.contains("INDEX"), "{}", line.detail);
        }
    }
}
