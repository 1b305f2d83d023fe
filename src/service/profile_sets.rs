//! Profiles and policies as the API has them: by id, with their assignments as a whole.

use super::desired::{Changed, recompute_in};
use super::directory::By;
use super::page::{self, Found, find};
use super::profile::{Draft, check, shown};
use super::{Error, Result, push};
use crate::app::App;
use crate::catalogue::catalogue;
use crate::domain::Refusal;
use crate::domain::access::Reach;
use crate::domain::assignment::{Assignment, Mode, Target};
use crate::domain::profile::{Kind, Profile, diff};
use crate::ids::{AssignmentId, ProfileId};
use crate::store::odata::Within;
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, assignments, audit, groups, profiles};
use crate::wire::odata::query::Query;

pub use crate::store::profiles::Dated;

/// How many assignments a profile has at most.
const MOST_ASSIGNMENTS: usize = 500;

/// Which profiles a set of the API has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All configurations.
    Configurations,
    /// Configurations that the settings catalogue has.
    Catalogue,
    /// Compliance policies.
    Policies,
}

impl Which {
    /// The kind of all of them.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Configurations | Self::Catalogue => Kind::Configuration,
            Self::Policies => Kind::Compliance,
        }
    }

    fn has(self, profile: &Profile) -> bool {
        profile.kind == self.kind() && (self != Self::Catalogue || profile.document.is_of_settings_catalogue(profile.platform))
    }
}

/// A page of profiles. Secrets in them are masked.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what profiles have not.
pub async fn page_profiles(
    app: &App,
    which: Which,
    query: &Query,
    reach: &Reach,
    limit: u32,
) -> std::result::Result<Found<Dated>, page::Error> {
    let sealer = app.sealer();
    let load = move |conn: &mut store::Conn, ids: &[String]| {
        let all = profiles::list_by_ids(conn, &sealer, ids)?.into_iter();
        Ok(all.map(masked).map(|dated| (dated.profile.id.to_string(), dated)).collect())
    };
    let mut within = page::within(reach);
    within.push(Within::Equal("t.kind", which.kind().to_string()));
    let set = if which == Which::Catalogue { &profiles::CATALOGUE } else { &profiles::SET };
    find(app, set, query, within, limit, load).await
}

fn masked(mut dated: Dated) -> Dated {
    dated.profile.document = dated.profile.document.masked(catalogue());
    dated
}

/// The profile of that id in a set; secrets in it are masked.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find_profile(app: &App, which: Which, id: &str) -> Result<Dated> {
    let id = ProfileId::parse(id).ok_or(Error::NotFound("profile"))?;
    let sealer = app.sealer();
    let found = app.store.look_up(move |conn| profiles::list_by_ids(conn, &sealer, &[id.to_string()])).await?.pop();
    found.filter(|dated| which.has(&dated.profile)).map(masked).ok_or(Error::NotFound("profile"))
}

/// Changes a profile that was seen as `seen`: `change` gets it as it is, with its secrets, and gives back the draft that takes its place, or
/// says what is wrong. The same content is no new version.
///
/// # Errors
/// A `PRF` refusal that names the place, and those of `change`; [`Error::NotFound`]; [`Error::Conflict`] when somebody else was faster.
pub async fn change<E: From<Error>>(
    app: &App,
    seen: &Profile,
    change: impl FnOnce(Profile) -> std::result::Result<Draft, E>,
    by: &By,
) -> std::result::Result<(), E> {
    let (wanted, sealer) = (seen.id.clone(), app.sealer());
    let read = app.store.read(move |conn| profiles::load_profile(conn, &sealer, &wanted)).await;
    let before = read.map_err(Error::from).map_err(E::from)?;
    let shown = (seen.version, seen.display_name.clone());
    let draft = change(before)?;
    update(app, &seen.id, shown, draft, by).await.map_err(E::from)
}

/// Makes a profile.
///
/// # Errors
/// A `PRF` refusal that names the place; `PRF0011` when the name is taken.
pub async fn create(app: &App, draft: Draft, by: &By) -> Result<ProfileId> {
    check(app, &draft)?;
    let profile = Profile {
        id: ProfileId::new(),
        display_name: draft.display_name,
        kind: draft.kind,
        platform: draft.platform,
        version: 1,
        document: draft.document,
    };
    let (row, by, now, sealer) = (profile.clone(), by.clone(), app.now(), app.sealer());
    app.store
        .write(move |tx| {
            profiles::insert_profile(tx, &sealer, &row, now)?;
            audit::append(tx, &by.entry("profile.create", format!("profile:{}", row.id)).after(&shown(&row)), now)
        })
        .await?;
    Ok(profile.id)
}

/// Puts a draft in the place of a profile of the same kind and platform that had that version and name, whatever it is to be called.
async fn update(app: &App, id: &ProfileId, seen: (i64, String), draft: Draft, by: &By) -> Result<()> {
    check(app, &draft)?;
    let (id, by, now, push, sealer) = (id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config), app.sealer());
    app.store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            let before = profiles::load_profile(tx.conn(), &sealer, &id)?;
            if before.kind != draft.kind || before.platform != draft.platform {
                return Err(store::Error::NotFound);
            }
            if seen != (before.version, before.display_name.clone()) {
                return Err(store::Error::Conflict("it was changed meanwhile; read it again".into()));
            }
            let mut profile = Profile { display_name: draft.display_name.clone(), document: draft.document.clone(), ..before.clone() };
            if diff(&before.document, &profile.document).is_empty() {
                if before.display_name == profile.display_name {
                    return Ok(());
                }
                profiles::update_name(tx, &id, &profile.display_name, now)?;
            } else {
                profile.version = profiles::update_profile(tx, &sealer, &profile, now)?;
                recompute_in(tx, Changed::Profile(&id), push, now)?;
            }
            let entry = by.entry("profile.update", format!("profile:{id}")).before(&shown(&before)).after(&shown(&profile));
            audit::append(tx, &entry, now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// Whom a profile is for.
///
/// # Errors
/// When the database fails.
pub async fn assignments_of(app: &App, id: &ProfileId) -> Result<Vec<Assignment>> {
    let id = id.clone();
    Ok(app.store.read(move |conn| assignments::list_assignments(conn, &id)).await?)
}

/// Whom these profiles are for.
///
/// # Errors
/// When the database fails.
pub async fn assignments_of_all(app: &App, ids: Vec<String>) -> Result<Vec<Assignment>> {
    Ok(app.store.read(move |conn| assignments::list_of_profiles(conn, &ids)).await?)
}

/// Puts these assignments in the place of those that a profile has. Whoever is bound to groups changes those to these groups only.
///
/// # Errors
/// `ACC0014` for what is beyond the caller's reach; `ACC0007` when a group does not exist; [`Error::NotFound`].
pub async fn assign(app: &App, id: &ProfileId, wanted: Vec<(Mode, Target)>, reach: &Reach, by: &By) -> Result<Vec<Assignment>> {
    if wanted.len() > MOST_ASSIGNMENTS {
        return Err(Refusal::ProfileTooLarge.into());
    }
    let within = |target: &Target, reach: &Reach| match (target, reach) {
        (_, Reach::All) => true,
        (Target::Group(group), Reach::Groups(groups)) => groups.contains(group),
        _ => false,
    };
    let (id, by, now, push, reach) = (id.clone(), by.clone(), app.now(), push::wns::enabled(&app.config), reach.clone());
    let stored = app
        .store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            profiles::find_name(tx.conn(), &id)?.ok_or(store::Error::NotFound)?;
            let known = assignments::list_assignments(tx.conn(), &id)?;
            let gone: Vec<&Assignment> =
                known.iter().filter(|one| !wanted.iter().any(|(mode, target)| *mode == one.mode && *target == one.target)).collect();
            let fresh: Vec<&(Mode, Target)> = wanted
                .iter()
                .enumerate()
                .filter(|(at, one)| wanted.iter().position(|first| first == *one) == Some(*at))
                .map(|(_, one)| one)
                .filter(|(mode, target)| !known.iter().any(|one| one.mode == *mode && one.target == *target))
                .collect();
            let moved = gone.iter().map(|one| &one.target).chain(fresh.iter().map(|(_, target)| target));
            if moved.into_iter().any(|target| !within(target, &reach)) {
                return Err(Refusal::AssignmentBeyondReach.into());
            }
            if gone.is_empty() && fresh.is_empty() {
                return Ok(known);
            }
            for one in &gone {
                assignments::delete_assignment(tx, &one.id)?;
            }
            for (mode, target) in fresh {
                if let Target::Group(group) = target {
                    // Who reads assignments and writes them back may name a group that was deleted meanwhile.
                    groups::load_group_or_deleted(tx.conn(), group).map_err(|error| match error {
                        store::Error::NotFound => Refusal::RoleGroupUnknown.into(),
                        other => other,
                    })?;
                }
                let one = Assignment { id: AssignmentId::new(), profile_id: id.clone(), mode: *mode, target: target.clone() };
                assignments::insert_assignment(tx, &one, now)?;
            }
            recompute_in(tx, Changed::Profile(&id), push, now)?;
            let after = assignments::list_assignments(tx.conn(), &id)?;
            let entry = by.entry("profile.assign", format!("profile:{id}"));
            audit::append(tx, &entry.before(&serde_json::json!(known)).after(&serde_json::json!(after)), now)?;
            Ok(after)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(stored)
}
