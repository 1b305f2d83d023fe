//! Private keys: how they are made, sealed and used, and the cache of the authorities with their unsealed keys.

use std::sync::{Arc, PoisonError, RwLock};

use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;

use super::authority::Authority;
use crate::app::App;
use crate::clock::{SECOND, Time};
use crate::domain::authority::{KeyRecord, Record};
use crate::domain::certificate::{KeyAlgorithm, Purpose};
use crate::ids::AuthorityId;
use crate::secret::{SealError, Sealer};
use crate::service::{Error, Result};
use crate::store::authorities;
use crate::wire::x509::SignatureAlgorithm;

/// For how long the cache is believed before the store is asked again: another node may have changed something.
const CACHE: i64 = 10 * SECOND;

/// A private key, parsed once and used by many requests.
#[derive(Clone)]
pub struct SigningKey {
    key: PKey<Private>,
    algorithm: KeyAlgorithm,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.algorithm)
    }
}

impl SigningKey {
    /// A fresh key. Takes up to a second for RSA: call it off the async threads.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn generate(algorithm: KeyAlgorithm) -> std::result::Result<Self, ErrorStack> {
        let key = match (algorithm.rsa_bits(), algorithm) {
            (Some(bits), _) => PKey::from_rsa(Rsa::generate(bits)?)?,
            (None, KeyAlgorithm::P384) => PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::SECP384R1)?)?)?,
            (None, _) => PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)?,
        };
        Ok(Self { key, algorithm })
    }

    /// A key made elsewhere; `None` when it is of a kind that authorities do not have.
    #[must_use]
    pub fn of(key: PKey<Private>) -> Option<Self> {
        let algorithm = super::issue::key_algorithm(&key.public_key_to_der().ok()?).ok()?;
        Some(Self { key, algorithm })
    }

    /// The key, sealed for the store.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn seal(&self, sealer: &Sealer, purpose: &'static str) -> std::result::Result<Vec<u8>, SealError> {
        sealer.seal(purpose, &zeroize::Zeroizing::new(self.key.private_key_to_pkcs8()?))
    }

    /// The key of the store.
    ///
    /// # Errors
    /// [`SealError`] when it does not open.
    pub fn open(sealer: &Sealer, purpose: &'static str, sealed: &[u8], algorithm: KeyAlgorithm) -> std::result::Result<Self, SealError> {
        let key = PKey::private_key_from_pkcs8(sealer.open(purpose, sealed)?.expose())?;
        Ok(Self { key, algorithm })
    }

    /// The key as OpenSSL has it: for TLS and for unwrapping.
    #[must_use]
    pub fn pkey(&self) -> &PKey<Private> {
        &self.key
    }

    /// What kind of key it is.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// How it signs: SHA-384 for the larger kinds, else SHA-256; RSA with PKCS#1 v1.5, because some devices refuse PSS.
    #[must_use]
    pub fn signature_algorithm(&self) -> SignatureAlgorithm {
        match self.algorithm {
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => SignatureAlgorithm::RsaSha256,
            KeyAlgorithm::Rsa4096 => SignatureAlgorithm::RsaSha384,
            KeyAlgorithm::P256 => SignatureAlgorithm::EcdsaSha256,
            KeyAlgorithm::P384 => SignatureAlgorithm::EcdsaSha384,
        }
    }

    /// Its SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn spki(&self) -> std::result::Result<Vec<u8>, ErrorStack> {
        self.key.public_key_to_der()
    }

    /// Signs. Costs up to milliseconds for RSA: call it off the async threads.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn sign(&self, bytes: &[u8]) -> std::result::Result<Vec<u8>, ErrorStack> {
        let digest = match self.signature_algorithm() {
            SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::EcdsaSha256 => MessageDigest::sha256(),
            SignatureAlgorithm::RsaSha384 | SignatureAlgorithm::EcdsaSha384 => MessageDigest::sha384(),
        };
        Signer::new(digest, &self.key)?.sign_oneshot_to_vec(bytes)
    }
}

/// A certificate of ours with its key.
#[derive(Debug)]
pub struct ServiceKey {
    /// What it is for.
    pub purpose: Purpose,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: SigningKey,
    /// First moment of validity.
    pub not_before: Time,
    /// Last moment of validity.
    pub not_after: Time,
}

/// The authorities of the instance with their keys, as they were read at one moment.
#[derive(Debug)]
pub(super) struct Loaded {
    at: Time,
    pub(super) authorities: Vec<Arc<Authority>>,
    sources: Vec<(Record, Vec<KeyRecord>)>,
}

/// The cache of authorities and keys; one per server.
#[derive(Debug, Default)]
pub struct Keys {
    loaded: RwLock<Option<Arc<Loaded>>>,
    stale: std::sync::atomic::AtomicBool,
    loading: tokio::sync::Mutex<()>,
}

impl Keys {
    /// Forgets what was read: the next use reads again.
    pub fn invalidate(&self) {
        self.stale.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Whether what is here was read longer ago than `age`.
    fn is_older(&self, now: Time, age: i64) -> bool {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.as_ref().is_none_or(|l| !(0..age).contains(&now.since(l.at)))
    }

    fn current(&self, now: Time) -> Option<Arc<Loaded>> {
        if self.stale.load(std::sync::atomic::Ordering::SeqCst) {
            return None;
        }
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.as_ref().filter(|l| (0..CACHE).contains(&now.since(l.at))).map(Arc::clone)
    }
}

/// Whether something that is missing among the authorities is worth another look, which is had by [`Keys::invalidate`]: not more often
/// than once a second, since strangers can ask for what does not exist.
pub(super) fn may_refresh(app: &App) -> bool {
    app.keys.is_older(app.now(), SECOND)
}

/// The authorities, from the cache or the store.
pub(super) async fn load(app: &App) -> Result<Arc<Loaded>> {
    let now = app.now();
    if let Some(loaded) = app.keys.current(now) {
        return Ok(loaded);
    }
    let _one_at_a_time = app.keys.loading.lock().await;
    if let Some(loaded) = app.keys.current(now) {
        return Ok(loaded);
    }
    app.keys.stale.store(false, std::sync::atomic::Ordering::SeqCst);
    let read = app.store.read(move |c| Ok((authorities::list_authorities(c)?, authorities::list_service_keys(c, now)?))).await;
    let previous = app.keys.loaded.read().unwrap_or_else(PoisonError::into_inner).clone();
    let sealer = app.sealer();
    let base = app.config.pki_url();
    let built = match read {
        Ok((records, keys)) => tokio::task::spawn_blocking(move || build(now, &sealer, &base, &records, &keys, previous.as_deref()))
            .await
            .map_err(Error::internal)
            .and_then(|built| built),
        Err(error) => Err(error.into()),
    };
    match built {
        Ok(loaded) => {
            let loaded = Arc::new(loaded);
            *app.keys.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&loaded));
            Ok(loaded)
        }
        Err(error) => {
            app.keys.invalidate();
            Err(error)
        }
    }
}

fn build(now: Time, sealer: &Sealer, base: &str, records: &[Record], keys: &[KeyRecord], previous: Option<&Loaded>) -> Result<Loaded> {
    let mut loaded = Loaded { at: now, authorities: Vec::new(), sources: Vec::new() };
    for record in records {
        let own: Vec<KeyRecord> = keys.iter().filter(|key| key.authority_id == record.id).cloned().collect();
        let source = source(record, &own);
        let known = previous.into_iter().flat_map(|p| p.sources.iter().zip(&p.authorities)).find(|(_, a)| a.id == record.id);
        let (source, authority) = match known {
            Some((before, authority)) if *before == source => (source, Arc::clone(authority)),
            _ => match Authority::build(sealer, base, record, &own, &chain(records, record)) {
                Ok(built) => (source, Arc::new(built)),
                // Another node has moved on to a master key that is not here yet: what is open stays in use.
                Err(Error::Internal(why)) if previous.is_some() && is_unknown_key(&why) => {
                    tracing::error!(authority = record.name, error = %why, "a key does not open on this node");
                    let Some((before, authority)) = known else { continue };
                    (before.clone(), Arc::clone(authority))
                }
                Err(error) => return Err(error),
            },
        };
        loaded.authorities.push(authority);
        loaded.sources.push(source);
    }
    Ok(loaded)
}

fn is_unknown_key(why: &anyhow::Error) -> bool {
    matches!(why.downcast_ref::<SealError>(), Some(SealError::UnknownKey(_)))
}

/// What an authority in the cache was made of, without what changes nothing in it: the CRL's number, and how the keys are sealed (a
/// certificate has one key for ever).
fn source(record: &Record, own: &[KeyRecord]) -> (Record, Vec<KeyRecord>) {
    let own = own.iter().map(|key| KeyRecord { sealed_key: Vec::new(), ..key.clone() }).collect();
    (Record { crl_number: 0, crl_due_at: Time(0), sealed_key: Vec::new(), ..record.clone() }, own)
}

/// The certificates from an authority's own up to the root's.
fn chain(records: &[Record], record: &Record) -> Vec<Vec<u8>> {
    let mut chain = vec![record.certificate.clone()];
    let mut parent: Option<&AuthorityId> = record.parent_id.as_ref();
    while let Some(above) = parent.and_then(|id| records.iter().find(|r| r.id == *id)).filter(|_| chain.len() < 8) {
        chain.push(above.certificate.clone());
        parent = above.parent_id.as_ref();
    }
    chain.extend(record.upper_chain.iter().cloned());
    chain
}
