//! `muster export` and `muster apply`: what is managed as files in a folder under version control. The files are read and written here, where
//! the person is; what they come to is decided by the server.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::need::{self, Place};
use super::output::{self, is_unseen};
use super::who::Who;
use super::{Order, Way};
use crate::app::App;
use crate::domain::profile::Kind;
use crate::ids::GroupId;
use crate::service::files::{self, File, GroupFile, Mode, Plan, ProfileFile, Step, Wanted, What};
use crate::service::{Error, Result};

/// The folders below the one that is given.
const GROUPS: &str = "groups";
const POLICIES: &str = "policies";
const PROFILES: &str = "profiles";
/// Largest file that is read, in bytes.
const LARGEST: u64 = 4 * 1024 * 1024;
/// What all files may have together, in bytes: they are one order.
const LARGEST_FOLDER: u64 = 12 * 1024 * 1024;
/// The exit status of `--dry-run` when something would change.
const WOULD_CHANGE: u8 = 2;

/// Writing files.
#[derive(clap::Args, Debug)]
pub(super) struct Export {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// With the secrets of profiles, which are hidden otherwise; the audit log says who saw them
    #[arg(long)]
    secrets: bool,
    /// Writes into a folder that has other things in it, and takes files away that are of nothing any more
    #[arg(long)]
    force: bool,
}

/// Applying files.
#[derive(clap::Args, Debug)]
pub(super) struct Apply {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Only shows what would change: the exit status is 0 when nothing would, 2 when something would, 1 when a file is wrong
    #[arg(long)]
    dry_run: bool,
    /// Does not ask
    #[arg(long)]
    yes: bool,
    /// Deletes what no file has: groups (but those that give a role), profiles and policies
    #[arg(long)]
    prune: bool,
}

/// What a server is asked for it.
#[derive(Debug, Deserialize, Serialize)]
pub enum Command {
    /// Everything as files.
    Export {
        /// With secrets.
        secrets: bool,
    },
    /// What would change.
    Plan {
        /// The files.
        wanted: Box<Wanted>,
        /// Whether what no file has goes.
        prune: bool,
    },
    /// Changes it.
    Apply {
        /// The files.
        wanted: Box<Wanted>,
        /// Whether what no file has goes.
        prune: bool,
        /// Which plan was shown.
        fingerprint: String,
    },
}

impl Command {
    /// Whether it tells, by what differs, what secrets there are.
    pub(super) fn compares_secrets(&self) -> bool {
        matches!(self, Self::Plan { wanted, .. } if wanted.writes_secrets())
    }
}

/// What it needs to ask for it at another machine. What changes is asked for when it is known what does.
pub(super) fn place(command: &Command) -> Place {
    let [profiles, ..] = need::actions(Kind::Configuration);
    let [policies, ..] = need::actions(Kind::Compliance);
    let mut needs = vec![need::DIRECTORY_READ, profiles, policies];
    if matches!(command, Command::Export { secrets: true }) {
        needs.push(need::PROFILE_SECRETS_READ);
    }
    Place::Anywhere(needs)
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    let mode = |prune| Mode { prune, sees_secrets: who.check(need::PROFILE_SECRETS_READ).is_ok() };
    match command {
        Command::Export { secrets } => Ok(json!(files::export(app, secrets, &who.by).await?)),
        Command::Plan { wanted, prune } => Ok(json!(files::plan(app, &wanted, mode(prune)).await?)),
        Command::Apply { wanted, prune, fingerprint } => {
            let mode = mode(prune);
            if who.giver().is_some() {
                // The plan that is applied is this one, or nothing is: both have the fingerprint.
                let plan = files::plan(app, &wanted, mode).await?;
                if plan.fingerprint != fingerprint {
                    return Err(Error::Conflict("what the server has changed meanwhile; look at the plan again".into()));
                }
                for step in &plan.steps {
                    check(app, who, step).await?;
                }
            }
            Ok(json!(files::apply(app, &wanted, mode, &fingerprint, &who.by).await?))
        }
    }
}

/// Whether somebody at another machine may do that: as by the orders that do it one by one.
async fn check(app: &App, who: &Who, step: &Step) -> Result<()> {
    if step.what == What::NotInFiles {
        return Ok(());
    }
    let kind = match step.kind.as_str() {
        "group" => {
            who.check(need::GROUPS_WRITE)?;
            return match step.id.as_deref().and_then(GroupId::parse) {
                Some(group) => who.check_group(app, &group).await,
                None => Ok(()),
            };
        }
        "policy" => Kind::Compliance,
        _ => Kind::Configuration,
    };
    let [_, create, update, assign, delete] = need::actions(kind);
    match step.what {
        What::Create => who.check(create)?,
        What::Change if step.content => who.check(update)?,
        What::Delete => who.check(delete)?,
        What::Change | What::NotInFiles => {}
    }
    if step.assigned.is_empty() && step.unassigned.is_empty() { Ok(()) } else { who.check(assign) }
}

/// Writes the files of what the server has.
pub(super) async fn export(way: &mut Way, arguments: &Export) -> anyhow::Result<Value> {
    let folder = &arguments.folder;
    let there = look(folder, arguments.force)?;
    let answer = way.give(Order::Files(Command::Export { secrets: arguments.secrets })).await?;
    let files: Vec<File> = serde_json::from_value(answer).context("the server's answer")?;
    if let Some((path, _)) = files.iter().find(|(path, _)| !is_plain(path)) {
        anyhow::bail!("the server names a file that is none of an export: {:?}", path.chars().take(200).collect::<String>());
    }
    let named: BTreeSet<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    let left: Vec<&String> = there.iter().filter(|path| !named.contains(path.as_str())).collect();
    if let (Some(first), false) = (left.first(), arguments.force) {
        anyhow::bail!(
            "{}: nothing on the server has this file (of {} such); --force takes them away",
            folder.join(first).display(),
            left.len()
        );
    }
    let (mut written, mut hidden) = (0, Vec::new());
    for (path, text) in &files {
        if text.contains(crate::catalogue::payload::HIDDEN) {
            hidden.push(path);
        }
        if std::fs::read_to_string(folder.join(path)).ok().as_ref() != Some(text) {
            write(folder, path, text, arguments.secrets)?;
            written += 1;
        }
    }
    for path in &left {
        std::fs::remove_file(folder.join(path)).with_context(|| folder.join(path).display().to_string())?;
    }
    let mut answer = json!({ "folder": folder, "files": files.len(), "written": written, "taken_away": left.len() });
    if let (Some(fields), false) = (answer.as_object_mut(), hidden.is_empty()) {
        fields.insert("with_hidden_secrets".into(), json!(hidden));
        let note = "(secret) leaves a secret as the server has it; for another instance write the secret in its place, or export --secrets";
        fields.insert("note".into(), note.into());
    }
    Ok(answer)
}

/// Whether a path is one that an export writes.
fn is_plain(path: &str) -> bool {
    let Some((folder, file)) = path.split_once('/') else { return false };
    let stem = file.strip_suffix(".toml").unwrap_or_default();
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"._-%~".contains(&b);
    [GROUPS, POLICIES, PROFILES].contains(&folder) && !stem.is_empty() && !stem.starts_with('.') && stem.bytes().all(letters)
}

/// What an export finds in the folder: files of its own kind. Others are in the way, but hidden ones such as `.git`.
fn look(folder: &Path, force: bool) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    let refuse = |path: &Path| anyhow::bail!("{}: the folder has other things in it; choose an empty one, or say --force", path.display());
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_own = [GROUPS, POLICIES, PROFILES].contains(&name.as_str());
        if is_own && !entry.file_type()?.is_dir() {
            anyhow::bail!("{}: this is no folder (a link is not followed)", entry.path().display());
        }
        if !is_own {
            if !force && !name.starts_with('.') {
                refuse(&entry.path())?;
            }
            continue;
        }
        for file in std::fs::read_dir(entry.path())? {
            let file = file?;
            let path = format!("{name}/{}", file.file_name().to_string_lossy());
            if file.file_type()?.is_file() && is_plain(&path) {
                found.push(path);
            } else if file.file_type()?.is_symlink() {
                anyhow::bail!("{}: a link is not followed", file.path().display());
            } else if !force && !file.file_name().to_string_lossy().starts_with('.') {
                refuse(&file.path())?;
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a file as a whole or not at all.
fn write(folder: &Path, path: &str, text: &str, secret: bool) -> anyhow::Result<()> {
    let whole = folder.join(path);
    let named = || whole.display().to_string();
    let parent = whole.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent).with_context(named)?;
    let new = parent.join(format!(".{}.new", std::process::id()));
    let written = (|| {
        let mode = if secret { 0o600 } else { 0o644 };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &whole)
    })();
    if written.is_err() {
        drop(std::fs::remove_file(&new));
    }
    written.with_context(named)
}

/// Reads a folder: the files in it, or all that is wrong with them.
fn read(folder: &Path) -> std::result::Result<Wanted, Vec<String>> {
    let (mut wanted, mut wrong, mut total, mut any) = (Wanted::default(), Vec::new(), 0, false);
    for name in [GROUPS, PROFILES, POLICIES] {
        let below = folder.join(name);
        match std::fs::symlink_metadata(&below) {
            Ok(known) if known.is_dir() => any = true,
            Ok(_) => {
                wrong.push(format!("{name}: this is no folder (a link is not followed)"));
                continue;
            }
            Err(_) => continue,
        }
        let mut names = BTreeSet::new();
        match std::fs::read_dir(&below) {
            Ok(entries) => names.extend(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned())),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
        for file in names.iter().filter(|file| !file.starts_with('.')) {
            let path = format!("{name}/{file}");
            let text = match read_file(&below.join(file), &mut total) {
                Ok(text) => text,
                Err(why) => {
                    wrong.push(format!("{path}: {why}"));
                    continue;
                }
            };
            let read = if name == GROUPS {
                GroupFile::parse(&text).map(|file| wanted.groups.push((path.clone(), file)))
            } else {
                ProfileFile::parse(&text).and_then(|file| match (file.kind, name == POLICIES) {
                    (Kind::Configuration, true) => Err("a configuration profile belongs into profiles/".to_owned()),
                    (Kind::Compliance, false) => Err("a compliance policy belongs into policies/".to_owned()),
                    _ => {
                        wanted.profiles.push((path.clone(), file));
                        Ok(())
                    }
                })
            };
            if let Err(why) = read {
                wrong.push(format!("{path}: {why}"));
            }
        }
    }
    if !any && wrong.is_empty() {
        wrong.push(format!("{}: there is neither {GROUPS} nor {PROFILES} nor {POLICIES} in it", folder.display()));
    }
    if wrong.is_empty() { Ok(wanted) } else { Err(wrong) }
}

fn read_file(path: &Path, total: &mut u64) -> std::result::Result<String, String> {
    let fail = |error: std::io::Error| error.to_string();
    let known = std::fs::symlink_metadata(path).map_err(fail)?;
    if !known.is_file() {
        return Err("this is no plain file (a link is not followed)".into());
    }
    if path.extension().is_none_or(|ending| ending != "toml") {
        return Err("this is no .toml".into());
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(fail)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(fail)?;
    let length = bytes.len() as u64;
    *total += length;
    if length > LARGEST {
        return Err(format!("longer than {LARGEST} bytes"));
    }
    if *total > LARGEST_FOLDER {
        return Err(format!("with it all files are longer than {LARGEST_FOLDER} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "this is no UTF-8".into())
}

/// Applies the files of a folder.
pub(super) async fn apply(way: &mut Way, arguments: &Apply, json: bool) -> anyhow::Result<ExitCode> {
    let wrong = |all: Vec<String>| {
        if json {
            println!("{:#}", json!({ "errors": all }));
        } else {
            all.iter().for_each(|one| eprintln!("error: {}", tame(one)));
        }
        Ok(ExitCode::FAILURE)
    };
    let wanted = match read(&arguments.folder) {
        Ok(wanted) => Box::new(wanted),
        Err(all) => return wrong(all),
    };
    let prune = arguments.prune;
    let answer = way.give(Order::Files(Command::Plan { wanted: wanted.clone(), prune })).await?;
    let plan: Plan = serde_json::from_value(answer).context("the server's answer")?;
    if !plan.errors.is_empty() {
        return wrong(plan.errors.iter().map(|fault| format!("{}: {}", fault.file, fault.text)).collect());
    }
    let show = |result: &str| {
        let shown = json!({ "result": result, "steps": plan.steps });
        output::print(&shown, Some(render as output::View).filter(|_| !json))
    };
    if !plan.changes() {
        show("nothing to change")?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.dry_run {
        show("this would change; --dry-run changes nothing")?;
        return Ok(ExitCode::from(WOULD_CHANGE));
    }
    if !arguments.yes {
        anyhow::ensure!(std::io::stdin().is_terminal(), "say --yes where nobody can be asked (and --dry-run to see what would change)");
        show("this would change")?;
        eprint!("Apply it? [y/N] ");
        std::io::stderr().flush()?;
        let mut line = String::new();
        std::io::stdin().lock().take(64).read_line(&mut line)?;
        anyhow::ensure!(["y", "yes"].contains(&line.trim().to_lowercase().as_str()), "nothing was changed");
    }
    let order = Command::Apply { wanted, prune, fingerprint: plan.fingerprint.clone() };
    way.give(Order::Files(order)).await?;
    if arguments.yes {
        show("applied")?;
    } else {
        eprintln!("applied");
    }
    Ok(ExitCode::SUCCESS)
}

/// A text as it may stand on a terminal.
fn tame(text: &str) -> String {
    text.chars().map(|c| if is_unseen(c) && c != '\n' { ' ' } else { c }).collect()
}

/// A plan for people.
fn render(answer: &Value, _: Option<usize>) -> String {
    let steps: Vec<Step> = answer.get("steps").cloned().and_then(|steps| serde_json::from_value(steps).ok()).unwrap_or_default();
    let mut shown = String::new();
    for step in &steps {
        let word = match step.what {
            What::Create => "create",
            What::Change => "change",
            What::Delete => "delete",
            What::NotInFiles => "not in the files, and stays:",
        };
        let file = step.file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
        shown.push_str(&tame(&format!("{word} {} {}{file}\n", step.kind, step.name)));
        for line in &step.diff {
            shown.push_str(&tame(&format!("    {line}\n")));
        }
        for (mark, whom) in [("+", &step.assigned), ("-", &step.unassigned)] {
            for one in whom {
                shown.push_str(&tame(&format!("  {mark} assigned to {one}\n")));
            }
        }
        for remark in &step.remarks {
            shown.push_str(&tame(&format!("  ! {remark}\n")));
        }
    }
    let count = |what: What| steps.iter().filter(|step| step.what == what).count();
    let (create, change, delete) = (count(What::Create), count(What::Change), count(What::Delete));
    if create + change + delete > 0 {
        shown.push_str(&format!("\n{create} to create, {change} to change, {delete} to delete\n"));
    }
    shown.push_str(answer.get("result").and_then(Value::as_str).unwrap_or_default());
    shown.push('\n');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_server_writes_outside_the_folder() {
        for path in ["groups/a.toml", "profiles/A-b_%2E.toml", "policies/x~0.toml"] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "../a.toml",
            "/etc/a.toml",
            "groups/../../a.toml",
            "groups/.a.toml",
            "groups/a",
            "other/a.toml",
            "groups/.toml",
            "groups/a/b.toml",
            "a.toml",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
