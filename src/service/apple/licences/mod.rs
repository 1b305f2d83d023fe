//! Licences of the App Store: devices want them, and a job gets them from Apps and Books and gives them back.
//!
//! A row says how far each is; the store works on changes under names of its own, which are asked for until they are done. What the store
//! does twice does no harm, so that nothing is lost when a server dies between a request and its row.

mod client;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::client::{Client, Failure};
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::apple::app;
use crate::domain::apple::licence::{Connection, Licence, State};
use crate::domain::apple::push::warning;
use crate::domain::audit::Entry;
use crate::secret::{Sealer, Secret};
use crate::service::{Error, Result};
use crate::store::apple::licences;
use crate::store::sealed::CONTENT_TOKEN;
use crate::store::{self, Conn, audit, profiles};
use crate::wire::apple::books::{Assets, Assignments, Change, Claim, ClientConfig, ContentToken, Event, Management, ServiceConfig, Status};

/// Licences that one run looks at in each state; what is left waits for the next run.
const BATCH: i64 = 1000;
/// Profiles that are looked at together.
const PROFILES: i64 = 50;
/// Most serial numbers of a request, whatever Apple allows.
const MOST_SERIALS: usize = 500;
/// Most pages of applications that are read.
const PAGES: u32 = 20;
/// Devices whose licences are taken back together.
const DEPARTED: i64 = 500;
/// Where audit rows about the connection point.
const TARGET: &str = "apple-content:default";

fn refused(why: impl Into<String>) -> Error {
    Error::Invalid(Refusal::AppTokenRefused, why.into())
}

/// Puts a content token in force after Apple took it, and tells Apple that this server has it.
///
/// # Errors
/// [`Refusal::AppTokenRefused`] says what is wrong; [`Refusal::AppTokenTaken`] when another device management has it, or it is for another
/// location than the one before, and `replace` does not say to take it; [`Error::Unavailable`] when Apple cannot be asked.
pub async fn import(app: &App, text: &Secret, replace: bool, actor: &str, origin: &str) -> Result<Value> {
    let text = std::str::from_utf8(text.expose()).map_err(|_| refused("it is not the file (*.vpptoken) that Apple gives"))?.trim();
    let token = ContentToken::decode(text).map_err(|_| refused("it is not the file (*.vpptoken) that Apple gives"))?;
    let now = app.now();
    let ends_at = Time::parse(&token.ends_at()).ok_or_else(|| refused("its end cannot be read"))?;
    if ends_at <= now {
        return Err(refused(format!("it ended {ends_at}")));
    }
    let secret = Secret::new(text.as_bytes().to_vec());
    let client = Client::new(app, &secret)?;
    let no = |failure: Failure| match failure {
        Failure::Token(words) | Failure::Refused(words) => refused(format!("Apple does not take it: {words}")),
        other => other.into_error(),
    };
    let config: ClientConfig = client.get("/client/config", &[]).await.map_err(no)?;
    let before = app.store.read(licences::find_connection).await?;
    let ours = app.tenant.to_string();
    let foreign = config.mdm_info.as_ref().is_some_and(|owner| !owner.id.is_empty() && owner.id != ours);
    let moved = before.as_ref().is_some_and(|before| before.location_id != config.u_id);
    if (foreign || moved) && !replace {
        return Err(Refusal::AppTokenTaken.into());
    }
    let claim = Claim { mdm_info: Management { id: ours, name: "Muster".into(), metadata: String::new() } };
    let _: ClientConfig = client.post("/client/config", &claim).await.map_err(no)?;
    let connection = Connection {
        sealed_token: app.sealer().seal(CONTENT_TOKEN, secret.expose())?,
        location_id: config.u_id,
        location: config.location_name,
        organisation: token.org_name,
        ends_at,
        warned_days: None,
        wait_until: None,
        alarm: None,
    };
    let after = json!({ "location": connection.location, "organisation": connection.organisation, "notAfter": ends_at.to_string() });
    let entry = Entry::new(actor, "apple.content_token", TARGET, origin).after(&after);
    app.store
        .write(move |tx| {
            licences::upsert_connection(tx, &connection)?;
            audit::append(tx, &entry, now)
        })
        .await?;
    status(app, false).await
}

/// The connection, what to do about it, and how many licences are how far; with `assets`, what Apple says that there is.
///
/// # Errors
/// [`Refusal::AppTokenMissing`]; [`Error::Unavailable`] when Apple cannot be asked.
pub async fn status(app: &App, assets: bool) -> Result<Value> {
    let connection = app.store.read(licences::find_connection).await?.ok_or(Refusal::AppTokenMissing)?;
    let mut counts = BTreeMap::new();
    for state in State::ALL {
        let count = app.store.read(move |conn| licences::count_licences(conn, *state)).await?;
        counts.insert(state.as_str(), count);
    }
    let mut shown = describe(&connection, app.now());
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("wait_until".into(), json!(connection.wait_until.map(|at| at.to_string())));
        shown.insert("licences".into(), json!(counts));
    }
    if assets {
        let client = open(app, &connection)?;
        let mut all = Vec::new();
        let mut page = Some(0);
        for _ in 0..PAGES {
            let Some(index) = page.take() else { break };
            let found: Assets = client.get("/assets", &[("pageIndex", &index.to_string())]).await.map_err(Failure::into_error)?;
            all.extend(found.assets.into_iter().map(|asset| {
                json!({ "store_id": asset.adam_id, "licence": asset.pricing_param, "for_devices": asset.device_assignable,
                    "total": asset.total_count, "assigned": asset.assigned_count, "available": asset.available_count })
            }));
            page = found.next_page_index.filter(|next| *next > index);
        }
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("assets".into(), all.into());
        }
    }
    Ok(shown)
}

/// The connection and what to do about it; nothing when there is none and no profile needs one.
///
/// # Errors
/// Only the database's own.
pub async fn health(app: &App) -> Result<Option<Value>> {
    let sealer = app.sealer();
    let read = app.store.read(move |conn| {
        let connection = licences::find_connection(conn)?;
        let needed = connection.is_none() && is_needed(conn, &sealer)?;
        Ok((connection, needed))
    });
    Ok(match read.await? {
        (Some(connection), _) => Some(describe(&connection, app.now())),
        (None, true) => Some(json!({ "alarm": format!("a profile gives licences of the App Store: {}", Refusal::AppTokenMissing) })),
        (None, false) => None,
    })
}

/// Whether a profile gives licences.
fn is_needed(conn: &mut Conn, sealer: &Sealer) -> store::Result<bool> {
    let mut after = String::new();
    loop {
        let page = profiles::list_profiles(conn, sealer, &after, PROFILES)?;
        let Some(last) = page.last() else { return Ok(false) };
        after.clone_from(&last.display_name);
        if page.iter().flat_map(|profile| &profile.document.payloads).any(app::wants_licence) {
            return Ok(true);
        }
    }
}

fn describe(connection: &Connection, now: Time) -> Value {
    let days = connection.ends_at.since(now).div_euclid(DAY);
    let another = "download another one for the same location, and muster apple content-token";
    let advice = match (days, &connection.alarm) {
        (..0, _) => Some(format!("it has ended, and no licence is given any more: {another}")),
        (_, Some(_)) => Some(another.to_owned()),
        (..=30, None) => Some(format!("{days} days left: {another}")),
        _ => None,
    };
    json!({
        "location": connection.location, "organisation": connection.organisation, "not_after": connection.ends_at.to_string(),
        "days_left": days, "alarm": connection.alarm.as_ref().map(|(why, since)| format!("{why} (since {since})")), "advice": advice,
    })
}

fn open<'a>(app: &'a App, connection: &Connection) -> Result<Client<'a>> {
    Client::new(app, &app.sealer().open(CONTENT_TOKEN, &connection.sealed_token)?)
}

/// What a device's licence is at the moment.
pub(in crate::service::apple) enum Standing {
    /// It has one.
    Held,
    /// It is on its way.
    Awaited,
    /// It was not given.
    Failed(String),
    /// Nobody asked for it.
    None,
    /// There is no content token.
    Unconnected,
}

/// How it stands with a device's licence.
///
/// # Errors
/// Only the database's own.
pub(in crate::service::apple) async fn standing(app: &App, serial: &str, store_id: i64) -> Result<Standing> {
    let serial = serial.to_owned();
    let found = app.store.read(move |conn| {
        let connected = licences::find_connection(conn)?.is_some();
        Ok((connected, licences::find_licence(conn, &serial, store_id)?))
    });
    let (connected, licence) = found.await?;
    Ok(match licence {
        Some(Licence { state: State::Held, .. }) => Standing::Held,
        _ if !connected => Standing::Unconnected,
        Some(Licence { state: State::Wanted | State::Asked, .. }) => Standing::Awaited,
        Some(Licence { state: State::Failed, error, .. }) => Standing::Failed(error.unwrap_or_default()),
        // One that goes back may come again.
        Some(Licence { state: State::Unwanted | State::Returning, .. }) | None => Standing::None,
    })
}

/// Takes licences back from devices that are not managed any more.
///
/// # Errors
/// Only the database's own.
pub async fn release_departed(app: &App) -> Result<()> {
    let now = app.now();
    while app.store.write(move |tx| licences::release_departed(tx, DEPARTED, now)).await? > 0 {}
    Ok(())
}

/// Gets what devices want and gives back what they do not want, as far as Apple lets us.
///
/// # Errors
/// When the store fails, or Apple cannot be reached.
pub async fn work(app: &App) -> Result<()> {
    let Some(connection) = app.store.read(licences::find_connection).await? else { return Ok(()) };
    warn(app, &connection).await?;
    if connection.wait_until.is_some_and(|until| app.now() < until) {
        return Ok(());
    }
    let client = open(app, &connection)?;
    match run(app, &client).await {
        Ok(false) => Ok(()),
        Ok(true) => Ok(app.store.write(licences::clear_alarm).await?),
        Err(Failure::Later(wait)) => {
            let until = app.now().plus(wait);
            Ok(app.store.write(move |tx| licences::update_wait(tx, until)).await?)
        }
        Err(Failure::Token(words)) => {
            let now = app.now();
            let alarm = Refusal::AppTokenRefused.to_string();
            let entry = Entry::new("system", "apple.content_alarm", TARGET, "jobs").after(&json!({ "alarm": alarm, "said": words }));
            let noted = app.store.write(move |tx| {
                if licences::claim_alarm(tx, &alarm, now)? {
                    audit::append(tx, &entry, now)?;
                }
                Ok(())
            });
            Ok(noted.await?)
        }
        Err(failure) => Err(failure.into_error()),
    }
}

async fn warn(app: &App, connection: &Connection) -> Result<()> {
    let now = app.now();
    let Some(days) = warning(connection.ends_at, connection.warned_days, now) else { return Ok(()) };
    let after = json!({ "notAfter": connection.ends_at.to_string() });
    let entry = Entry::new("system", "apple.content_expiring", TARGET, "jobs").after(&after);
    let claimed = app.store.write(move |tx| {
        let claimed = licences::claim_warning(tx, days)?;
        if claimed {
            audit::append(tx, &entry, now)?;
        }
        Ok(claimed)
    });
    if claimed.await? {
        tracing::error!(days, "the content token of Apple Business Manager comes to its end: download another one");
    }
    Ok(())
}

/// One run; whether Apple was asked anything.
async fn run(app: &App, client: &Client<'_>) -> std::result::Result<bool, Failure> {
    let list = async |state: State| app.store.read(move |conn| licences::list_licences(conn, state, BATCH)).await;
    let (returning, asked) = (list(State::Returning).await?, list(State::Asked).await?);
    let (unwanted, wanted) = (list(State::Unwanted).await?, list(State::Wanted).await?);
    let any = [&returning, &asked, &unwanted, &wanted].iter().any(|list| !list.is_empty());
    follow(app, client, returning).await?;
    follow(app, client, asked).await?;
    if !(unwanted.is_empty() && wanted.is_empty()) {
        let config: ServiceConfig = client.get("/service/config", &[]).await?;
        let most = config.limits.max_serial_numbers.clamp(1, MOST_SERIALS);
        ask(app, client, unwanted, most).await?;
        ask(app, client, wanted, most).await?;
    }
    Ok(any)
}

/// Has Apple give licences, or take them back: those of one application together.
async fn ask(app: &App, client: &Client<'_>, all: Vec<Licence>, most: usize) -> std::result::Result<(), Failure> {
    for group in all.chunk_by(|a, b| a.store_id == b.store_id).flat_map(|group| group.chunks(most)) {
        let Some(first) = group.first() else { continue };
        let (path, next) =
            if first.state == State::Unwanted { ("/assets/disassociate", State::Returning) } else { ("/assets/associate", State::Asked) };
        let change = Change::of(first.store_id, group.iter().map(|licence| licence.serial.clone()).collect());
        let event: Event = match client.post(path, &change).await {
            Ok(event) => event,
            Err(Failure::Refused(words)) => {
                refuse(app, client, group, &words).await?;
                continue;
            }
            Err(other) => return Err(other),
        };
        let name: String = event.event_id.chars().take(100).collect();
        settle(app, group, next, Some(&name), None).await?;
    }
    Ok(())
}

/// Looks how far Apple is with what it was asked.
async fn follow(app: &App, client: &Client<'_>, all: Vec<Licence>) -> std::result::Result<(), Failure> {
    let mut by_event: BTreeMap<String, Vec<Licence>> = BTreeMap::new();
    for licence in all {
        by_event.entry(licence.event.clone().unwrap_or_default()).or_default().push(licence);
    }
    for (event, group) in by_event {
        let status: Status = match client.get("/status", &[("eventId", &event)]).await {
            Ok(status) => status,
            Err(Failure::Refused(words)) => {
                refuse(app, client, &group, &words).await?;
                continue;
            }
            Err(other) => return Err(other),
        };
        match status.event_status.as_str() {
            "COMPLETE" if status.failures.is_empty() => settle(app, &group, State::Held, None, None).await?,
            // Of several some may have come to it.
            "COMPLETE" | "FAILED" => {
                let words = status.failures.first().map_or_else(|| "no reason given".to_owned(), |failure| failure.words());
                refuse(app, client, &group, &words).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Apple did not do all of it: who has a licence now shows what it did.
async fn refuse(app: &App, client: &Client<'_>, group: &[Licence], words: &str) -> std::result::Result<(), Failure> {
    for licence in group {
        let (serial, adam_id) = (licence.serial.as_str(), licence.store_id.to_string());
        let found: Assignments = client.get("/assignments", &[("adamId", &adam_id), ("serialNumber", serial)]).await?;
        let has = found.assignments.iter().any(|one| one.serial_number == serial && one.adam_id == adam_id);
        let one = std::slice::from_ref(licence);
        match (licence.state, has) {
            (State::Wanted | State::Asked, true) => settle(app, one, State::Held, None, None).await?,
            (State::Wanted | State::Asked, false) => settle(app, one, State::Failed, None, Some(words)).await?,
            (State::Returning | State::Unwanted, true) => settle(app, one, State::Unwanted, None, Some(words)).await?,
            _ => settle(app, one, State::Held, None, None).await?,
        }
    }
    Ok(())
}

/// Notes what became of licences. What was given back and is done is forgotten.
async fn settle(app: &App, group: &[Licence], next: State, event: Option<&str>, error: Option<&str>) -> Result<()> {
    let (group, now) = (group.to_vec(), app.now());
    let (event, error) = (event.map(str::to_owned), error.map(str::to_owned));
    let stored = app.store.write(move |tx| {
        for licence in &group {
            let goes = matches!(licence.state, State::Returning | State::Unwanted);
            if goes && next == State::Held {
                licences::delete_licence(tx, licence)?;
            } else {
                licences::claim_licence(tx, licence, next, event.as_deref(), error.as_deref(), now)?;
            }
            if matches!(next, State::Held | State::Failed) {
                let after = json!({ "serial": licence.serial, "storeId": licence.store_id, "error": error });
                let action = match (goes, next) {
                    (true, _) => "apple.licence_returned",
                    (false, State::Held) => "apple.licence_assigned",
                    (false, _) => "apple.licence_refused",
                };
                audit::append(tx, &Entry::new("job:licences", action, TARGET, "jobs").after(&after), now)?;
            }
        }
        Ok::<_, store::Error>(())
    });
    Ok(stored.await?)
}
