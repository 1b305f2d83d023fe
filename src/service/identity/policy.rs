//! What the organisation says about the ways to sign in.

use serde_json::json;

use crate::app::App;
use crate::domain::{Refusal, passkey, tap};
use crate::service::directory::By;
use crate::service::{Error, Result};
use crate::store::{audit, method_policies};

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

/// Changes what holds for passes. Those that were made stay as they are; while passes are off, none of them is taken.
///
/// # Errors
/// [`Refusal::TapPolicyInvalid`].
pub async fn update_tap(app: &App, rules: tap::Rules, by: &By) -> Result<()> {
    let rules = rules.check()?;
    let (by, now) = (by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before: tap::Rules = method_policies::load_policy(tx.conn(), TAP)?;
            method_policies::upsert_policy(tx, TAP, &rules, now)?;
            let entry = by.entry("method-policy.update", format!("method-policy:{TAP}"));
            audit::append(tx, &entry.before(&json!(before)).after(&json!(rules)), now)
        })
        .await?;
    Ok(())
}

/// Changes what holds for passkeys. Those that were registered stay; while passkeys are off, none of them signs in.
///
/// # Errors
/// [`Refusal::PasskeyPolicyInvalid`].
pub async fn update_passkey(app: &App, policy: passkey::Policy, by: &By) -> Result<()> {
    let policy = policy.check()?;
    for pem in &policy.attestation_authorities {
        if openssl::x509::X509::from_pem(pem.as_bytes()).is_err() {
            return Err(Error::Refused(Refusal::PasskeyPolicyInvalid));
        }
    }
    let (by, now) = (by.clone(), app.now());
    app.store
        .write(move |tx| {
            let before: passkey::Policy = method_policies::load_policy(tx.conn(), PASSKEY)?;
            method_policies::upsert_policy(tx, PASSKEY, &policy, now)?;
            let entry = by.entry("method-policy.update", format!("method-policy:{PASSKEY}"));
            audit::append(tx, &entry.before(&json!(before)).after(&json!(policy)), now)
        })
        .await?;
    Ok(())
}
