//! PCs that the organisation registers for Windows Autopilot: they count as its own, and groups by a rule tell them apart by their tag.
//! A PC does not ask this server before somebody has signed in: what Microsoft's service shows in Setup is not this server's.

use std::collections::BTreeSet;

use serde_json::json;

use super::directory::By;
use super::page::{self, Found};
use super::{Error, Result};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::access::Reach;
use crate::domain::autopilot::{Draft, Failure, Identity, Imported, MOST, is_text};
use crate::ids::{AutopilotId, AutopilotImportId, UserId};
use crate::store::{self, Tx, audit, autopilot, users};
use crate::wire::csv;
use crate::wire::odata::query::Query;

pub use crate::store::autopilot::Known;

/// What the columns of a table are called that Get-WindowsAutopilotInfo writes.
const COLUMNS: [&str; 5] = ["Device Serial Number", "Windows Product ID", "Hardware Hash", "Group Tag", "Assigned User"];

/// Reads the table that Get-WindowsAutopilotInfo writes. The last two columns may be missing.
///
/// # Errors
/// [`Refusal::AutopilotFileInvalid`].
pub fn read_table(bytes: &[u8]) -> Result<Vec<Draft>> {
    let refused = |why: String| Error::Invalid(Refusal::AutopilotFileInvalid, why);
    let text = csv::decode(bytes).map_err(|wrong| refused(wrong.to_string()))?;
    let parsed = csv::parse(&text).map_err(|wrong| refused(format!("line {}: {}", wrong.line, wrong.what)))?;
    let mut rows = parsed.into_iter().map(|row| row.cells);
    let head = rows.next().ok_or_else(|| refused("it is empty".into()))?;
    let at = COLUMNS.map(|name| head.iter().position(|column| column.trim().eq_ignore_ascii_case(name)));
    if let Some((name, _)) = COLUMNS.iter().zip(&at).take(3).find(|(_, at)| at.is_none()) {
        return Err(refused(format!("it has no column {name}")));
    }
    let drafts: Vec<Draft> = rows
        .map(|row| {
            let [serial, product_key, hardware_hash, group_tag, user_principal_name] =
                at.map(|at| at.and_then(|at| row.get(at)).cloned().unwrap_or_default());
            Draft { import_id: String::new(), serial, product_key, hardware_hash, group_tag, user_principal_name }
        })
        .collect();
    check_count(&drafts)?;
    Ok(drafts)
}

fn check_count(drafts: &[Draft]) -> Result<()> {
    match drafts.len() {
        1..=MOST => Ok(()),
        count => Err(Error::Invalid(Refusal::AutopilotFileInvalid, format!("an import has 1 to {MOST} devices, not {count}"))),
    }
}

/// Registers PCs, each by itself: what is refused of one says nothing about the others.
///
/// # Errors
/// [`Refusal::AutopilotFileInvalid`] when they are none or too many.
pub async fn import(app: &App, drafts: Vec<Draft>, by: &By) -> Result<Vec<Imported>> {
    check_count(&drafts)?;
    let (by, now) = (by.clone(), app.now());
    let check = |mut draft: Draft| {
        let hash = draft.check();
        (draft, hash)
    };
    // Before anything of them comes to the database, which does not take every letter.
    let drafts: Vec<(Draft, std::result::Result<Vec<u8>, Failure>)> = drafts.into_iter().map(check).collect();
    let importing = app.store.write(move |tx| {
        // Devices before what is noted of them, and both before the head of the audit log, as all take them.
        let good = drafts.iter().filter(|(_, hash)| hash.is_ok());
        for serial in good.map(|(draft, _)| draft.serial.as_str()).collect::<BTreeSet<_>>() {
            autopilot::update_touched(tx, serial, now)?;
        }
        let mut registered = Vec::new();
        let imported = drafts.iter().map(|(draft, hash)| import_in(tx, draft.clone(), hash.clone(), &mut registered, now));
        let imported = imported.collect::<store::Result<Vec<_>>>()?;
        for identity in &registered {
            audit::append(tx, &by.entry("autopilot.import", target(&identity.id)).after(&shown(identity)), now)?;
        }
        Ok(imported)
    });
    Ok(importing.await?)
}

fn import_in(
    tx: &mut Tx<'_>,
    draft: Draft,
    hash: std::result::Result<Vec<u8>, Failure>,
    registered: &mut Vec<Identity>,
    now: Time,
) -> store::Result<Imported> {
    let outcome = match hash {
        Ok(hash) => register(tx, &draft, hash, registered, now)?,
        Err(failure) => Err(failure),
    };
    let imported = Imported {
        id: AutopilotImportId::new(),
        import_id: draft.import_id,
        serial: draft.serial,
        product_key: draft.product_key,
        group_tag: draft.group_tag,
        user_principal_name: draft.user_principal_name,
        outcome,
        created_at: now,
    };
    autopilot::insert_import(tx, &imported)?;
    Ok(imported)
}

fn register(
    tx: &mut Tx<'_>,
    draft: &Draft,
    hardware_hash: Vec<u8>,
    registered: &mut Vec<Identity>,
    now: Time,
) -> store::Result<std::result::Result<AutopilotId, Failure>> {
    let user_id = match draft.user_principal_name.as_str() {
        "" => None,
        upn => match users::find_user_by_upn(tx.conn(), upn)? {
            Some(user) => Some(user.id),
            None => return Ok(Err(Failure::User)),
        },
    };
    if autopilot::is_listed(tx.conn(), &draft.serial)? {
        return Ok(Err(Failure::Present));
    }
    let identity = Identity {
        id: AutopilotId::new(),
        serial: draft.serial.clone(),
        product_key: draft.product_key.clone(),
        hardware_hash,
        group_tag: draft.group_tag.clone(),
        user_id,
        addressable_user_name: String::new(),
        display_name: String::new(),
        purchase_order: String::new(),
        created_at: now,
        updated_at: now,
    };
    autopilot::insert_identity(tx, &identity)?;
    let id = identity.id.clone();
    registered.push(identity);
    Ok(Ok(id))
}

fn target(id: &AutopilotId) -> String {
    format!("autopilot:{id}")
}

/// For the audit log; the hash is none of its business.
fn shown(identity: &Identity) -> serde_json::Value {
    json!({
        "serial": identity.serial, "productKey": identity.product_key, "groupTag": identity.group_tag, "user": identity.user_id,
        "addressableUserName": identity.addressable_user_name, "displayName": identity.display_name,
    })
}

/// A page of registered PCs.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what they have not.
pub async fn page_known(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<Known>, page::Error> {
    let load = |conn: &mut store::Conn, ids: &[String]| {
        Ok(autopilot::list_known(conn, ids)?.into_iter().map(|known| (known.identity.id.to_string(), known)).collect())
    };
    page::find(app, &autopilot::SET, query, page::within(reach), limit, load).await
}

/// The registered PC of that id, or serial number, which the caller may see.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(app: &App, name: &str, reach: &Reach) -> Result<Known> {
    let (wanted, serial) = (AutopilotId::parse(name), name.to_owned());
    let found = app.store.look_up(move |conn| {
        let found = match &wanted {
            Some(id) => autopilot::find_identity(conn, id)?,
            None => autopilot::find_by_serial(conn, &serial)?,
        };
        match found {
            Some(identity) => Ok(autopilot::list_known(conn, &[identity.id.to_string()])?.pop()),
            None => Ok(None),
        }
    });
    let found = found.await?.ok_or(Error::NotFound("Autopilot device"))?;
    if reach.is_all() || page::has(app, &autopilot::SET, found.identity.id.as_str(), page::within(reach)).await? {
        return Ok(found);
    }
    Err(Error::NotFound("Autopilot device"))
}

/// What is changed of a registered PC; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Whose it is to be: a user name; nobody's when it is empty.
    pub user_principal_name: Option<String>,
    /// How that person is greeted.
    pub addressable_user_name: Option<String>,
    /// What the organisation tells its PCs apart by.
    pub group_tag: Option<String>,
    /// Name for people.
    pub display_name: Option<String>,
}

/// Changes what is noted of a registered PC.
///
/// # Errors
/// [`Error::NotFound`]; [`Refusal::AutopilotTextInvalid`]; [`Refusal::UserUnknown`].
pub async fn change(app: &App, id: &AutopilotId, change: Change, by: &By) -> Result<()> {
    let texts = [&change.addressable_user_name, &change.group_tag, &change.display_name, &change.user_principal_name];
    if texts.into_iter().flatten().any(|text| !is_text(text)) {
        return Err(Refusal::AutopilotTextInvalid.into());
    }
    let (id, by, now) = (id.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = autopilot::find_identity(tx.conn(), &id)?.ok_or(store::Error::NotFound)?;
            let mut identity = before.clone();
            let user = |tx: &mut Tx<'_>, upn: &str| -> store::Result<Option<UserId>> {
                if upn.is_empty() {
                    return Ok(None);
                }
                Ok(Some(users::find_user_by_upn(tx.conn(), upn)?.ok_or(Refusal::UserUnknown)?.id))
            };
            if let Some(upn) = &change.user_principal_name {
                identity.user_id = user(tx, upn.trim())?;
            }
            let set = |of: &mut String, text: &Option<String>| {
                if let Some(text) = text {
                    text.trim().clone_into(of);
                }
            };
            set(&mut identity.addressable_user_name, &change.addressable_user_name);
            set(&mut identity.group_tag, &change.group_tag);
            set(&mut identity.display_name, &change.display_name);
            if identity == before {
                return Ok(());
            }
            identity.updated_at = now;
            autopilot::update_touched(tx, &identity.serial, now)?;
            autopilot::update_identity(tx, &identity)?;
            audit::append(tx, &by.entry("autopilot.change", target(&id)).before(&shown(&before)).after(&shown(&identity)), now)
        })
        .await?;
    Ok(())
}

/// Takes a PC off the list. A device that is enrolled stays.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(app: &App, id: &AutopilotId, by: &By) -> Result<()> {
    let (id, by, now) = (id.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = autopilot::find_identity(tx.conn(), &id)?.ok_or(store::Error::NotFound)?;
            autopilot::update_touched(tx, &before.serial, now)?;
            autopilot::delete_identity(tx, &id)?;
            audit::append(tx, &by.entry("autopilot.delete", target(&id)).before(&shown(&before)), now)
        })
        .await?;
    Ok(())
}

/// A page of what came of imports.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what they have not.
pub async fn page_imports(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<Imported>, page::Error> {
    let load = |conn: &mut store::Conn, ids: &[String]| {
        Ok(autopilot::list_imports(conn, ids)?.into_iter().map(|imported| (imported.id.to_string(), imported)).collect())
    };
    page::find(app, &autopilot::IMPORTS, query, page::within(reach), limit, load).await
}

/// Forgets what came of an import.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete_import(app: &App, id: &AutopilotImportId, by: &By) -> Result<()> {
    let (id, by, now) = (id.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before = autopilot::list_imports(tx.conn(), &[id.to_string()])?.pop().ok_or(store::Error::NotFound)?;
            autopilot::delete_import(tx, &id)?;
            let state = json!({
                "importId": before.import_id, "serial": before.serial, "error": before.outcome.as_ref().err().map(|failure| failure.as_str()),
            });
            audit::append(tx, &by.entry("autopilot.delete-import", format!("autopilot-import:{id}")).before(&state), now)
        })
        .await?;
    Ok(())
}
