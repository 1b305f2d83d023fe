//! `muster role`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::find;
use super::who::Who;
use crate::app::App;
use crate::domain::access::{Action, Assignment, BUILT_IN, Principal, Reach, Role};
use crate::ids::RoleAssignmentId;
use crate::service::role;
use crate::service::{Error, Result};
use crate::store::roles;

/// How many assignments are listed at most.
const MANY: i64 = 1000;

/// What is done to roles.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Shows the roles
    List,
    /// Shows what a role allows and who has it
    Show {
        /// Name or id; `read-only`, `helpdesk`, `policy-manager`, `certificate-manager` and `administrator` come with the product
        role: String,
    },
    /// Makes a role
    Create {
        /// Its name
        name: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// A resource action that it allows; may be repeated. `muster role show administrator` shows all
        #[arg(long = "allow", required = true, value_name = "ACTION")]
        actions: Vec<String>,
    },
    /// Deletes a role that nobody has
    Delete {
        /// Name or id
        role: String,
    },
    /// Gives a role to somebody
    Assign(Give),
    /// Takes an assignment away
    Unassign {
        /// Its id, as `muster role show` names it
        assignment: String,
    },
}

/// Who gets which role where.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
#[command(group(clap::ArgGroup::new("who").required(true).multiple(true)))]
pub struct Give {
    /// Name or id of the role
    role: String,
    /// A user: name or id; may be repeated
    #[arg(long, value_name = "UPN|ID", group = "who")]
    user: Vec<String>,
    /// Everybody in a group: name or id; may be repeated
    #[arg(long, value_name = "GROUP", group = "who")]
    group: Vec<String>,
    /// Only for the users and devices of a group: name or id; may be repeated. Without it, for all
    #[arg(long, value_name = "GROUP")]
    reach: Vec<String>,
    /// What the assignment is called; default: the role's name
    #[arg(long)]
    name: Option<String>,
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    let by = &who.by;
    match command {
        Command::List => Ok(role::list(app).await?.iter().map(show).collect()),
        Command::Show { role } => {
            let found = find::role(app, &role).await?;
            let wanted = found.id.clone();
            let assignments = app.store.read(move |conn| roles::list_assignments(conn, Some(&wanted), "", MANY)).await?;
            let mut answer = show(&found);
            if let Some(answer) = answer.as_object_mut() {
                answer.insert("actions".into(), found.actions().map(Action::as_str).collect());
                answer.insert("assignments".into(), assignments.iter().map(show_assignment).collect());
            }
            Ok(answer)
        }
        Command::Create { name, description, actions } => {
            let actions = role::read_actions(actions.iter().map(String::as_str))?;
            Ok(show(&role::create(app, &name, &description, actions, who.giver(), by).await?))
        }
        Command::Delete { role } => {
            let found = find::role(app, &role).await?;
            role::delete(app, &found.id, who.giver(), by).await?;
            Ok(json!({ "deleted": found.id }))
        }
        Command::Assign(give) => {
            let found = find::role(app, &give.role).await?;
            let mut assignment = Assignment {
                id: RoleAssignmentId::new(),
                role: found.id,
                display_name: give.name.unwrap_or(found.display_name),
                description: String::new(),
                members: std::collections::BTreeSet::new(),
                reach: Reach::All,
            };
            for user in &give.user {
                assignment.members.insert(Principal::User(find::user(app, user).await?.id));
            }
            for group in &give.group {
                assignment.members.insert(Principal::Group(find::group(app, group).await?.id));
            }
            if !give.reach.is_empty() {
                let mut groups = std::collections::BTreeSet::new();
                for group in &give.reach {
                    groups.insert(find::group(app, group).await?.id);
                }
                assignment.reach = Reach::Groups(groups);
            }
            Ok(show_assignment(&role::assign(app, assignment, who.giver(), by).await?))
        }
        Command::Unassign { assignment } => {
            let id = RoleAssignmentId::parse(&assignment).ok_or_else(|| Error::Unknown(format!("an assignment \"{assignment}\"")))?;
            role::unassign(app, &id, who.giver(), by).await?;
            Ok(json!({ "unassigned": id }))
        }
    }
}

fn show(role: &Role) -> Value {
    let word = BUILT_IN.iter().find(|known| known.id == role.id.as_str()).map(|known| known.word);
    json!({ "id": role.id, "role": word, "name": role.display_name, "description": role.description, "built_in": role.built_in })
}

fn show_assignment(assignment: &Assignment) -> Value {
    let member = |principal: &Principal| match principal {
        Principal::User(id) => format!("user:{id}"),
        Principal::Group(id) => format!("group:{id}"),
        Principal::Application(id) => format!("application:{id}"),
    };
    let reach = match &assignment.reach {
        Reach::All => json!("all"),
        Reach::Groups(groups) => json!(groups),
    };
    json!({
        "id": assignment.id,
        "name": assignment.display_name,
        "role": assignment.role,
        "members": assignment.members.iter().map(member).collect::<Vec<_>>(),
        "reach": reach,
    })
}
