//! `muster deleted`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::need;
use super::who::Who;
use crate::app::App;
use crate::domain::access::{Need, Reach};
use crate::service::Result;
use crate::service::directory::deleted::{self, Deleted};
use crate::service::page::Error;
use crate::wire::odata::query::Query;

/// What is done to users and groups that are deleted.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Shows the users and the groups that can be restored
    List {
        /// How many of each at most
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Restores a user or a group
    Restore {
        /// Id
        id: String,
    },
    /// Deletes a user or a group for good
    Purge {
        /// Id
        id: String,
    },
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    let by = &who.by;
    match command {
        Command::List { limit } => {
            let asked = Query::default();
            let plain = |error| match error {
                Error::Service(error) => error,
                Error::Wrong(wrong) => crate::service::Error::internal(wrong),
                Error::Resync => crate::service::Error::NotFound("place"),
            };
            let users = deleted::page_users(app, &asked, &Reach::All, limit).await.map_err(plain)?;
            let groups = deleted::page_groups(app, &asked, &Reach::All, limit).await.map_err(plain)?;
            let more = users.next.is_some() || groups.next.is_some();
            Ok(json!({
                "users": users.objects.iter().map(row).collect::<Vec<_>>(),
                "groups": groups.objects.iter().map(row).collect::<Vec<_>>(),
                "more": more,
            }))
        }
        Command::Restore { id } => {
            let found = deleted::find_deleted(app, &id).await?;
            who.check(needs_of(&found))?;
            match &found {
                Deleted::User(user, ..) => deleted::restore_user(app, &user.id, by).await?,
                Deleted::Group(group, ..) => deleted::restore_group(app, &group.id, by).await?,
            }
            Ok(json!({ "restored": name(&found) }))
        }
        Command::Purge { id } => {
            let found = deleted::find_deleted(app, &id).await?;
            who.check(needs_of(&found))?;
            match &found {
                Deleted::User(user, ..) => deleted::purge_user(app, &user.id, by).await?,
                Deleted::Group(group, ..) => deleted::purge_group(app, &group.id, by).await?,
            }
            Ok(json!({ "purged": name(&found) }))
        }
    }
}

/// What it needs to do something to an object of that kind.
fn needs_of(object: &Deleted) -> Need {
    if matches!(object, Deleted::User(..)) { need::USERS_WRITE } else { need::GROUPS_WRITE }
}

fn name(object: &Deleted) -> &str {
    match object {
        Deleted::User(user, ..) => &user.upn,
        Deleted::Group(group, ..) => &group.display_name,
    }
}

fn row(object: &Deleted) -> Value {
    let (id, gone) = match object {
        Deleted::User(user, _, gone) => (user.id.as_str(), gone),
        Deleted::Group(group, _, gone) => (group.id.as_str(), gone),
    };
    json!({ "id": id, "name": name(object), "deleted_at": gone.to_string() })
}
