//! Profiles and policies: content, versions, and whom they are for. Each change recomputes what the devices should have.

use serde::Deserialize;
use serde_json::{Value, json};

use super::apple::{packages, single_sign_on};
use super::desired::{Changed, recompute_in};
use super::directory::{By, check_name};
use super::windows::csp;
use super::{Error, Result, push};
use crate::app::App;
use crate::catalogue::{Baseline, Vars, baselines, catalogue};
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::apple::content;
use crate::domain::assignment::{Assignment, Mode, Target};
use crate::domain::device::Platform;
use crate::domain::profile::{Change, Document, Kind, Problem, Profile, diff};
use crate::ids::{AssignmentId, ProfileId};
use crate::secret::Sealer;
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, Tx, assignments, audit, profiles};

/// A profile as files and callers write it: the shape of `profiles/baselines/*.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Name for people, unique.
    pub display_name: String,
    /// What it does.
    pub kind: Kind,
    /// For which devices.
    #[serde(deserialize_with = "managed_platform")]
    pub platform: Platform,
    /// Its content.
    pub document: Document,
}

impl Draft {
    /// Reads a TOML or JSON text.
    ///
    /// # Errors
    /// What does not parse, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('\u{feff}');
        let parsed = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|e| e.to_string())
        } else {
            toml::from_str(text).map_err(|e| e.to_string())
        };
        parsed.map_err(|why: String| format!("the profile does not parse: {why}"))
    }
}

/// A platform that can be managed.
pub(super) fn managed_platform<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Platform, D::Error> {
    let word = String::deserialize(deserializer)?;
    let known = Platform::parse(&word).filter(|platform| *platform != Platform::Android);
    known.ok_or_else(|| serde::de::Error::custom(format!("platform: windows, macos or ios, not {word}")))
}

impl TryFrom<Baseline> for Draft {
    type Error = Error;

    fn try_from(baseline: Baseline) -> Result<Self> {
        let parts = json!({
            "display_name": baseline.display_name, "kind": baseline.kind, "platform": baseline.platform, "document": baseline.document,
        });
        serde_json::from_value(parts).map_err(Error::internal)
    }
}

/// The ready profiles that come with the program, by file name.
///
/// # Errors
/// [`Error::Internal`] when one does not parse.
pub fn ready() -> Result<Vec<(String, Draft)>> {
    let all = baselines().map_err(|why| Error::internal(anyhow::anyhow!(why)))?;
    all.into_iter().map(|baseline| Ok((baseline.file.clone(), baseline.try_into()?))).collect()
}

/// What applying a draft came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The profile as it is now.
    pub profile: Profile,
    /// Whether it is new.
    pub created: bool,
    /// What became different; empty when nothing did, and then there is no new version.
    pub changes: Vec<Change>,
    /// What may not be what was meant.
    pub remarks: Vec<String>,
}

pub(super) fn check(app: &App, draft: &Draft) -> Result<()> {
    check_name(&draft.display_name)?;
    single_sign_on::check(app, draft.platform, &draft.document.payloads)?;
    let vars = Vars { tenant: app.tenant.as_str(), provider: &app.config.windows.provider_id };
    let checked = draft.document.check(draft.kind, draft.platform, catalogue(), &vars).and_then(|()| match draft.platform {
        Platform::Windows => csp::check(&draft.document.payloads),
        Platform::MacOs | Platform::Ios => Ok(()),
        Platform::Android => Err(Problem::new(Refusal::ProfileValueRefused, "platform", "windows, macos or ios")),
    });
    checked.map_err(|problem| Error::Invalid(problem.refusal, problem.detail))
}

pub(super) fn shown(profile: &Profile) -> Value {
    json!({
        "display_name": profile.display_name, "kind": profile.kind, "platform": profile.platform, "version": profile.version,
        "document": profile.document.masked(catalogue()),
    })
}

/// Makes the profile of that name what the draft says: creates it, gives it a new version, or does nothing when it says so already.
///
/// # Errors
/// A `PRF` refusal that names the place; [`Error::Conflict`] when a profile of that name is of another kind or platform.
pub async fn apply(app: &App, draft: Draft, by: &By) -> Result<Applied> {
    check(app, &draft)?;
    let mut remarks = if draft.platform.is_apple() { content::remarks(&draft.document.payloads, app.now()) } else { Vec::new() };
    remarks.extend(packages::missing(app, &draft.document.payloads).await?);
    let (by, now, push, sealer) = (by.clone(), app.now(), push::wns::enabled(&app.config), app.sealer());
    let (profile, created, changes) = app.store.write(move |tx| apply_in(tx, &sealer, &draft, &by, push, now)).await?;
    app.outbox.notify_waiters();
    Ok(Applied { profile, created, changes, remarks })
}

/// The same within a transaction, of a draft that was checked: the profile, whether it is new, and what is different.
pub(super) fn apply_in(
    tx: &mut Tx<'_>,
    sealer: &Sealer,
    draft: &Draft,
    by: &By,
    push: bool,
    now: Time,
) -> store::Result<(Profile, bool, Vec<Change>)> {
    take_turn(tx, Turn::Shared)?;
    let Some(before) = profiles::find_profile_by_name(tx.conn(), sealer, &draft.display_name)? else {
        let profile = Profile {
            id: ProfileId::new(),
            display_name: draft.display_name.clone(),
            kind: draft.kind,
            platform: draft.platform,
            version: 1,
            document: draft.document.clone(),
        };
        profiles::insert_profile(tx, sealer, &profile, now)?;
        audit::append(tx, &by.entry("profile.create", format!("profile:{}", profile.id)).after(&shown(&profile)), now)?;
        let changes = diff(&Document::default(), &profile.document);
        return Ok((profile, true, changes));
    };
    if before.kind != draft.kind || before.platform != draft.platform {
        let what = format!("{} exists and is a {} profile for {}", before.display_name, before.kind, before.platform);
        return Err(store::Error::Conflict(what));
    }
    let changes = diff(&before.document, &draft.document);
    if changes.is_empty() {
        return Ok((before, false, changes));
    }
    let mut profile = Profile { document: draft.document.clone(), ..before.clone() };
    profile.version = profiles::update_profile(tx, sealer, &profile, now)?;
    recompute_in(tx, Changed::Profile(&profile.id), push, now)?;
    let entry = by.entry("profile.update", format!("profile:{}", profile.id)).before(&shown(&before)).after(&shown(&profile));
    audit::append(tx, &entry, now)?;
    Ok((profile, false, changes))
}

/// Gives a profile another name.
///
/// # Errors
/// `PRF0004`; [`Error::Conflict`] when the name is taken or somebody else changed the profile first.
pub async fn rename(app: &App, id: &ProfileId, display_name: &str, by: &By) -> Result<()> {
    check_name(display_name)?;
    let (id, name, by, now) = (id.clone(), display_name.to_owned(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = profiles::find_name(tx.conn(), &id)?.ok_or(store::Error::NotFound)?;
            profiles::update_name(tx, &id, &name, now)?;
            let entry = by.entry("profile.rename", format!("profile:{id}")).before(&json!(before)).after(&json!(name));
            audit::append(tx, &entry, now)
        })
        .await?;
    Ok(())
}

/// Deletes a profile; devices that have it are told to drop it.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(app: &App, id: &ProfileId, by: &By) -> Result<()> {
    let (id, by, now, push, sealer) = (id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config), app.sealer());
    app.store.write(move |tx| delete_in(tx, &sealer, &id, &by, push, now)).await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// The same within a transaction.
pub(super) fn delete_in(tx: &mut Tx<'_>, sealer: &Sealer, id: &ProfileId, by: &By, push: bool, now: Time) -> store::Result<()> {
    take_turn(tx, Turn::Shared)?;
    let before = profiles::load_profile(tx.conn(), sealer, id)?;
    profiles::delete_profile(tx, id)?;
    recompute_in(tx, Changed::Profile(id), push, now)?;
    audit::append(tx, &by.entry("profile.delete", format!("profile:{id}")).before(&shown(&before)), now)
}

/// Assigns a profile; an assignment that is there already is returned as it is.
///
/// # Errors
/// [`Error::NotFound`] when the profile does not exist; [`Error::Conflict`] when the group does not.
pub async fn assign(app: &App, profile: &ProfileId, mode: Mode, target: Target, by: &By) -> Result<Assignment> {
    let assignment = Assignment { id: AssignmentId::new(), profile_id: profile.clone(), mode, target };
    let (by, now, push) = (by.clone(), app.now(), push::wns::enabled(&app.config));
    let stored = app.store.write(move |tx| assign_in(tx, &assignment, &by, push, now)).await?;
    app.outbox.notify_waiters();
    Ok(stored)
}

/// The same within a transaction.
pub(super) fn assign_in(tx: &mut Tx<'_>, assignment: &Assignment, by: &By, push: bool, now: Time) -> store::Result<Assignment> {
    take_turn(tx, Turn::Shared)?;
    let profile = &assignment.profile_id;
    profiles::find_name(tx.conn(), profile)?.ok_or(store::Error::NotFound)?;
    let known = assignments::list_assignments(tx.conn(), profile)?;
    if let Some(same) = known.into_iter().find(|a| a.mode == assignment.mode && a.target == assignment.target) {
        return Ok(same);
    }
    assignments::insert_assignment(tx, assignment, now)?;
    recompute_in(tx, Changed::Profile(profile), push, now)?;
    audit::append(tx, &by.entry("profile.assign", format!("profile:{profile}")).after(&json!(assignment)), now)?;
    Ok(assignment.clone())
}

/// Takes an assignment back.
///
/// # Errors
/// [`Error::NotFound`] when the profile has no such assignment.
pub async fn unassign(app: &App, profile: &ProfileId, mode: Mode, target: Target, by: &By) -> Result<()> {
    let (profile, by, now, push) = (profile.clone(), by.clone(), app.now(), push::wns::enabled(&app.config));
    app.store.write(move |tx| unassign_in(tx, &profile, mode, &target, &by, push, now)).await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// The same within a transaction.
pub(super) fn unassign_in(
    tx: &mut Tx<'_>,
    profile: &ProfileId,
    mode: Mode,
    target: &Target,
    by: &By,
    push: bool,
    now: Time,
) -> store::Result<()> {
    take_turn(tx, Turn::Shared)?;
    let known = assignments::list_assignments(tx.conn(), profile)?;
    let found = known.into_iter().find(|a| a.mode == mode && a.target == *target).ok_or(store::Error::NotFound)?;
    assignments::delete_assignment(tx, &found.id)?;
    recompute_in(tx, Changed::Profile(profile), push, now)?;
    audit::append(tx, &by.entry("profile.unassign", format!("profile:{profile}")).before(&json!(found)), now)
}

/// The profile's document: with a mask in the place of its secrets, or with them. That somebody reads secrets is in the audit log before
/// they see them.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn read(app: &App, id: &ProfileId, secrets: bool, by: &By) -> Result<Profile> {
    let (id, sealer, now) = (id.clone(), app.sealer(), app.now());
    if !secrets {
        let mut profile = app.store.read(move |conn| profiles::load_profile(conn, &sealer, &id)).await?;
        profile.document = profile.document.masked(catalogue());
        return Ok(profile);
    }
    let by = by.clone();
    let reading = app.store.write(move |tx| {
        let profile = profiles::load_profile(tx.conn(), &sealer, &id)?;
        let entry = by.entry("profile.read_secrets", format!("profile:{id}")).after(&json!({ "version": profile.version }));
        audit::append(tx, &entry, now)?;
        Ok(profile)
    });
    Ok(reading.await?)
}

/// The profile in the form that [`Draft::parse`] reads, as TOML. Without its secrets it cannot be applied where it has some.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn export(app: &App, id: &ProfileId, secrets: bool, by: &By) -> Result<String> {
    let profile = read(app, id, secrets, by).await?;
    let draft = Draft { display_name: profile.display_name, kind: profile.kind, platform: profile.platform, document: profile.document };
    // TOML has no null: through JSON, where absent and null are told apart before they get here.
    toml::to_string_pretty(&draft).map_err(Error::internal)
}
