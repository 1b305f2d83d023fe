//! `muster group`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::who::Who;
use super::{find, page};
use crate::app::App;
use crate::domain::group::{Group, Member};
use crate::service::directory;
use crate::service::{Error, Result};
use crate::store::{self, devices, groups, users};

/// How many members are shown at most.
const MANY: i64 = 1000;

/// What is done to groups.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Shows the groups
    List {
        /// Those that come after this name
        #[arg(long, default_value = "", value_name = "NAME")]
        after: String,
        /// How many at most
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Shows a group and its members
    Show {
        /// Name or id
        group: String,
    },
    /// Makes a group
    Create {
        /// Its name
        name: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// A rule that says who belongs to it, such as 'user.department -eq "Sales"'
        #[arg(long)]
        rule: Option<String>,
    },
    /// Changes the rule of a group, and so its members
    Rule {
        /// Name or id
        group: String,
        /// The new rule; an empty one ends it, and those stay who belong to the group
        rule: String,
    },
    /// Shows of whom a rule would be true
    TestRule {
        /// The rule
        rule: String,
    },
    /// Deletes a group, which can be restored for 30 days; what is assigned to it reaches nobody
    Delete {
        /// Name or id
        group: String,
    },
    /// Makes the groups of a table (CSV), and adds their members: all of them, or none
    Import(super::import::Import),
    /// Adds members
    Add(Members),
    /// Takes members out
    Remove(Members),
}

/// Who is to be added or taken out.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
#[command(group(clap::ArgGroup::new("who").required(true).multiple(true)))]
pub struct Members {
    /// Name or id of the group
    group: String,
    /// A user: name or id; may be repeated
    #[arg(long, value_name = "UPN|ID", group = "who")]
    user: Vec<String>,
    /// A device: id, name or serial number; may be repeated
    #[arg(long, value_name = "DEVICE", group = "who")]
    device: Vec<String>,
}

impl Members {
    async fn find(&self, app: &App) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        for user in &self.user {
            members.push(Member::User(find::user(app, user).await?.id));
        }
        for device in &self.device {
            members.push(Member::Device(find::device(app, device).await?.id));
        }
        Ok(members)
    }
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    let by = &who.by;
    match command {
        Command::List { after, limit } => {
            let found = app.store.read(move |conn| groups::list_groups(conn, &after, page::probe(limit))).await?;
            Ok(page::cut(found.iter().map(|group| json!(group)).collect(), limit, page::after("display_name")))
        }
        Command::Show { group } => show(app, &group).await,
        Command::Create { name, description, rule } => {
            if crate::ids::GroupId::parse(&name).is_some() {
                return Err(Error::Conflict("a name that looks like an id would name another group".into()));
            }
            Ok(json!(directory::create_group_by_rule(app, &name, &description, rule, by).await?))
        }
        Command::Rule { group, rule } => {
            who.check_group(app, &find::group(app, &group).await?.id).await?;
            let group = Group { rule: Some(rule).filter(|rule| !rule.is_empty()), ..find::group(app, &group).await? };
            directory::update_group(app, group.clone(), by).await?;
            show(app, group.id.as_str()).await
        }
        Command::TestRule { rule } => {
            let (members, more) = directory::rules::test(app, &rule, MANY).await?;
            let shown = app
                .store
                .read(move |conn| members.iter().map(|member| show_member(conn, member)).collect::<store::Result<Vec<_>>>())
                .await?;
            Ok(json!({ "members": shown, "more": more }))
        }
        Command::Delete { group } => {
            let group = find::group(app, &group).await?;
            who.check_group(app, &group.id).await?;
            directory::delete_group(app, &group.id, by).await?;
            Ok(json!({ "deleted": group.display_name }))
        }
        Command::Import(import) => import.groups(app, by).await,
        Command::Add(members) => {
            let group = find::group(app, &members.group).await?;
            who.check_group(app, &group.id).await?;
            let added = directory::add_members(app, &group.id, members.find(app).await?, by).await?;
            Ok(json!({ "group": group.display_name, "added": added }))
        }
        Command::Remove(members) => {
            let group = find::group(app, &members.group).await?;
            who.check_group(app, &group.id).await?;
            let removed = directory::remove_members(app, &group.id, members.find(app).await?, by).await?;
            Ok(json!({ "group": group.display_name, "removed": removed }))
        }
    }
}

async fn show(app: &App, group: &str) -> Result<Value> {
    let group = find::group(app, group).await?;
    let id = group.id.clone();
    let members = app
        .store
        .read(move |conn| {
            let members = groups::list_members(conn, &id, ("", ""), MANY)?;
            members.iter().map(|member| show_member(conn, member)).collect::<store::Result<Vec<_>>>()
        })
        .await?;
    Ok(json!({ "id": group.id, "name": group.display_name, "description": group.description, "rule": group.rule, "members": members }))
}

fn show_member(conn: &mut store::Conn, member: &Member) -> store::Result<Value> {
    let (kind, id, name) = match member {
        Member::User(id) => ("user", id.as_str(), users::load_user(conn, id)?.upn),
        Member::Device(id) => ("device", id.as_str(), devices::load_device(conn, id)?.display_name),
    };
    Ok(json!({ "kind": kind, "name": name, "id": id }))
}
