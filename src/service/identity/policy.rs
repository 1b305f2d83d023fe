//! What the organisation says about the ways to sign in.

use serde_json::json;

use crate::app::App;
use crate::clock::Time;
use crate::domain::{Refusal, passkey, tap};
use crate::service::Result;
use crate::service::directory::By;
use crate::store::{self, Tx, audit, method_policies};

/// The row about passes.
pub(crate) const TAP: &str = "temporaryAccessPass";
/// The row about passkeys.
pub(crate) const PASSKEY: &str = "fido2";

/// What holds for passes.
///
/// # Errors
/// Only the database's own.
pub async fn load_tap(app: &App) -> Result<tap::Rules> {
    Ok(app.store.read(|conn| method_policies::load_policy(conn, TAP)).await?)
}

/// What holds for passkeys.
///
/// # Errors
/// Only the database's own.
pub async fn load_passkey(app: &App) -> Result<passkey::Policy> {
    Ok(app.store.read(|conn| method_policies::load_policy(conn, PASSKEY)).await?)
}

/// When any of it was last changed; `None` as long as the defaults hold.
///
/// # Errors
/// Only the database's own.
pub async fn last_modified(app: &App) -> Result<Option<Time>> {
    Ok(app.store.read(method_policies::find_updated).await?)
}

/// Puts that in the place of what holds for passes: see [`change_tap`].
///
/// # Errors
/// [`Refusal::TapPolicyInvalid`], [`Refusal::MethodPoliciesClosed`].
pub async fn update_tap(app: &App, rules: tap::Rules, by: &By) -> Result<()> {
    change_tap(app, move |_| rules, by).await
}

/// Changes what holds for passes. Those that were made stay as they are; while passes are off, none of them is taken.
///
/// # Errors
/// [`Refusal::TapPolicyInvalid`], [`Refusal::MethodPoliciesClosed`].
pub async fn change_tap(app: &App, change: impl Fn(tap::Rules) -> tap::Rules + Send + 'static, by: &By) -> Result<()> {
    let (by, now) = (by.clone(), app.now());
    app.store
        .write(move |tx| {
            let (before, passkeys) = lock(tx)?;
            let rules = change(before).check()?;
            check_open(&rules, &passkeys)?;
            method_policies::upsert_policy(tx, TAP, &rules, now)?;
            let entry = by.entry("method-policy.update", format!("method-policy:{TAP}"));
            audit::append(tx, &entry.before(&json!(before)).after(&json!(rules)), now)
        })
        .await?;
    Ok(())
}

/// Puts that in the place of what holds for passkeys: see [`change_passkey`].
///
/// # Errors
/// [`Refusal::PasskeyPolicyInvalid`], [`Refusal::MethodPoliciesClosed`].
pub async fn update_passkey(app: &App, policy: passkey::Policy, by: &By) -> Result<()> {
    change_passkey(app, move |_| policy.clone(), by).await
}

/// Changes what holds for passkeys. Those that were registered stay; while passkeys are off, none of them signs in.
///
/// # Errors
/// [`Refusal::PasskeyPolicyInvalid`], [`Refusal::MethodPoliciesClosed`].
pub async fn change_passkey(app: &App, change: impl Fn(passkey::Policy) -> passkey::Policy + Send + 'static, by: &By) -> Result<()> {
    let (by, now) = (by.clone(), app.now());
    app.store
        .write(move |tx| {
            let (passes, before) = lock(tx)?;
            let policy = change(before.clone()).check()?;
            if policy.attestation_authorities.iter().any(|pem| openssl::x509::X509::from_pem(pem.as_bytes()).is_err()) {
                return Err(Refusal::PasskeyPolicyInvalid.into());
            }
            check_open(&passes, &policy)?;
            method_policies::upsert_policy(tx, PASSKEY, &policy, now)?;
            let entry = by.entry("method-policy.update", format!("method-policy:{PASSKEY}"));
            audit::append(tx, &entry.before(&json!(before)).after(&json!(policy)), now)
        })
        .await?;
    Ok(())
}

/// Both policies as they are, until the transaction ends: of two changes at once the second sees the first.
fn lock(tx: &mut Tx<'_>) -> store::Result<(tap::Rules, passkey::Policy)> {
    method_policies::lock_policies(tx)?;
    Ok((method_policies::load_policy(tx.conn(), TAP)?, method_policies::load_policy(tx.conn(), PASSKEY)?))
}

/// One way to sign in has to be left.
fn check_open(passes: &tap::Rules, passkeys: &passkey::Policy) -> Result<(), Refusal> {
    if passes.enabled || passkeys.enabled { Ok(()) } else { Err(Refusal::MethodPoliciesClosed) }
}
