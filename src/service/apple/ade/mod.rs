//! The connection with Apple Business Manager: which devices are the organisation's own, and what Setup Assistant tells them.

mod account_token;
mod client;
mod discovery;
mod profile;
mod sync;
mod token;

use serde::Serialize;
use serde_json::json;

use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::access::Reach;
use crate::domain::apple::ade::{Device, Phase, Server};
use crate::domain::apple::push::warning;
use crate::domain::audit::Entry;
use crate::ids::AdeServerId;
use crate::service::page::{self, Found};
use crate::service::{Error, Result};
use crate::store;
use crate::store::apple::ade;
use crate::store::odata::Within;
use crate::wire::odata::query::Query;

pub use account_token::{account_token, gives_account_tokens};
pub use discovery::{discovery, set_discovery};
pub use sync::{Outcome, sync, sync_all};
pub use token::{Import, import, request};

pub use crate::store::apple::ade::Listed;

/// Most devices of one list.
pub const PAGE: i64 = 500;

/// A server and what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The organisation as Apple names it.
    pub organisation: Option<String>,
    /// How many devices it lists.
    pub devices: i64,
    /// When the list was last read to its end.
    pub synced_at: Option<String>,
    /// Whether the whole list is being read, and not what changed.
    pub full: bool,
    /// Whole days until the token ends; negative when it has.
    pub days_left: Option<i64>,
    /// What Apple calls the profile that devices are told.
    pub profile: Option<String>,
    /// What is wrong, and since when.
    pub alarm: Option<String>,
    /// What to do; nothing when all is well.
    pub advice: Option<String>,
}

impl Status {
    fn of(server: &Server, devices: i64, now: Time) -> Self {
        let days_left = server.link.as_ref().map(|link| link.ends_at.since(now).div_euclid(DAY));
        let advice = match (days_left, &server.alarm) {
            (None, _) => {
                Some("give its certificate to Apple Business Manager (muster apple ade-key), and bring the token: muster apple ade-token")
            }
            (Some(..0), _) => Some("the token has ended: download another one for the same server, and muster apple ade-token"),
            (_, Some(_)) => Some("see to it, then muster apple ade-sync"),
            (Some(..30), None) => Some("the token ends soon: download another one for the same server, and muster apple ade-token"),
            _ => None,
        };
        Self {
            name: server.name.clone(),
            organisation: server.link.as_ref().map(|link| link.organisation.clone()),
            devices,
            synced_at: server.synced_at.map(|at| at.to_string()),
            full: server.progress.phase == Phase::Full,
            days_left,
            profile: server.profile.as_ref().map(|(uuid, _)| uuid.clone()),
            alarm: server.alarm.as_ref().map(|(why, since)| format!("{why} (since {since})")),
            advice: advice.map(str::to_owned),
        }
    }
}

/// All servers.
///
/// # Errors
/// When the store fails.
pub async fn status(app: &App) -> Result<Vec<Status>> {
    let now = app.now();
    let reading = app.store.snapshot(move |c| {
        let servers = ade::list_servers(c)?;
        servers.iter().map(|server| Ok(Status::of(server, ade::count_devices(c, &server.id)?, now))).collect()
    });
    Ok(reading.await?)
}

/// A server with how many devices it lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onboarding {
    /// The server.
    pub server: Server,
    /// How many devices it lists.
    pub devices: i64,
}

/// All servers, as the API shows them.
///
/// # Errors
/// When the store fails.
pub async fn list_onboarding(app: &App) -> Result<Vec<Onboarding>> {
    let reading = app.store.snapshot(|c| {
        let servers = ade::list_servers(c)?;
        servers.into_iter().map(|server| Ok(Onboarding { devices: ade::count_devices(c, &server.id)?, server })).collect()
    });
    Ok(reading.await?)
}

/// A page of the devices that a server lists.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what they have not.
pub async fn page_listed(
    app: &App,
    server: &AdeServerId,
    query: &Query,
    reach: &Reach,
    limit: u32,
) -> std::result::Result<Found<Listed>, page::Error> {
    let mut within = page::within(reach);
    within.push(Within::Equal(ade::SERVER, server.to_string()));
    let load = |conn: &mut store::Conn, serials: &[String]| {
        Ok(ade::list_listed(conn, serials)?.into_iter().map(|listed| (listed.device.serial.clone(), listed)).collect())
    };
    page::find(app, &ade::LISTED, query, within, limit, load).await
}

/// Devices of the lists after a serial number, at most [`PAGE`], with their server's name.
///
/// # Errors
/// When the store fails.
pub async fn devices(app: &App, after: String) -> Result<Vec<(Device, String)>> {
    Ok(app.store.read(move |c| ade::list_devices(c, &after, PAGE)).await?)
}

/// Forgets a server: its key, its token and its list. Devices that are enrolled stay, and Apple is told nothing.
///
/// # Errors
/// [`Refusal::AdeServerUnknown`].
pub async fn remove(app: &App, name: String, actor: &str, origin: &str) -> Result<()> {
    let (now, entry) = (app.now(), Entry::new(actor, "apple.ade_remove", target(&name), origin));
    app.store
        .write(move |tx| {
            let server = ade::find_server(tx.conn(), &name)?.ok_or(Refusal::AdeServerUnknown)?;
            ade::delete_server(tx, &server.id)?;
            store::audit::append(tx, &entry, now)
        })
        .await?;
    Ok(())
}

/// Warns of the end of tokens, as of the push certificate's.
///
/// # Errors
/// When the store fails.
pub async fn warn(app: &App) -> Result<()> {
    let now = app.now();
    for server in app.store.read(ade::list_servers).await? {
        let Some(link) = &server.link else { continue };
        let Some(days) = warning(link.ends_at, link.warned_days, now) else { continue };
        let after = json!({ "notAfter": link.ends_at.to_string(), "server": link.server_uuid });
        let entry = Entry::new("system", "apple.ade_expiring", target(&server.name), "jobs").after(&after);
        let id = server.id.clone();
        let claimed = app.store.write(move |tx| {
            let claimed = ade::claim_warning(tx, &id, days)?;
            if claimed {
                store::audit::append(tx, &entry, now)?;
            }
            Ok(claimed)
        });
        if claimed.await? {
            tracing::error!(
                server = server.name,
                days,
                "the server token of Apple Business Manager comes to its end: download another one"
            );
        }
    }
    Ok(())
}

/// The row of the audit log that is about a server.
fn target(name: &str) -> String {
    format!("ade-server:{name}")
}

async fn load(app: &App, name: &str) -> Result<Server> {
    let name = name.to_owned();
    Ok(app.store.read(move |c| ade::find_server(c, &name)).await?.ok_or(Refusal::AdeServerUnknown)?)
}

fn unavailable(why: impl Into<String>) -> Error {
    Error::Unavailable(why.into())
}
