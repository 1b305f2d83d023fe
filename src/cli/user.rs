//! `muster user`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::who::Who;
use super::{find, page};
use crate::app::App;
use crate::clock::MINUTE;
use crate::domain::tap::Policy;
use crate::domain::user::{self, User};
use crate::ids::UserId;
use crate::service::directory;
use crate::service::identity::{break_glass, policy, sign_in, tap};
use crate::service::{Result, device, role};
use crate::store::{devices::Filter, roles, users};

/// What is done to users.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Shows the users
    List {
        /// Those that come after this user name
        #[arg(long, default_value = "", value_name = "UPN")]
        after: String,
        /// How many at most
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Shows a user and the user's devices
    Show {
        /// User principal name or id
        user: String,
    },
    /// Adds a user
    Create(Box<Create>),
    /// Changes what is known of a user; what is not named stays
    Change(Box<Change>),
    /// Lets a user sign in again
    Enable {
        /// User principal name or id
        user: String,
    },
    /// Lets a user sign in no more; the user's devices stop being compliant
    Disable {
        /// User principal name or id
        user: String,
    },
    /// Deletes a user, who can be restored for 30 days; the user's devices stay
    Delete {
        /// User principal name or id
        user: String,
    },
    /// Adds and changes the users of a table (CSV): all of them, or none
    Import(super::import::Import),
    /// Accounts for emergencies: no policy of sign-in stands in their way, and each use is an alarm
    #[command(subcommand)]
    BreakGlass(BreakGlass),
    /// Identities that are brought as a file, for mail and the like
    #[command(subcommand)]
    Pfx(super::pfx::Command),
    /// Makes a Temporary Access Pass in the place of the one that the user has, and shows it once
    Tap {
        /// User principal name or id
        user: String,
        /// How long it is good, in minutes; default: as the organisation says
        #[arg(long)]
        minutes: Option<u32>,
        /// How many letters it has; default: as the organisation says
        #[arg(long)]
        length: Option<usize>,
        /// It may be used any number of times while it is good
        #[arg(long)]
        reusable: bool,
    },
}

/// What is done about accounts for emergencies.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum BreakGlass {
    /// Shows them, and when each was used last
    List,
    /// Keeps an account for emergencies; at least two are advised, each with a passkey of its own
    Add {
        /// User principal name or id
        user: String,
    },
    /// Keeps an account for emergencies no more
    Remove {
        /// User principal name or id
        user: String,
    },
}

/// A user to be.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct Create {
    /// User principal name: name@domain
    upn: String,
    /// Name for people; default: the user principal name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    details: Details,
    /// May administer
    #[arg(long)]
    administrator: bool,
}

/// What is to be different.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct Change {
    /// User principal name or id
    user: String,
    /// Another user principal name
    #[arg(long)]
    upn: Option<String>,
    /// Another name for people
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    details: Details,
    /// Whether the person may administer everything; `muster role assign` gives other roles
    #[arg(long, value_name = "BOOL")]
    administrator: Option<bool>,
}

/// What else a directory knows; an empty text takes a value away.
#[derive(Clone, Debug, clap::Args, Deserialize, Serialize)]
pub(super) struct Details {
    /// Mail address
    #[arg(long)]
    mail: Option<String>,
    /// Account name in Active Directory, which certificates may name
    #[arg(long, value_name = "NAME")]
    sam: Option<String>,
    /// Security identifier in Active Directory, which certificates may carry
    #[arg(long, value_name = "SID")]
    sid: Option<String>,
    /// Distinguished name in Active Directory
    #[arg(long, value_name = "DN")]
    dn: Option<String>,
}

impl Create {
    /// Whether it makes an administrator.
    pub(super) fn gives_role(&self) -> bool {
        self.administrator
    }

    /// Whether it says whose account in Active Directory it is.
    pub(super) fn names_account(&self) -> bool {
        self.details.names_account()
    }
}

impl Change {
    /// Whether it says who administers.
    pub(super) fn gives_role(&self) -> bool {
        self.administrator.is_some()
    }

    /// Whether it says whose account in Active Directory it is.
    pub(super) fn names_account(&self) -> bool {
        self.details.names_account()
    }
}

impl Details {
    fn names_account(&self) -> bool {
        self.sam.is_some() || self.sid.is_some() || self.dn.is_some()
    }

    fn apply(self, user: &mut User) {
        let places = [
            (&mut user.mail, self.mail),
            (&mut user.sam_account_name, self.sam),
            (&mut user.security_identifier, self.sid),
            (&mut user.distinguished_name, self.dn),
        ];
        for (place, value) in places {
            if let Some(value) = value {
                *place = Some(value).filter(|text| !text.is_empty());
            }
        }
    }
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    let by = &who.by;
    match command {
        Command::List { after, limit } => {
            let found = app.store.read(move |conn| users::list_users(conn, &after.to_lowercase(), page::probe(limit))).await?;
            Ok(page::cut(found.iter().map(row).collect(), limit, page::after("upn")))
        }
        Command::Show { user } => show(app, &user).await,
        Command::Create(new) => {
            let mut user = User {
                id: UserId::new(),
                display_name: new.name.unwrap_or_else(|| new.upn.clone()),
                upn: new.upn,
                mail: None,
                sam_account_name: None,
                security_identifier: None,
                distinguished_name: None,
                enabled: true,
                details: user::Details::default(),
            };
            new.details.apply(&mut user);
            if new.administrator {
                who.check_giver_of_administrator()?;
            }
            let made = directory::create_user(app, user, by).await?;
            if new.administrator {
                role::set_administrator(app, &made.id, true, by).await?;
            }
            show(app, made.id.as_str()).await
        }
        Command::Change(change) => {
            let user = find::user(app, &change.user).await?;
            if change.administrator.is_some() {
                who.check_giver_of_administrator()?;
            }
            let administrator = change.administrator;
            let edit = move |user: &mut User| {
                user.upn = change.upn.clone().unwrap_or_else(|| user.upn.clone());
                user.display_name = change.name.clone().unwrap_or_else(|| user.display_name.clone());
                change.details.clone().apply(user);
            };
            who.change_person(app, &user.id, edit).await?;
            if let Some(administrator) = administrator {
                role::set_administrator(app, &user.id, administrator, by).await?;
            }
            show(app, user.id.as_str()).await
        }
        Command::Enable { user } => set_enabled(app, &user, true, who).await,
        Command::Disable { user } => set_enabled(app, &user, false, who).await,
        Command::Delete { user } => {
            let user = find::user(app, &user).await?;
            who.check_helper(app, &user.id).await?;
            directory::delete_user(app, &user.id, by).await?;
            Ok(json!({ "deleted": user.upn }))
        }
        Command::BreakGlass(command) => {
            match command {
                BreakGlass::List => {}
                BreakGlass::Add { user } => break_glass::add(app, &find::user(app, &user).await?.id, by).await?,
                BreakGlass::Remove { user } => break_glass::remove(app, &find::user(app, &user).await?.id, by).await?,
            }
            let mut rows = Vec::new();
            for account in break_glass::list(app).await? {
                let user = find::user(app, account.user.as_str()).await?;
                let used = account.last_used_at.map(|at| at.to_string());
                rows.push(json!({ "user": user.upn, "since": account.named_at.to_string(), "last_used": used }));
            }
            Ok(Value::Array(rows))
        }
        Command::Import(import) => import.users(app, by).await,
        Command::Pfx(command) => super::pfx::run(app, command, by).await,
        Command::Tap { user, minutes, length, reusable } => {
            let user = find::user(app, &user).await?;
            who.check_giver_of_pass(app, &user.id).await?;
            let rules = policy::load_tap(app).await?;
            let usual = rules.usual();
            let policy = Policy {
                length: length.unwrap_or(usual.length),
                lifetime: minutes.map_or(usual.lifetime, |minutes| i64::from(minutes).saturating_mul(MINUTE)),
                one_time: !reusable || rules.is_usable_once,
            };
            let pass = tap::create(app, &user.id, policy, None, &by.actor, &by.origin).await?;
            Ok(json!({
                "user": user.upn,
                "temporary_access_pass": pass.show(),
                "good_until": pass.expires_at.to_string(),
                "sign_in_link": sign_in::link(app, &user.upn, pass.show()),
                "one_time": policy.one_time,
            }))
        }
    }
}

async fn set_enabled(app: &App, user: &str, enabled: bool, who: &Who) -> Result<Value> {
    let user = find::user(app, user).await?;
    who.change_person(app, &user.id, move |user| user.enabled = enabled).await?;
    Ok(json!({ "user": user.upn, "enabled": enabled }))
}

async fn show(app: &App, user: &str) -> Result<Value> {
    let user = find::user(app, user).await?;
    let filter = Filter { user_id: Some(user.id.clone()), ..Filter::default() };
    let devices = device::list(app, filter, "", 1000).await?;
    let id = user.id.clone();
    let roles = app.store.read(move |conn| roles::list_roles_of_user(conn, &id)).await?;
    let mut shown = json!(user);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("roles".into(), roles.iter().map(|(role, _)| role.display_name.as_str()).collect());
        fields.insert("devices".into(), Value::Array(devices.iter().map(super::device::row).collect()));
    }
    Ok(shown)
}

fn row(user: &User) -> Value {
    json!({ "id": user.id, "upn": user.upn, "name": user.display_name, "enabled": user.enabled })
}
