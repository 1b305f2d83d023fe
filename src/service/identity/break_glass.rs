//! Accounts that are kept for emergencies: no policy of sign-in stands in their way, they are neither disabled nor deleted while they are
//! named so, and each use of one is an alarm.

use serde_json::json;

use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::ids::UserId;
use crate::service::Result;
use crate::service::directory::By;
use crate::store::break_glass::{self, Account};
use crate::store::{self, Tx, audit, users};

/// How many there are at most: each is a way around the policies.
pub const MOST: i64 = 10;
/// How many there should be at least: one authenticator can be lost.
pub const ADVISED: usize = 2;
/// For how long a use is shown as an alarm.
const LOUD: i64 = 7 * DAY;

/// Keeps an account for emergencies.
///
/// # Errors
/// [`Refusal::AccountDisabled`], [`Refusal::BreakGlassTooMany`]; [`crate::service::Error::NotFound`].
pub async fn add(app: &App, user: &UserId, by: &By) -> Result<()> {
    let (user, by, now) = (user.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            if !users::lock_user(tx, &user)?.enabled {
                return Err(Refusal::AccountDisabled.into());
            }
            let named = break_glass::list_accounts(tx.conn(), MOST)?;
            if i64::try_from(named.len()).unwrap_or(MOST) >= MOST && !named.iter().any(|account| account.user == user) {
                return Err(Refusal::BreakGlassTooMany.into());
            }
            if break_glass::insert_account(tx, &user, now)? {
                audit::append(tx, &by.entry("break-glass.add", format!("user:{user}")), now)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// Keeps an account for emergencies no more.
///
/// # Errors
/// [`crate::service::Error::NotFound`] when it was not kept so.
pub async fn remove(app: &App, user: &UserId, by: &By) -> Result<()> {
    let (user, by, now) = (user.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            if !break_glass::delete_account(tx, &user)? {
                return Err(store::Error::NotFound);
            }
            audit::append(tx, &by.entry("break-glass.remove", format!("user:{user}")), now)
        })
        .await?;
    Ok(())
}

/// All accounts that are kept for emergencies.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App) -> Result<Vec<Account>> {
    Ok(app.store.read(|conn| break_glass::list_accounts(conn, MOST)).await?)
}

/// Refuses to disable or delete an account that is kept for emergencies.
pub(crate) fn check_not_named(tx: &mut Tx<'_>, user: &UserId) -> store::Result<()> {
    if break_glass::is_named(tx.conn(), user)? { Err(Refusal::BreakGlassNamed.into()) } else { Ok(()) }
}

/// Sounds the alarm when it is such an account that signs in: in the transaction of the sign-in, which does not happen without it.
pub(super) fn note_use(tx: &mut Tx<'_>, user: &UserId, method: &str, origin: &str, now: Time) -> store::Result<()> {
    if !break_glass::update_used(tx, user, now)? {
        return Ok(());
    }
    tracing::error!(%user, method, origin, "an account that is kept for emergencies signs in");
    metrics::counter!("muster_break_glass_sign_ins_total").increment(1);
    let target = format!("user:{user}");
    audit::append(tx, &Entry::new(&target, "break-glass.use", &target, origin).after(&json!({ "method": method })), now)
}

/// What `muster status` and `muster doctor` say: `None` before the first account is named.
///
/// # Errors
/// Only the database's own.
pub async fn status(app: &App) -> Result<Option<serde_json::Value>> {
    let named = list(app).await?;
    if named.is_empty() {
        return Ok(None);
    }
    let used = named.iter().filter_map(|account| account.last_used_at).max();
    let alarm = used
        .filter(|at| app.now().since(*at) < LOUD)
        .map(|at| format!("an account for emergencies signed in at {at}: see muster audit list"));
    let advice = (named.len() < ADVISED).then_some("keep at least two, each with a passkey of its own (muster user break-glass add)");
    Ok(Some(json!({ "accounts": named.len(), "last_used": used.map(|at| at.to_string()), "alarm": alarm, "advice": advice })))
}
