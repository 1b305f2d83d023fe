//! The keys of tokens, held in memory for a moment: every call shows a token, and reading the keys anew for each would cost more than
//! judging it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Public};
use openssl::rsa::Rsa;
use openssl::sign::Verifier;

use crate::app::App;
use crate::clock::{SECOND, Time};
use crate::service::signing_keys::{self, Active};
use crate::service::{Error, Result};
use crate::wire::jwk;

/// For how long they are believed before the store is asked again: another node may have made or withdrawn one.
const FRESH: i64 = 10 * SECOND;

/// The keys as read last.
#[derive(Default)]
pub struct TokenKeys(Mutex<Option<Arc<Known>>>);

struct Known {
    read_at: Time,
    active: Active,
    public: BTreeMap<String, PKey<Public>>,
}

impl TokenKeys {
    async fn known(&self, app: &App) -> Result<Arc<Known>> {
        let now = app.now();
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(held) = held.filter(|held| (0..FRESH).contains(&now.since(held.read_at))) {
            return Ok(held);
        }
        let active = signing_keys::active(app).await?;
        let mut public = BTreeMap::new();
        for (kid, published) in signing_keys::public(app).await? {
            let (n, e) = jwk::rsa_parts(&published).ok_or_else(|| Error::internal(anyhow::anyhow!("a published key is no RSA key")))?;
            let rsa = Rsa::from_public_components(BigNum::from_slice(&n)?, BigNum::from_slice(&e)?)?;
            public.insert(kid, PKey::from_rsa(rsa)?);
        }
        let known = Arc::new(Known { read_at: now, active, public });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&known));
        Ok(known)
    }

    /// Forgets what was read, after the keys were replaced.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The key that signs now.
///
/// # Errors
/// When the database or OpenSSL fails.
pub async fn active(app: &App) -> Result<Active> {
    Ok(app.token_keys.known(app).await?.active.clone())
}

/// Whether the RS256 signature over `input` is one of the published key `kid`'s.
///
/// # Errors
/// When the database or OpenSSL fails.
pub async fn is_signed(app: &App, kid: &str, input: &str, signature: &[u8]) -> Result<bool> {
    let known = app.token_keys.known(app).await?;
    let Some(key) = known.public.get(kid) else { return Ok(false) };
    let mut verifier = Verifier::new(MessageDigest::sha256(), key)?;
    // A signature of a wrong length is an error to OpenSSL and a wrong signature to us.
    Ok(verifier.verify_oneshot(signature, input.as_bytes()).unwrap_or(false))
}
