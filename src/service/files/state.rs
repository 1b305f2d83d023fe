//! What an instance has of what files describe.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::form::{Assigned, Everybody, GroupFile, Members, ProfileFile};
use crate::domain::assignment::{Assignment, Mode, Target};
use crate::domain::device::Device;
use crate::domain::group::{Group, Member};
use crate::domain::profile::Profile;
use crate::ids::{DeviceId, GroupId, UserId};
use crate::secret::Sealer;
use crate::store::{Conn, Result, assignments, devices, groups, profiles, users};

/// How many rows are read at once.
const PAGE: i64 = 500;

/// A group that there is.
pub(super) struct KnownGroup {
    /// It.
    pub group: Group,
    /// Who belongs to it, where no rule says so.
    pub members: BTreeSet<Member>,
    /// As a file.
    pub file: GroupFile,
}

/// A profile that there is.
pub(super) struct KnownProfile {
    /// It.
    pub profile: Profile,
    /// Whom it is for, without groups that are deleted.
    pub assigned: BTreeMap<Assigned, Assignment>,
}

impl KnownProfile {
    /// As a file.
    pub(super) fn file(&self, secrets: bool) -> ProfileFile {
        let profile = &self.profile;
        ProfileFile {
            display_name: profile.display_name.clone(),
            kind: profile.kind,
            platform: profile.platform,
            assignments: self.assigned.keys().cloned().collect(),
            document: if secrets { profile.document.clone() } else { super::masked(&profile.document) },
        }
    }
}

/// All of it, by name.
pub(super) struct State {
    /// Groups.
    pub groups: BTreeMap<String, KnownGroup>,
    /// Profiles and policies.
    pub profiles: BTreeMap<String, KnownProfile>,
}

impl State {
    /// Reads it; who belongs to a group only of those groups of which that is wanted.
    pub(super) fn load(conn: &mut Conn, sealer: &Sealer, with_members: impl Fn(&str) -> bool) -> Result<Self> {
        let mut known_groups = BTreeMap::new();
        let mut after = String::new();
        loop {
            let page = groups::list_groups(conn, &after, PAGE)?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.display_name);
            for group in page {
                known_groups.insert(group.display_name.clone(), known_group(conn, group, &with_members)?);
            }
        }
        let names: BTreeMap<GroupId, String> =
            known_groups.values().map(|known: &KnownGroup| (known.group.id.clone(), known.group.display_name.clone())).collect();
        let mut known_profiles = BTreeMap::new();
        after.clear();
        loop {
            let page = profiles::list_profiles(conn, sealer, &after, PAGE)?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.display_name);
            for profile in page {
                let all = assignments::list_assignments(conn, &profile.id)?;
                let assigned = all.into_iter().filter_map(|one| Some((assigned(&one, &names)?, one))).collect();
                known_profiles.insert(profile.display_name.clone(), KnownProfile { profile, assigned });
            }
        }
        Ok(Self { groups: known_groups, profiles: known_profiles })
    }
}

fn assigned(assignment: &Assignment, names: &BTreeMap<GroupId, String>) -> Option<Assigned> {
    let (all, group) = match &assignment.target {
        Target::AllDevices => (Some(Everybody::Devices), None),
        Target::AllUsers => (Some(Everybody::Users), None),
        // To a group that is deleted it reaches nobody.
        Target::Group(id) => (None, Some(names.get(id)?.clone())),
    };
    Some(Assigned { all, group, exclude: assignment.mode == Mode::Exclude })
}

fn known_group(conn: &mut Conn, group: Group, with_members: impl Fn(&str) -> bool) -> Result<KnownGroup> {
    let mut members = BTreeSet::new();
    let mut named = Members::default();
    let mut after = (String::new(), String::new());
    while group.rule.is_none() && with_members(&group.display_name) {
        let page = groups::list_members(conn, &group.id, (&after.0, &after.1), PAGE)?;
        let Some(last) = page.last() else { break };
        after = match last {
            Member::User(id) => ("user".into(), id.to_string()),
            Member::Device(id) => ("device".into(), id.to_string()),
        };
        let (mut people, mut machines) = (Vec::new(), Vec::new());
        for member in &page {
            match member {
                Member::User(id) => people.push(id.to_string()),
                Member::Device(id) => machines.push(id.to_string()),
            }
        }
        named.users.extend(users::list_with_times(conn, &people)?.into_iter().map(|(user, ..)| user.upn));
        named.devices.extend(names_of_devices(conn, &machines)?);
        members.extend(page);
    }
    let file = GroupFile {
        display_name: group.display_name.clone(),
        description: group.description.clone(),
        rule: group.rule.clone(),
        members: named,
    };
    Ok(KnownGroup { group, members, file })
}

/// What devices are called, so that they are found again: each its name, where it alone has it, else its serial number, else its id.
fn names_of_devices(conn: &mut Conn, ids: &[String]) -> Result<Vec<String>> {
    let all: Vec<Device> = devices::list_by_ids(conn, ids)?.into_iter().map(|(device, _)| device).collect();
    let texts: Vec<&str> =
        all.iter().flat_map(|device| [Some(device.display_name.as_str()), device.serial_number.as_deref()]).flatten().collect();
    let found = find_devices(conn, &texts)?;
    let name = |device: &Device| {
        let own = [Some(&device.display_name), device.serial_number.as_ref()].into_iter().flatten();
        own.into_iter()
            .find(|text| found.get(text.as_str()) == Some(&Ok(device.id.clone())))
            .cloned()
            .unwrap_or_else(|| device.id.to_string())
    };
    Ok(all.iter().map(name).collect())
}

/// The device of each id, or the only one of each name or serial number; else how many there are, at least.
fn find_devices(conn: &mut Conn, texts: &[&str]) -> Result<HashMap<String, std::result::Result<DeviceId, i64>>> {
    let (ids, names): (Vec<&str>, Vec<&str>) = texts.iter().partition(|text| DeviceId::parse(text).is_some());
    let mut found: HashMap<String, std::result::Result<DeviceId, i64>> = HashMap::new();
    for piece in ids.chunks(500) {
        let piece: Vec<String> = piece.iter().map(|id| (*id).to_owned()).collect();
        found.extend(devices::list_by_ids(conn, &piece)?.into_iter().map(|(device, _)| (device.id.to_string(), Ok(device.id))));
    }
    for one in devices::list_called(conn, &names)? {
        let known = if one.count == 1 { Ok(one.id) } else { Err(one.count) };
        // The name of one may be the serial number of another.
        found
            .entry(one.text)
            .and_modify(|other| {
                if *other != known {
                    *other = Err(2)
                }
            })
            .or_insert(known);
    }
    Ok(found)
}

/// The members that a file names; of those who are not there, what is wrong.
pub(super) fn find_members(conn: &mut Conn, named: &Members) -> Result<(BTreeSet<Member>, Vec<String>)> {
    let (mut members, mut wrong) = (BTreeSet::new(), Vec::new());
    let folded: Vec<String> = named.users.iter().map(|upn| upn.trim().to_lowercase()).collect();
    let upns: Vec<&str> = folded.iter().map(String::as_str).collect();
    let people: HashMap<String, UserId> = users::list_by_upns(conn, &upns)?.into_iter().collect();
    for upn in &folded {
        match people.get(upn) {
            Some(id) => drop(members.insert(Member::User(id.clone()))),
            None => wrong.push(format!("members.users: no user is called \"{upn}\"")),
        }
    }
    let names: Vec<&str> = named.devices.iter().map(String::as_str).collect();
    let machines = find_devices(conn, &names)?;
    for name in &named.devices {
        match machines.get(name) {
            Some(Ok(id)) => drop(members.insert(Member::Device(id.clone()))),
            None => wrong.push(format!("members.devices: no device is called \"{name}\"")),
            Some(Err(_)) => wrong.push(format!("members.devices: several devices are called \"{name}\"; use the serial number")),
        }
    }
    Ok((members, wrong))
}
