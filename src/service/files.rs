//! Groups, profiles, policies and whom they are for, as files under version control: written in one form, compared with what there is, and
//! applied all or not at all. Files name each other by name and not by id, so that they can be applied to another instance.

mod form;
mod lines;
mod plan;
mod state;

use std::collections::BTreeMap;

use openssl::sha::sha256;
use serde_json::json;

pub use form::{Assigned, Everybody, GroupFile, Members, ProfileFile, Wanted};
pub use plan::{Fault, Plan, Step, What};

use self::plan::Action;
use self::state::State;
use super::apple::packages;
use super::directory::members::Change;
use super::directory::{self, By, check_name, rules};
use super::profile::{self, Draft};
use super::{Error, Result, push};
use crate::app::App;
use crate::catalogue::catalogue;
use crate::domain::apple::content;
use crate::domain::assignment::{Assignment, Target};
use crate::ids::{AssignmentId, GroupId};
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, audit};

/// A file: where it stands below the folder, and what is in it.
pub type File = (String, String);

/// How files are compared with what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// What no file has goes.
    pub prune: bool,
    /// Whoever asks may see secrets. To others a secret that a file writes may be another one, whether it is or not: else they could guess.
    pub sees_secrets: bool,
}

/// Everything as files, in the order of their names; without secrets these have a mask in their place, which leaves them as they are when it is
/// applied. That somebody reads secrets is in the audit log before they see them.
///
/// # Errors
/// Only the database's own.
pub async fn export(app: &App, secrets: bool, by: &By) -> Result<Vec<File>> {
    let (sealer, now, by) = (app.sealer(), app.now(), by.clone());
    let state = if secrets {
        let reading = app.store.write(move |tx| {
            let state = State::load(tx.conn(), &sealer, |_| true)?;
            for known in state.profiles.values() {
                let profile = &known.profile;
                let entry =
                    by.entry("profile.read_secrets", format!("profile:{}", profile.id)).after(&json!({ "version": profile.version }));
                audit::append(tx, &entry, now)?;
            }
            Ok(state)
        });
        reading.await?
    } else {
        app.store.snapshot(move |conn| State::load(conn, &sealer, |_| true)).await?
    };
    let mut files = Vec::new();
    for known in state.groups.values() {
        files.push((form::path_of_group(&known.file.display_name), known.file.text()?));
    }
    for known in state.profiles.values() {
        let file = known.file(secrets);
        files.push((form::path_of_profile(file.kind, &file.display_name), file.text()?));
    }
    files.sort();
    Ok(files)
}

/// What applying the files would change, or all that is wrong with them.
///
/// # Errors
/// Only the database's own.
pub async fn plan(app: &App, wanted: &Wanted, mode: Mode) -> Result<Plan> {
    Ok(prepare(app, wanted, mode).await?.0)
}

async fn prepare(app: &App, wanted: &Wanted, mode: Mode) -> Result<(Plan, Vec<Action>)> {
    let (sealer, files) = (app.sealer(), wanted.clone());
    let (mut plan, actions) = app
        .store
        .snapshot(move |conn| {
            let named = files.groups_named();
            let state = State::load(conn, &sealer, |name| named.contains(name))?;
            plan::compute(conn, &state, &files, mode)
        })
        .await?;
    for action in &actions {
        let (file, checked) = match action {
            Action::Group { file, group, .. } => (file, check_name(&group.display_name).and_then(|()| rules::check(group))),
            Action::Profile { file, draft, changed: true, .. } => (file, profile::check(app, draft)),
            Action::Profile { .. } | Action::DeleteGroup { .. } | Action::DeleteProfile { .. } => continue,
        };
        match (checked, action) {
            (Err(error), _) => plan.errors.push(Fault { file: file.clone(), text: error.to_string() }),
            (Ok(()), Action::Profile { draft, .. }) => {
                let mut remarks =
                    if draft.platform.is_apple() { content::remarks(&draft.document.payloads, app.now()) } else { Vec::new() };
                remarks.extend(packages::missing(app, &draft.document.payloads).await?);
                if let Some(step) = plan.steps.iter_mut().find(|step| step.file.as_ref() == Some(file)) {
                    step.remarks.extend(remarks);
                }
            }
            (Ok(()), _) => {}
        }
    }
    if !plan.errors.is_empty() {
        plan.steps.clear();
    }
    plan.errors.sort_by(|one, other| (&one.file, &one.text).cmp(&(&other.file, &other.text)));
    Ok((plan, actions))
}

/// Does what the plan says that was shown, in one transaction: groups first, then profiles and policies with whom they are for, then what is
/// to go.
///
/// # Errors
/// [`Error::Conflict`] when the files are wrong, or something changed since the plan was made (`fingerprint`); refusals of what is changed.
pub async fn apply(app: &App, wanted: &Wanted, mode: Mode, fingerprint: &str, by: &By) -> Result<Plan> {
    let (before, _) = prepare(app, wanted, mode).await?;
    if let Some(fault) = before.errors.first() {
        return Err(Error::Conflict(format!("{}: {}", fault.file, fault.text)));
    }
    let changed = || store::Error::Conflict("something changed meanwhile: look at the differences again".into());
    if before.fingerprint != fingerprint {
        return Err(changed().into());
    }
    let (files, by, now, push, sealer) = (wanted.clone(), by.clone(), app.now(), push::wns::enabled(&app.config), app.sealer());
    let expected = fingerprint.to_owned();
    app.store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            let named = files.groups_named();
            let state = State::load(tx.conn(), &sealer, |name| named.contains(name))?;
            let (plan, actions) = plan::compute(tx.conn(), &state, &files, mode)?;
            if plan.fingerprint != expected || !plan.errors.is_empty() {
                return Err(changed());
            }
            let mut groups: BTreeMap<String, GroupId> =
                state.groups.iter().map(|(name, known)| (name.clone(), known.group.id.clone())).collect();
            for action in &actions {
                match action {
                    Action::Group { group, is_new, fields, add, remove, .. } => {
                        if *is_new {
                            directory::create_group_in(tx, group, &by, now)?;
                            groups.insert(group.display_name.clone(), group.id.clone());
                        } else if *fields {
                            directory::update_group_in(tx, group, &by, push, now)?;
                        }
                        if !(add.is_empty() && remove.is_empty()) {
                            let changes = [Change::Remove(remove.clone()), Change::Add(add.clone())];
                            directory::change_members_in(tx, &group.id, &changes, &by, push, now)?;
                        }
                    }
                    Action::Profile { draft, assign, unassign, .. } => {
                        let (profile, ..) = profile::apply_in(tx, &sealer, draft, &by, push, now)?;
                        for gone in unassign {
                            profile::unassign_in(tx, &profile.id, gone.mode, &gone.target, &by, push, now)?;
                        }
                        for new in assign {
                            let target = match (&new.group, new.all) {
                                (Some(name), _) => Target::Group(groups.get(name).cloned().ok_or(store::Error::NotFound)?),
                                (None, Some(Everybody::Users)) => Target::AllUsers,
                                (None, _) => Target::AllDevices,
                            };
                            let assignment =
                                Assignment { id: AssignmentId::new(), profile_id: profile.id.clone(), mode: new.mode(), target };
                            profile::assign_in(tx, &assignment, &by, push, now)?;
                        }
                    }
                    Action::DeleteProfile { id } => profile::delete_in(tx, &sealer, id, &by, push, now)?,
                    Action::DeleteGroup { id } => directory::delete_group_in(tx, id, &by, push, now)?,
                }
            }
            if !actions.is_empty() {
                let count = |what: What| plan.steps.iter().filter(|step| step.what == what).count();
                let state = json!({ "made": count(What::Create), "changed": count(What::Change), "deleted": count(What::Delete) });
                audit::append(tx, &by.entry("files.apply", by.actor.clone()).after(&state), now)?;
            }
            Ok(())
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(before)
}

/// The draft with what is hidden in it as it is in the profile that there is.
fn uncovered(file: &ProfileFile, known: Option<&crate::domain::profile::Profile>) -> std::result::Result<Draft, String> {
    let mut document = serde_json::to_value(&file.document).unwrap_or_default();
    let held = known.map(|profile| serde_json::to_value(&profile.document).unwrap_or_default());
    form::uncover("document", &mut document, held.as_ref())?;
    let document = serde_json::from_value(document).map_err(|error| error.to_string())?;
    Ok(Draft { display_name: file.display_name.clone(), kind: file.kind, platform: file.platform, document })
}

/// What is compared to see whether the same would happen.
fn fingerprint(steps: &[Step]) -> String {
    hex::encode(sha256(serde_json::to_string(steps).unwrap_or_default().as_bytes()))
}

/// The document as it is shown.
fn masked(document: &crate::domain::profile::Document) -> crate::domain::profile::Document {
    document.masked(catalogue())
}
