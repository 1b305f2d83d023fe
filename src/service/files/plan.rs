//! What would change: the files against what there is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::form::{Assigned, GroupFile, ProfileFile, Wanted};
use super::lines::diff;
use super::state::{State, find_members};
use super::{Mode, fingerprint, masked, uncovered};
use crate::domain::assignment::Assignment;
use crate::domain::group::{Group, Member};
use crate::domain::profile::{Kind, diff as compare};
use crate::ids::{GroupId, ProfileId};
use crate::service::profile::Draft;
use crate::store::{self, Conn, roles};

/// How many members all files may name together.
const MOST_MEMBERS: usize = 100_000;
/// JSON knows an empty value, and TOML does not.
const UNWRITABLE: &str = "what it holds cannot be written as TOML";

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It is made.
    Create,
    /// It is changed.
    Change,
    /// It goes.
    Delete,
    /// No file has it, and it stays.
    NotInFiles,
}

/// What becomes of one object, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Step {
    /// What.
    pub what: What,
    /// `group`, `profile` or `policy`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its file, where one has it.
    pub file: Option<String>,
    /// Its id, where it is there.
    pub id: Option<String>,
    /// Whether what it is becomes another, and not only whom it is for.
    pub content: bool,
    /// The difference of its texts, without secrets.
    pub diff: Vec<String>,
    /// Who gets it that did not.
    pub assigned: Vec<String>,
    /// Who does not get it any more.
    pub unassigned: Vec<String>,
    /// What may not be what was meant.
    pub remarks: Vec<String>,
}

impl Step {
    fn new(what: What, kind: &str, name: &str) -> Self {
        Self {
            what,
            kind: kind.to_owned(),
            name: name.to_owned(),
            file: None,
            id: None,
            content: true,
            diff: Vec::new(),
            assigned: Vec::new(),
            unassigned: Vec::new(),
            remarks: Vec::new(),
        }
    }
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Fault {
    /// Which.
    pub file: String,
    /// What.
    pub text: String,
}

/// What would change, or what is wrong.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Plan {
    /// What becomes of what differs.
    pub steps: Vec<Step>,
    /// All that is wrong; then nothing is applied.
    pub errors: Vec<Fault>,
    /// Tells this plan from others.
    pub fingerprint: String,
}

impl Plan {
    /// Whether something would be different afterwards.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.steps.iter().any(|step| step.what != What::NotInFiles)
    }
}

/// What is done.
pub(super) enum Action {
    Group { file: String, group: Group, is_new: bool, fields: bool, add: Vec<Member>, remove: Vec<Member> },
    Profile { file: String, draft: Draft, changed: bool, assign: Vec<Assigned>, unassign: Vec<Assignment> },
    DeleteProfile { id: ProfileId },
    DeleteGroup { id: GroupId },
}

/// The names that several files have, with these.
fn twice<'a, T>(files: &'a [(String, T)], name: impl Fn(&'a T) -> &'a str) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, content) in files {
        by_name.entry(name(content)).or_default().push(file);
    }
    by_name.retain(|_, files| files.len() > 1);
    by_name
}

/// Compares, and says what is to be done; in the order of doing it.
pub(super) fn compute(conn: &mut Conn, state: &State, wanted: &Wanted, mode: Mode) -> store::Result<(Plan, Vec<Action>)> {
    let prune = mode.prune;
    let mut found = Found { steps: Vec::new(), errors: Vec::new(), actions: Vec::new(), sees_secrets: mode.sees_secrets };
    let mut named = 0;
    for (file, group) in &wanted.groups {
        named += group.members.users.len() + group.members.devices.len();
        if named > MOST_MEMBERS {
            found.fault(file, format!("with it the files name more than {MOST_MEMBERS} members: say by a rule who belongs to a group"));
            return Ok((found.plan(), Vec::new()));
        }
    }
    let doubles = twice(&wanted.groups, |file| &file.display_name).into_iter().chain(twice(&wanted.profiles, |file| &file.display_name));
    for (name, files) in doubles {
        for file in &files {
            found.fault(file, format!("several files have the name \"{name}\": {}", files.join(", ")));
        }
    }
    let in_files: BTreeSet<&str> = wanted.groups.iter().map(|(_, file)| file.display_name.as_str()).collect();
    for (file, group) in &wanted.groups {
        found.group(conn, state, file, group)?;
    }
    for (file, profile) in &wanted.profiles {
        for one in &profile.assignments {
            let unknown = one.group.as_deref().filter(|name| {
                let stays = !prune && state.groups.contains_key(*name);
                !in_files.contains(name) && !stays
            });
            if let Some(name) = unknown {
                found.fault(file, format!("assignments: no group is called \"{name}\""));
            }
        }
        found.profile(state, file, profile);
    }
    let kept: BTreeSet<&str> = wanted.profiles.iter().map(|(_, file)| file.display_name.as_str()).collect();
    for (name, known) in state.profiles.iter().filter(|(name, _)| !kept.contains(name.as_str())) {
        let kind = word(known.profile.kind);
        let what = if prune { What::Delete } else { What::NotInFiles };
        found.steps.push(Step { id: Some(known.profile.id.to_string()), ..Step::new(what, kind, name) });
        if prune {
            found.actions.push(Action::DeleteProfile { id: known.profile.id.clone() });
        }
    }
    for (name, known) in state.groups.iter().filter(|(name, _)| !in_files.contains(name.as_str())) {
        let mut step = Step { id: Some(known.group.id.to_string()), ..Step::new(What::NotInFiles, "group", name) };
        if prune {
            if roles::list_roles_about_group(conn, &known.group.id)?.is_empty() {
                step.what = What::Delete;
                found.actions.push(Action::DeleteGroup { id: known.group.id.clone() });
            } else {
                step.remarks.push("it stays: it gives a role, or somebody has a role for its members".into());
            }
        }
        found.steps.push(step);
    }
    let actions = std::mem::take(&mut found.actions);
    Ok((found.plan(), actions))
}

fn word(kind: Kind) -> &'static str {
    if kind == Kind::Compliance { "policy" } else { "profile" }
}

struct Found {
    steps: Vec<Step>,
    errors: Vec<Fault>,
    actions: Vec<Action>,
    sees_secrets: bool,
}

impl Found {
    fn plan(self) -> Plan {
        // Before all is right nothing of it is shown.
        let steps = if self.errors.is_empty() { self.steps } else { Vec::new() };
        let fingerprint = fingerprint(&steps);
        Plan { steps, errors: self.errors, fingerprint }
    }

    fn fault(&mut self, file: &str, text: impl Into<String>) {
        self.errors.push(Fault { file: file.to_owned(), text: text.into() });
    }

    fn group(&mut self, conn: &mut Conn, state: &State, file: &str, wanted: &GroupFile) -> store::Result<()> {
        let name = &wanted.display_name;
        if GroupId::parse(name).is_some() {
            self.fault(file, "a name that looks like an id would name another group");
        }
        let (members, wrong) = find_members(conn, &wanted.members)?;
        for text in wrong {
            self.fault(file, text);
        }
        let known = state.groups.get(name);
        let id = known.map_or_else(GroupId::new, |known| known.group.id.clone());
        // Members are shown by the names that they are exported by.
        let texts = known.map_or_else(|| Ok(String::new()), |known| known.file.text()).and_then(|before| Ok((before, wanted.text()?)));
        let Ok((before, after)) = texts else {
            self.fault(file, UNWRITABLE);
            return Ok(());
        };
        let held = known.map(|known| &known.members);
        let by_rule = wanted.rule.is_some();
        let add: Vec<Member> = members.iter().filter(|member| !held.is_some_and(|held| held.contains(*member))).cloned().collect();
        let gone = held.into_iter().flatten().filter(|member| !by_rule && !members.contains(*member));
        let remove: Vec<Member> = gone.cloned().collect();
        // Those whom a rule let in stay when it ends: they go with the members that no file names.
        let ended = known.is_some_and(|known| known.group.rule.is_some() && !by_rule);
        let remove = if ended { of_rule(conn, &id, &members)? } else { remove };
        let group = Group {
            id: id.clone(),
            display_name: name.clone(),
            description: wanted.description.clone(),
            rule: wanted.rule.clone(),
            // What others call it stands in no file.
            external_id: known.and_then(|known| known.group.external_id.clone()),
            mail_nickname: known.and_then(|known| known.group.mail_nickname.clone()),
        };
        let fields = known.is_some_and(|known| known.group != group);
        if known.is_some() && !fields && add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let what = if known.is_some() { What::Change } else { What::Create };
        self.steps.push(Step {
            file: Some(file.to_owned()),
            id: known.map(|known| known.group.id.to_string()),
            diff: diff(&before, &after),
            ..Step::new(what, "group", name)
        });
        self.actions.push(Action::Group { file: file.to_owned(), group, is_new: known.is_none(), fields, add, remove });
        Ok(())
    }

    fn profile(&mut self, state: &State, file: &str, wanted: &ProfileFile) {
        let known = state.profiles.get(&wanted.display_name);
        if let Some(known) = known.filter(|known| known.profile.kind != wanted.kind || known.profile.platform != wanted.platform) {
            let profile = &known.profile;
            self.fault(file, format!("{} exists and is a {} profile for {}", profile.display_name, profile.kind, profile.platform));
            return;
        }
        let draft = match uncovered(wanted, known.map(|known| &known.profile)) {
            Ok(draft) => draft,
            Err(why) => {
                let refusal = crate::domain::Refusal::ProfileSecretMasked;
                self.fault(file, format!("{}: {why} ({})", refusal.code(), refusal.text()));
                return;
            }
        };
        let unsure = !self.sees_secrets && known.is_some() && wanted.writes_secrets();
        let changed = unsure || known.is_none_or(|known| !compare(&known.profile.document, &draft.document).is_empty());
        let held = known.map(|known| &known.assigned);
        let assign: Vec<Assigned> =
            wanted.assignments.iter().filter(|one| !held.is_some_and(|held| held.contains_key(*one))).cloned().collect();
        let unassign: Vec<(Assigned, Assignment)> = held
            .into_iter()
            .flatten()
            .filter(|(one, _)| !wanted.assignments.contains(*one))
            .map(|(one, assignment)| (one.clone(), assignment.clone()))
            .collect();
        if !changed && assign.is_empty() && unassign.is_empty() {
            return;
        }
        let shown = ProfileFile { document: masked(&draft.document), ..wanted.clone() };
        let texts =
            known.map_or_else(|| Ok(String::new()), |known| known.file(false).text()).and_then(|before| Ok((before, shown.text()?)));
        let Ok((before, after)) = texts else {
            self.fault(file, UNWRITABLE);
            return;
        };
        let mut lines = diff(&before, &after);
        if unsure {
            lines.push("! a secret, which may be another one".into());
        } else if changed && known.is_some_and(|known| masked(&known.profile.document) == masked(&draft.document)) {
            lines.push("! a secret".into());
        }
        let what = if known.is_some() { What::Change } else { What::Create };
        self.steps.push(Step {
            file: Some(file.to_owned()),
            id: known.map(|known| known.profile.id.to_string()),
            content: changed,
            diff: lines,
            assigned: assign.iter().map(Assigned::words).collect(),
            unassigned: unassign.iter().map(|(one, _)| one.words()).collect(),
            ..Step::new(what, word(wanted.kind), &wanted.display_name)
        });
        let unassign = unassign.into_iter().map(|(_, assignment)| assignment).collect();
        self.actions.push(Action::Profile { file: file.to_owned(), draft, changed, assign, unassign });
    }
}

/// The members by rule that no file names.
fn of_rule(conn: &mut Conn, group: &GroupId, named: &BTreeSet<Member>) -> store::Result<Vec<Member>> {
    let mut all = Vec::new();
    let mut after = (String::new(), String::new());
    loop {
        let page = store::groups::list_members(conn, group, (&after.0, &after.1), 500)?;
        let Some(last) = page.last() else { break };
        after = match last {
            Member::User(id) => ("user".into(), id.to_string()),
            Member::Device(id) => ("device".into(), id.to_string()),
        };
        all.extend(page.into_iter().filter(|member| !named.contains(member)));
    }
    Ok(all)
}
