//! `muster profile` and `muster policy`: configuration profiles and compliance policies are handled alike.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settings::Settings;
use super::who::Who;
use super::{find, page};
use crate::app::App;
use crate::catalogue::meant;
use crate::domain::assignment::{Assignment, Mode, Target};
use crate::domain::compliance::Status;
use crate::domain::profile::{Kind, Profile};
use crate::ids::ProfileId;
use crate::service::directory::By;
use crate::service::profile::{self, Draft};
use crate::service::{Error, Result};
use crate::store::{self, assignments, compliance, desired_items, groups, profiles};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// What is done to profiles.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Shows them
    List {
        /// Those that come after this name
        #[arg(long, default_value = "", value_name = "NAME")]
        after: String,
        /// How many at most
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    #[command(flatten)]
    Known(Known),
    /// Shows one: what it says, whom it is for, and how far the devices have got
    Show {
        /// Name, id, or name of the ready one
        profile: String,
        /// With its secrets, which are hidden otherwise; the audit log says who saw them
        #[arg(long)]
        secrets: bool,
    },
    /// Makes one, or changes the one of that name, from a TOML or JSON file or a ready one
    Apply {
        /// A file, or the name of a ready one
        #[arg(value_name = "FILE|READY", value_parser = read_draft)]
        draft: Box<Draft>,
    },
    /// Gives one another name
    Rename {
        /// Name, id, or name of the ready one
        profile: String,
        /// The other name
        name: String,
    },
    /// Says for whom one is
    Assign(Assign),
    /// Takes an assignment back
    Unassign(Assign),
    /// Prints one as the file that apply reads
    Export {
        /// Name, id, or name of the ready one
        profile: String,
        /// With its secrets, which are hidden otherwise; the audit log says who saw them
        #[arg(long)]
        secrets: bool,
    },
    /// Deletes one; devices that have it are told to drop it
    Delete {
        /// Name, id, or name of the ready one
        profile: String,
    },
}

/// What the program knows by itself, without an instance.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Known {
    /// Shows the ready ones that come with the program
    Ready,
    /// Shows what they can say: each setting with its values, where it exists and since when
    Settings(Settings),
}

impl Known {
    /// Shows it.
    pub(super) fn show(&self, kind: Kind) -> Result<Value> {
        match self {
            Self::Settings(settings) => Ok(settings.list(kind)),
            Self::Ready => {
                let ready = profile::ready()?.into_iter().filter(|(_, draft)| draft.kind == kind);
                let row = |(file, draft): (String, Draft)| {
                    let (name, platform, description) = (draft.display_name, draft.platform, draft.document.description);
                    json!({ "ready": stem(&file), "name": name, "platform": platform, "description": description })
                };
                Ok(Value::Array(ready.map(row).collect()))
            }
        }
    }
}

/// For whom.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
#[command(group(clap::ArgGroup::new("whom").required(true)))]
pub struct Assign {
    /// Name, id, or name of the ready one
    profile: String,
    /// The members of this group: its devices, and the devices of its users
    #[arg(long, value_name = "NAME|ID", group = "whom")]
    group: Option<String>,
    /// Every device
    #[arg(long, group = "whom")]
    all_devices: bool,
    /// Every device that has a user
    #[arg(long, group = "whom")]
    all_users: bool,
    /// Not for them, whatever else is assigned
    #[arg(long)]
    exclude: bool,
}

impl Assign {
    async fn find(&self, app: &App) -> Result<(Mode, Target)> {
        let target = match &self.group {
            Some(group) => Target::Group(find::group(app, group).await?.id),
            None if self.all_users => Target::AllUsers,
            None => Target::AllDevices,
        };
        Ok((if self.exclude { Mode::Exclude } else { Mode::Include }, target))
    }
}

/// The file is read here, because the order may be carried out by another process.
fn read_draft(name: &str) -> std::result::Result<Box<Draft>, String> {
    let path = std::path::Path::new(name);
    if !path.exists() {
        let mut ready = profile::ready().map_err(|e| e.to_string())?;
        if let Some(at) = ready.iter().position(|(file, _)| stem(file) == name) {
            return Ok(Box::new(ready.swap_remove(at).1));
        }
        let names: Vec<&str> = ready.iter().map(|(file, _)| stem(file)).collect();
        return Err(format!("{}neither a file nor one of {}", meant(name, names.iter().copied()), names.join(", ")));
    }
    let length = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if length > LARGEST {
        return Err(format!("longer than {LARGEST} bytes"));
    }
    if path.extension().is_some_and(|ending| ending == "mobileconfig") {
        return Err(
            "a profile of Apple's kind stands in the content of a payload of type mobileconfig: docs/apple-profiles.md has one".into()
        );
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    Draft::parse(&text).map(Box::new)
}

/// What the ready profile of that name calls itself.
pub(super) fn ready_name(text: &str) -> Result<Option<String>> {
    Ok(profile::ready()?.into_iter().find(|(file, _)| stem(file) == text).map(|(_, draft)| draft.display_name))
}

fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".toml").unwrap_or(name)
}

pub(super) async fn run(app: &App, kind: Kind, command: Command, who: &Who) -> Result<Value> {
    let by = &who.by;
    match command {
        Command::List { after, limit } => list(app, kind, after, limit).await,
        Command::Known(known) => known.show(kind),
        Command::Show { profile, secrets } => show(app, &find::profile(app, &profile, kind).await?, secrets, by).await,
        Command::Apply { draft } => {
            if draft.kind != kind {
                let (is, by) =
                    if draft.kind == Kind::Compliance { ("compliance policy", "policy") } else { ("configuration profile", "profile") };
                return Err(Error::Conflict(format!("{} is a {is}: use muster {by} apply", draft.display_name)));
            }
            let applied = profile::apply(app, *draft, by).await?;
            let changes: Vec<&str> = applied.changes.iter().map(|change| change.at.as_str()).collect();
            Ok(json!({
                "id": applied.profile.id,
                "name": applied.profile.display_name,
                "version": applied.profile.version,
                "result": if applied.created { "created" } else if changes.is_empty() { "unchanged" } else { "changed" },
                "changed": changes,
                "remarks": applied.remarks,
            }))
        }
        Command::Rename { profile, name } => {
            let found = find::profile(app, &profile, kind).await?;
            profile::rename(app, &found.id, &name, by).await?;
            Ok(json!({ "id": found.id, "name": name }))
        }
        Command::Assign(to) => {
            let found = find::profile(app, &to.profile, kind).await?;
            let (mode, target) = to.find(app).await?;
            profile::assign(app, &found.id, mode, target.clone(), by).await?;
            let twice = assigned(app, &found.id).await?.iter().any(|other| other.mode != mode && other.target == target);
            let mut shown = show(app, &found, false, by).await?;
            if let Some(fields) = shown.as_object_mut().filter(|_| twice) {
                let order = if kind == Kind::Compliance { "policy" } else { "profile" };
                let remark = format!(
                    "it is included and excluded for the same devices: the exclusion goes before, and none of them gets it; take one back \
                     by muster {order} unassign"
                );
                fields.insert("remarks".into(), json!([remark]));
            }
            Ok(shown)
        }
        Command::Unassign(to) => {
            let found = find::profile(app, &to.profile, kind).await?;
            let (mode, target) = to.find(app).await?;
            let other_way = assigned(app, &found.id).await?.iter().any(|other| other.mode != mode && other.target == target);
            profile::unassign(app, &found.id, mode, target, by).await.map_err(|error| match error {
                Error::NotFound(_) if other_way => {
                    let (is, how) = if mode == Mode::Include { ("excluded", "add") } else { ("included", "leave out") };
                    Error::Unknown(format!("such an assignment of \"{}\": it is {is} for them; {how} --exclude", found.display_name))
                }
                Error::NotFound(_) => Error::Unknown(format!(
                    "such an assignment of \"{0}\"; those that there are: muster {1} show \"{0}\"",
                    found.display_name,
                    if kind == Kind::Compliance { "policy" } else { "profile" }
                )),
                other => other,
            })?;
            show(app, &found, false, by).await
        }
        Command::Export { profile, secrets } => {
            Ok(profile::export(app, &find::profile(app, &profile, kind).await?.id, secrets, by).await?.into())
        }
        Command::Delete { profile } => {
            let found = find::profile(app, &profile, kind).await?;
            profile::delete(app, &found.id, by).await?;
            Ok(json!({ "deleted": found.display_name }))
        }
    }
}

async fn assigned(app: &App, id: &ProfileId) -> Result<Vec<Assignment>> {
    let id = id.clone();
    Ok(app.store.read(move |conn| assignments::list_assignments(conn, &id)).await?)
}

async fn list(app: &App, kind: Kind, mut after: String, limit: i64) -> Result<Value> {
    let mut rows = Vec::new();
    let wanted = usize::try_from(page::probe(limit)).unwrap_or_default();
    loop {
        let (from, sealer) = (after.clone(), app.sealer());
        let found = app.store.read(move |conn| profiles::list_profiles(conn, &sealer, &from, limit)).await?;
        let Some(last) = found.last() else { break };
        after.clone_from(&last.display_name);
        let of_kind = found.iter().filter(|profile| profile.kind == kind);
        rows.extend(of_kind.map(|p| json!({ "id": p.id, "name": p.display_name, "platform": p.platform, "version": p.version })));
        if rows.len() >= wanted {
            break;
        }
    }
    Ok(page::cut(rows, limit, page::after("name")))
}

async fn show(app: &App, profile: &Profile, secrets: bool, by: &By) -> Result<Value> {
    let profile = profile::read(app, &profile.id, secrets, by).await?;
    let (id, kind) = (profile.id.clone(), profile.kind);
    let (assigned, devices) = app
        .store
        .read(move |conn| {
            let assigned = assignments::list_assignments(conn, &id)?;
            let assigned = assigned.iter().map(|a| show_assignment(conn, a)).collect::<store::Result<Vec<_>>>()?;
            Ok((assigned, count_devices(conn, kind, &id)?))
        })
        .await?;
    Ok(json!({
        "id": profile.id,
        "name": profile.display_name,
        "kind": profile.kind,
        "platform": profile.platform,
        "version": profile.version,
        "description": profile.document.description,
        "document": profile.document,
        "assignments": assigned,
        "devices": devices,
    }))
}

/// How far the devices have got with a profile, or how a policy judges them.
fn count_devices(conn: &mut store::Conn, kind: Kind, id: &ProfileId) -> store::Result<Vec<Value>> {
    match kind {
        Kind::Configuration => {
            let counts = desired_items::count_by_state(conn, id)?;
            Ok(counts.iter().map(|(state, count)| json!({ "state": state, "devices": count })).collect())
        }
        Kind::Compliance => {
            let counts = compliance::count_by_policy(conn, id)?;
            let status = |status: &Option<Status>| status.map_or("notJudged", Status::as_str);
            Ok(counts.iter().map(|(judged, count)| json!({ "status": status(judged), "devices": count })).collect())
        }
    }
}

fn show_assignment(conn: &mut store::Conn, assignment: &Assignment) -> store::Result<Value> {
    let target = match &assignment.target {
        Target::AllDevices => "all devices".to_owned(),
        Target::AllUsers => "all users".to_owned(),
        Target::Group(id) => format!("group {}", groups::load_group_or_deleted(conn, id)?.display_name),
    };
    Ok(json!({ "mode": assignment.mode, "target": target }))
}
