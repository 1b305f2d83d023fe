//! Keys that sign tokens, security events and access tokens alike (their `typ` tells them apart), and their rotation: a new key is published
//! a day before it signs, so that every cached key set has it by then; an old one stays published until nothing that it signed can still be
//! on its way or in force.

use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::{Value, json};

use crate::app::App;
use crate::clock::{DAY, HOUR, Time};
use crate::domain::audit::Entry;
use crate::service::directory::By;
use crate::service::{Error, Result};
use crate::store::signing_keys::{self, SigningKey};
use crate::store::{self, sealed};
use crate::wire::jwk;

/// How long a key signs, and how long before that it is published.
const SIGNS_FOR: i64 = 90 * DAY;
const PUBLISHED_BEFORE: i64 = DAY;
const RSA_BITS: u32 = 2048;

/// The key that signs now.
#[derive(Clone)]
pub struct Active {
    /// Names it in tokens.
    pub kid: String,
    key: PKey<Private>,
}

impl Active {
    /// Signs with RS256, off the async threads.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub async fn sign(&self, input: String) -> Result<Vec<u8>> {
        let key = self.key.clone();
        let signed = tokio::task::spawn_blocking(move || -> Result<Vec<u8>> {
            let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
            Ok(signer.sign_oneshot_to_vec(input.as_bytes())?)
        });
        signed.await.map_err(Error::internal)?
    }
}

/// Until when a key stays published; `None` while it is in use or will be.
fn published_until(app: &App, key: &SigningKey) -> Option<Time> {
    key.retired_at.map(|at| at.plus(HOUR * i64::from(app.config.signals.retention_hours) + DAY))
}

fn signing_now(keys: &[SigningKey], now: Time) -> Option<&SigningKey> {
    keys.iter().rev().find(|k| k.active_from <= now && k.retired_at.is_none())
}

/// The key that signs now; the first one is made when there is none.
///
/// # Errors
/// When the database or OpenSSL fails.
pub async fn active(app: &App) -> Result<Active> {
    let mut keys = app.store.read(signing_keys::list_signing_keys).await?;
    if signing_now(&keys, app.now()).is_none() {
        refresh(app).await?;
        keys = app.store.read(signing_keys::list_signing_keys).await?;
    }
    let row = signing_now(&keys, app.now()).ok_or_else(|| Error::internal(anyhow::anyhow!("no signing key")))?;
    let der = app.sealer().open(sealed::SIGNING_KEY, &row.sealed_key)?;
    Ok(Active { kid: row.kid.clone(), key: PKey::private_key_from_der(der.expose())? })
}

/// Whether receivers can still find that key.
///
/// # Errors
/// When the database fails.
pub async fn is_published(app: &App, kid: &str) -> Result<bool> {
    let keys = app.store.read(signing_keys::list_signing_keys).await?;
    Ok(keys.iter().any(|k| k.kid == kid))
}

/// The published keys as a JWK set.
///
/// # Errors
/// When the database fails.
pub async fn jwks(app: &App) -> Result<Value> {
    let keys = app.store.read(signing_keys::list_signing_keys).await?;
    let keys: Vec<Value> =
        keys.iter().map(|k| serde_json::from_str(&k.jwk)).collect::<std::result::Result<_, _>>().map_err(Error::internal)?;
    Ok(json!({ "keys": keys }))
}

/// The published keys by their names.
///
/// # Errors
/// When the database fails.
pub async fn public(app: &App) -> Result<Vec<(String, Value)>> {
    let keys = app.store.read(signing_keys::list_signing_keys).await?;
    keys.into_iter().map(|key| Ok((key.kid, serde_json::from_str(&key.jwk).map_err(Error::internal)?))).collect()
}

/// A key as receivers find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Names it in tokens.
    pub kid: String,
    /// Its JWS algorithm.
    pub algorithm: String,
    /// From when it signs.
    pub signs_from: Time,
    /// Since when another one signs.
    pub retired_at: Option<Time>,
    /// Whether it signs at this moment.
    pub signs_now: bool,
}

/// The published keys, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn list(app: &App) -> Result<Vec<Published>> {
    let keys = app.store.read(signing_keys::list_signing_keys).await?;
    let now = signing_now(&keys, app.now()).map(|key| key.kid.clone());
    let show = |key: SigningKey| Published {
        signs_now: now.as_deref() == Some(key.kid.as_str()),
        kid: key.kid,
        algorithm: key.algorithm,
        signs_from: key.active_from,
        retired_at: key.retired_at,
    };
    Ok(keys.into_iter().map(show).collect())
}

/// Makes the next key when it is time, retires those that a newer one replaced, and deletes those that no receiver needs any more.
///
/// # Errors
/// When the database or OpenSSL fails.
pub async fn refresh(app: &App) -> Result<()> {
    let now = app.now();
    let keys = app.store.read(signing_keys::list_signing_keys).await?;
    let newest = keys.iter().map(|k| k.active_from).max();
    let fresh = match newest {
        None => Some(generate(app, now, now).await?),
        Some(newest) if now >= newest.plus(SIGNS_FOR - PUBLISHED_BEFORE) => Some(generate(app, now, now.plus(PUBLISHED_BEFORE)).await?),
        Some(_) => None,
    };
    let gone: Vec<String> = keys.iter().filter(|k| published_until(app, k).is_some_and(|end| end < now)).map(|k| k.kid.clone()).collect();
    app.store
        .write(move |tx| {
            let known = signing_keys::list_signing_keys(tx.conn())?;
            // Another node may have been faster.
            if let Some(fresh) = fresh.as_ref().filter(|_| known.iter().map(|k| k.active_from).max() == newest) {
                insert(tx, fresh, &By::local("job:signing-keys"), now)?;
            }
            if let Some(current) = signing_now(&known, now) {
                for old in known.iter().filter(|k| k.retired_at.is_none() && k.active_from < current.active_from) {
                    signing_keys::update_retired(tx, &old.kid, current.active_from)?;
                }
            }
            for kid in &gone {
                signing_keys::delete_signing_key(tx, kid)?;
                store::audit::append(
                    tx,
                    &Entry::new("job:signing-keys", "signing_key.delete", format!("signing_key:{kid}"), "local"),
                    now,
                )?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// For an emergency: a new key signs at once and all others are no longer published; what is unsent is signed again when its turn
/// comes, with the same `jti`.
///
/// # Errors
/// When the database or OpenSSL fails.
pub async fn replace_all(app: &App, by: &By) -> Result<String> {
    let now = app.now();
    let fresh = generate(app, now, now).await?;
    let (kid, by) = (fresh.kid.clone(), by.clone());
    app.store
        .write(move |tx| {
            for old in signing_keys::list_signing_keys(tx.conn())? {
                signing_keys::delete_signing_key(tx, &old.kid)?;
                store::audit::append(tx, &by.entry("signing_key.delete", format!("signing_key:{}", old.kid)), now)?;
            }
            insert(tx, &fresh, &by, now)
        })
        .await?;
    app.token_keys.forget();
    Ok(kid)
}

fn insert(tx: &mut store::Tx<'_>, key: &SigningKey, by: &By, now: Time) -> store::Result<()> {
    signing_keys::insert_signing_key(tx, key)?;
    let after = json!({ "algorithm": key.algorithm, "active_from": key.active_from.to_string() });
    store::audit::append(tx, &by.entry("signing_key.create", format!("signing_key:{}", key.kid)).after(&after), now)
}

async fn generate(app: &App, now: Time, active_from: Time) -> Result<SigningKey> {
    let sealer = app.sealer();
    let made = tokio::task::spawn_blocking(move || -> Result<SigningKey> {
        let rsa = Rsa::generate(RSA_BITS)?;
        let (kid, public) = jwk::rsa_jwk(&rsa.n().to_vec(), &rsa.e().to_vec());
        let der = crate::secret::Secret::new(PKey::from_rsa(rsa)?.private_key_to_pkcs8()?);
        let sealed_key = sealer.seal(sealed::SIGNING_KEY, der.expose())?;
        let jwk = public.to_string();
        Ok(SigningKey { kid, algorithm: "RS256".into(), jwk, sealed_key, created_at: now, active_from, retired_at: None })
    });
    made.await.map_err(Error::internal)?
}
