//! What an instance has of what files describe.

use std::collections::{BTreeMap, BTreeSet};

use super::form::{Assigned, Everybody, GroupFile, Members, ProfileFile};
use crate::domain::assignment::{Assignment, Mode, Target};
use crate::domain::group::{Group, Member};
use crate::domain::profile::Profile;
use crate::ids::{DeviceId, GroupId};
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
    /// Reads it.
    pub(super) fn load(conn: &mut Conn, sealer: &Sealer) -> Result<Self> {
        let mut known_groups = BTreeMap::new();
        let mut after = String::new();
        loop {
            let page = groups::list_groups(conn, &after, PAGE)?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.display_name);
            for group in page {
                known_groups.insert(group.display_name.clone(), known_group(conn, group)?);
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

fn known_group(conn: &mut Conn, group: Group) -> Result<KnownGroup> {
    let mut members = BTreeSet::new();
    let mut named = Members::default();
    let mut after = (String::new(), String::new());
    while group.rule.is_none() {
        let page = groups::list_members(conn, &group.id, (&after.0, &after.1), PAGE)?;
        let Some(last) = page.last() else { break };
        after = match last {
            Member::User(id) => ("user".into(), id.to_string()),
            Member::Device(id) => ("device".into(), id.to_string()),
        };
        for member in page {
            match &member {
                Member::User(id) => named.users.insert(users::load_user(conn, id)?.upn),
                Member::Device(id) => named.devices.insert(name_of_device(conn, id)?),
            };
            members.insert(member);
        }
    }
    let file = GroupFile {
        display_name: group.display_name.clone(),
        description: group.description.clone(),
        rule: group.rule.clone(),
        members: named,
    };
    Ok(KnownGroup { group, members, file })
}

/// What a device is called, so that it is found again: its name, where it alone has it, else its serial number, else its id.
fn name_of_device(conn: &mut Conn, id: &DeviceId) -> Result<String> {
    let device = devices::load_device(conn, id)?;
    for name in [Some(device.display_name), device.serial_number].into_iter().flatten() {
        if find_device(conn, &name)? == Ok(id.clone()) {
            return Ok(name);
        }
    }
    Ok(id.to_string())
}

/// The device of that id, or the only one of that name or serial number; else how many there are.
pub(super) fn find_device(conn: &mut Conn, text: &str) -> Result<std::result::Result<DeviceId, usize>> {
    if let Some(id) = DeviceId::parse(text) {
        return Ok(devices::find_device(conn, &id)?.map(|device| device.id).ok_or(0));
    }
    let by_name = devices::Filter { display_name: Some(text.to_owned()), ..Default::default() };
    let by_serial = devices::Filter { serial_number: Some(text.to_owned()), ..Default::default() };
    let mut found = BTreeSet::new();
    for filter in [by_name, by_serial] {
        found.extend(devices::list_devices(conn, &filter, "", 2)?.into_iter().map(|device| device.id));
    }
    let count = found.len();
    Ok(found.pop_first().filter(|_| count == 1).ok_or(count))
}

/// The members that a file names; of those who are not there, what is wrong.
pub(super) fn find_members(conn: &mut Conn, named: &Members) -> Result<(BTreeSet<Member>, Vec<String>)> {
    let (mut members, mut wrong) = (BTreeSet::new(), Vec::new());
    for upn in &named.users {
        if let Some(user) = users::find_user_by_upn(conn, upn)? {
            members.insert(Member::User(user.id));
        } else {
            wrong.push(format!("members.users: no user is called \"{upn}\""));
        }
    }
    for name in &named.devices {
        match find_device(conn, name)? {
            Ok(id) => {
                members.insert(Member::Device(id));
            }
            Err(0) => wrong.push(format!("members.devices: no device is called \"{name}\"")),
            Err(_) => wrong.push(format!("members.devices: several devices are called \"{name}\"; use the serial number")),
        }
    }
    Ok((members, wrong))
}
