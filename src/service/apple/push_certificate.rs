//! The push certificate: how it is asked for, brought, renewed and watched.
//!
//! Apple's portal takes a request that an MDM vendor has signed, and gives a certificate for a year. Its topic is what devices enrol
//! for: while it stays, a new certificate changes nothing for them; when it changes, each has to enrol again.

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use openssl::x509::{X509, X509NameBuilder, X509Req, X509ReqBuilder};
use serde::Serialize;
use serde_json::json;

use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::apple::push::{Alarm, Certificate, FOREIGN, Request, UNREACHABLE, WARNINGS, warning};
use crate::domain::audit::Entry;
use crate::domain::certificate::KeyAlgorithm;
use crate::secret::{Sealer, Secret};
use crate::service::pki::authority;
use crate::service::pki::keys::SigningKey;
use crate::service::push::apns;
use crate::service::{Error, Result};
use crate::store;
use crate::store::apple::{channels, push};
use crate::store::sealed::APPLE_PUSH_KEY;
use crate::wire::apple::push::{CertificateRequest, is_topic};
use crate::wire::x509::Parts;

/// The largest number of certificates in a vendor's chain.
const TIERS: usize = 5;
/// Longest name of an Apple Account.
const LONGEST_ACCOUNT: usize = 256;
const TARGET: &str = "apple-push:certificate";

/// The topic that devices enrol for.
///
/// # Errors
/// [`Refusal::PushCertificateMissing`].
pub async fn topic(app: &App) -> Result<String> {
    let certificate = app.store.read(push::find_certificate).await?;
    Ok(certificate.ok_or(Refusal::PushCertificateMissing)?.topic)
}

/// A vendor's signing certificate: Apple gives one to those who sell device management.
pub struct Vendor {
    /// Its private key, PEM.
    pub key: Secret,
    /// Its certificate, the intermediate and the root, PEM, in any order.
    pub chain: String,
}

/// The request for the next certificate (PKCS#10, DER). A key that waits already is used again, so that a request on its way to Apple
/// stays good; `fresh` makes another one.
///
/// # Errors
/// When the store or OpenSSL fails.
pub async fn request(app: &App, fresh: bool, actor: &str, origin: &str) -> Result<Vec<u8>> {
    if !fresh && let Some(waiting) = app.store.read(push::find_request).await? {
        return Ok(waiting.der);
    }
    let (sealer, organisation, now) = (app.sealer(), app.config.organisation.clone(), app.now());
    let request = tokio::task::spawn_blocking(move || -> Result<Request> {
        // Apple takes no other kind of key.
        let key = SigningKey::generate(KeyAlgorithm::Rsa2048)?;
        Ok(Request { der: sign_request(&key, &organisation)?, sealed_key: key.seal(&sealer, APPLE_PUSH_KEY)?, created_at: now })
    });
    let request = request.await.map_err(Error::internal)??;
    let entry = Entry::new(actor, "apple.push_request", TARGET, origin)
        .after(&json!({ "request": hex::encode(openssl::sha::sha256(&request.der)), "fresh": fresh }));
    let der = request.der.clone();
    app.store
        .write(move |tx| {
            push::upsert_request(tx, &request)?;
            store::audit::append(tx, &entry, now)
        })
        .await?;
    Ok(der)
}

fn sign_request(key: &SigningKey, organisation: &str) -> Result<Vec<u8>> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, organisation)?;
    name.append_entry_by_nid(Nid::COMMONNAME, "Device management push")?;
    let mut request = X509ReqBuilder::new()?;
    request.set_subject_name(&name.build())?;
    request.set_pubkey(key.pkey())?;
    request.sign(key.pkey(), MessageDigest::sha256())?;
    Ok(request.build().to_der()?)
}

/// Signs a request as a vendor does: the file that Apple's portal takes.
///
/// # Errors
/// [`Refusal::PushVendorRefused`] says what does not fit.
pub async fn countersign(app: &App, request: Vec<u8>, vendor: Vendor) -> Result<String> {
    let ours: Vec<Vec<u8>> = authority::list(app).await?.into_iter().map(|authority| authority.certificate.clone()).collect();
    let signed = tokio::task::spawn_blocking(move || -> Result<String> {
        let refused = |why: &str| Error::Invalid(Refusal::PushVendorRefused, why.to_owned());
        let key = read_key(&vendor.key).ok_or_else(|| refused("the private key cannot be read; it must be PEM and not encrypted"))?;
        if key.rsa().is_err() {
            return Err(refused("the key is not RSA"));
        }
        let given = X509::stack_from_pem(vendor.chain.as_bytes()).map_err(|_| refused("the chain cannot be read as PEM"))?;
        let own = given.iter().find(|c| c.public_key().is_ok_and(|public| public.public_eq(&key)));
        let mut chain = vec![own.ok_or_else(|| refused("no certificate of the chain is for the key"))?.clone()];
        while chain.len() <= TIERS {
            let Some(last) = chain.last() else { break };
            let signs = |above: &X509| above.public_key().is_ok_and(|key| last.verify(&key).unwrap_or(false));
            if signs(last) {
                break;
            }
            let above = given.iter().find(|c| signs(c)).cloned();
            chain.push(above.ok_or_else(|| refused("the chain does not reach a root: give Apple's intermediate and root, too"))?);
        }
        for certificate in &chain {
            if ours.contains(&certificate.to_der()?) {
                return Err(refused(
                    "the vendor's certificate is of this server's own authority: Apple takes one that Apple gave to a vendor",
                ));
            }
        }
        if chain.len() < 2 {
            return Err(refused(
                "the vendor's certificate is signed by itself: Apple takes one that Apple gave to a vendor, with its chain",
            ));
        }
        let pem = chain.iter().map(|c| String::from_utf8(c.to_pem()?).map_err(Error::internal)).collect::<Result<String>>()?;
        let signature = Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(&request)?;
        Ok(CertificateRequest { request, chain: pem, signature }.encode())
    });
    signed.await.map_err(Error::internal)?
}

/// An empty pass phrase keeps OpenSSL from asking the terminal for one.
fn read_key(pem: &Secret) -> Option<PKey<Private>> {
    PKey::private_key_from_pem_passphrase(pem.expose(), b"").ok()
}

/// A push certificate to put in force.
pub struct Import {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM, when it was not made here.
    pub key: Option<Secret>,
    /// Take it although its topic is another one: every device has to enrol again.
    pub replace_topic: bool,
    /// The administrator knows how many devices that cuts off.
    pub confirmed: bool,
    /// The Apple Account that it was made with; without one that of the certificate in force is taken, where the topic is the same.
    pub account: Option<String>,
}

fn refused(why: impl Into<String>) -> Error {
    Error::Invalid(Refusal::PushCertificateRefused, why.into())
}

/// Puts a push certificate in force, on all nodes with their next wake. It must be for the key of the last request, the key of the
/// certificate in force, or the key that comes with it; and for the topic of the one in force.
///
/// # Errors
/// [`Refusal::PushCertificateRefused`] says what is wrong, [`Refusal::PushTopicChanged`], [`Refusal::PushTopicNotConfirmed`].
pub async fn import(app: &App, import: Import, actor: &str, origin: &str) -> Result<Status> {
    let now = app.now();
    let (current, waiting) = app.store.read(|c| Ok((push::find_certificate(c)?, push::find_request(c)?))).await?;
    let (sealer, known) = (app.sealer(), current.clone());
    let (replace_topic, confirmed) = (import.replace_topic, import.confirmed);
    let certificate = tokio::task::spawn_blocking(move || judge(&sealer, &import, known.as_ref(), waiting.as_ref(), now));
    let certificate = certificate.await.map_err(Error::internal)??;
    let refused_topic = current.as_ref().is_some_and(|current| current.topic != certificate.topic) && !replace_topic;
    if let Some(current) = current.as_ref().filter(|current| current.topic != certificate.topic && replace_topic && !confirmed) {
        let topic = current.topic.clone();
        let cut_off = app.store.read(move |c| channels::count_listening(c, &topic)).await?;
        if cut_off > 0 {
            return Err(Error::Invalid(Refusal::PushTopicNotConfirmed, format!("devices that listen to the old topic: {cut_off}")));
        }
    }
    let mut entry = Entry::new(actor, if refused_topic { "apple.push_refuse" } else { "apple.push_import" }, TARGET, origin);
    entry = entry.after(&describe(&certificate));
    if let Some(current) = &current {
        entry = entry.before(&describe(current));
    }
    let record = certificate.clone();
    app.store
        .write(move |tx| {
            // Somebody else may have brought one since.
            if push::find_certificate(tx.conn())?.map(|c| c.der) != current.as_ref().map(|c| c.der.clone()) {
                return Err(store::Error::Busy);
            }
            if !refused_topic {
                push::upsert_certificate(tx, &record)?;
                push::purge_request(tx)?;
            }
            store::audit::append(tx, &entry, now)
        })
        .await?;
    if refused_topic {
        return Err(Refusal::PushTopicChanged.into());
    }
    gauge(&certificate, now);
    app.outbox.notify_waiters();
    Ok(Status::of(Some(&certificate), None, Health::default(), now))
}

fn describe(certificate: &Certificate) -> serde_json::Value {
    json!({
        "topic": certificate.topic, "notAfter": certificate.not_after.to_string(), "account": certificate.account,
        "sha256": hex::encode(openssl::sha::sha256(&certificate.der)),
    })
}

fn judge(sealer: &Sealer, import: &Import, current: Option<&Certificate>, waiting: Option<&Request>, now: Time) -> Result<Certificate> {
    let given = X509::stack_from_pem(import.certificate.as_bytes()).map_err(|_| refused("it cannot be read as PEM"))?;
    if given.is_empty() {
        let request = import.certificate.contains("CERTIFICATE REQUEST");
        return Err(refused(if request {
            "it is the request: bring the certificate that Apple made of it"
        } else {
            "no certificate is in it"
        }));
    }
    let mut keys = Vec::new();
    if let Some(pem) = &import.key {
        keys.push(read_key(pem).ok_or_else(|| refused("the private key cannot be read; it must be PEM and not encrypted"))?);
    } else {
        for sealed in waiting.map(|w| &w.sealed_key).into_iter().chain(current.map(|c| &c.sealed_key)) {
            keys.push(SigningKey::open(sealer, APPLE_PUSH_KEY, sealed, KeyAlgorithm::Rsa2048)?.pkey().clone());
        }
    }
    let fits = |certificate: &&X509, key: &PKey<Private>| certificate.public_key().is_ok_and(|public| public.public_eq(key));
    let found = given.iter().find_map(|c| keys.iter().find(|key| fits(&c, key)).map(|key| (c, key)));
    let (certificate, key) = found.ok_or_else(|| refused("it is for another key than that of the last request (muster apple push-csr)"))?;
    if !key.rsa().is_ok_and(|rsa| rsa.size() >= 256) {
        return Err(refused("its key is not RSA of 2048 bits or more"));
    }
    let mut names = certificate.subject_name().entries_by_nid(Nid::USERID);
    let topic = names.next().and_then(|entry| entry.data().to_string().ok()).filter(|topic| is_topic(topic) && names.next().is_none());
    let topic = topic.ok_or_else(|| refused("its subject has no user id that begins with com.apple.mgmt."))?;
    let der = certificate.to_der()?;
    let parts = Parts::parse(&der)?;
    let (not_before, not_after) = (Time::from_seconds(parts.not_before), Time::from_seconds(parts.not_after));
    // Clocks differ: what Apple has just made is good.
    if not_before > now.plus(DAY) {
        return Err(refused(format!("it is not valid before {not_before}")));
    }
    if not_after <= now {
        return Err(refused(format!("it ended {not_after}")));
    }
    if current.is_some_and(|current| current.topic == topic && current.not_after > not_after) {
        return Err(refused("it ends before the one in force: it is an older one"));
    }
    let account = import.account.as_deref().map(str::trim).filter(|name| !name.is_empty());
    if account.is_some_and(|name| name.chars().count() > LONGEST_ACCOUNT || name.chars().any(char::is_control)) {
        return Err(refused(format!("the name of the Apple Account has more than {LONGEST_ACCOUNT} characters")));
    }
    let before = current.filter(|current| current.topic == topic).and_then(|current| current.account.clone());
    let account = account.map(str::to_owned).or(before);
    let sealed_key = sealer.seal(APPLE_PUSH_KEY, &zeroize::Zeroizing::new(key.private_key_to_pkcs8()?))?;
    Ok(Certificate { sealed_key, der, topic, not_before, not_after, alarm: None, warned_days: None, created_at: now, account })
}

/// The push certificate and what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The topic that devices enrol for.
    pub topic: Option<String>,
    /// The Apple Account that it is renewed with, as far as it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// SHA-256 of the certificate, hex.
    pub sha256: Option<String>,
    /// Its last moment.
    pub not_after: Option<String>,
    /// Whole days until then; negative when it has ended.
    pub days_left: Option<i64>,
    /// Since when a request waits for its certificate.
    pub requested_at: Option<String>,
    /// Why the push service refuses the certificate, and since when.
    pub alarm: Option<Alarm>,
    /// How many channels it does not wake because their tokens are of another topic or environment, when there are any.
    pub foreign_tokens: Option<i64>,
    /// Since when wakes fail, and how the last one did.
    pub unreachable: Option<Alarm>,
    /// What to do; nothing when all is well.
    pub advice: Option<String>,
}

impl Status {
    fn of(certificate: Option<&Certificate>, waiting: Option<&Request>, health: Health, now: Time) -> Self {
        let days_left = certificate.map(|c| c.not_after.since(now).div_euclid(DAY));
        let alarm = certificate.and_then(|c| c.alarm.clone());
        let advice = match (days_left, &alarm) {
            (None, _) if waiting.is_some() => Some("bring the certificate that Apple made of the request: muster apple push-cert".into()),
            (None, _) => Some("make a request: muster apple push-csr".into()),
            (Some(..0), _) => Some("it has ended, devices are not woken: renew the entry at identity.apple.com/pushcert".into()),
            (_, Some(alarm)) => Some(format!("the push service refuses it ({}): renew it", alarm.reason)),
            _ if health.stuck.is_some() => health.stuck.as_ref().map(|stuck| {
                format!("no wake has reached Apple's push service since {} ({}): it has to be reached without anything in between that ends TLS", stuck.since, stuck.reason)
            }),
            _ if health.foreign > 0 => Some(format!(
                "Apple's push service does not take the tokens of {} channels (another topic, or another environment): look at apple.apns.url, and enrol those devices again",
                health.foreign
            )),
            (Some(days), None) if days <= WARNINGS.into_iter().nth(1).unwrap_or_default() => {
                Some(format!("{days} days left: renew the entry at identity.apple.com/pushcert with the same Apple Account"))
            }
            _ => None,
        };
        Self {
            topic: certificate.map(|c| c.topic.clone()),
            account: certificate.and_then(|c| c.account.clone()),
            sha256: certificate.map(|c| hex::encode(openssl::sha::sha256(&c.der))),
            not_after: certificate.map(|c| c.not_after.to_string()),
            days_left,
            requested_at: waiting.map(|w| w.created_at.to_string()),
            alarm,
            foreign_tokens: Some(health.foreign).filter(|count| *count > 0),
            unreachable: health.stuck,
            advice,
        }
    }
}

/// How it goes with waking devices.
#[derive(Default)]
struct Health {
    foreign: i64,
    stuck: Option<Alarm>,
}

impl Health {
    fn read(conn: &mut store::Conn, now: Time) -> store::Result<Self> {
        let stuck = push::find_stuck(conn, apns::TOPIC)?.map(|(since, reason)| Alarm { reason, since });
        Ok(Self { foreign: channels::count_push_dead(conn, &FOREIGN)?, stuck: stuck.filter(|stuck| now.since(stuck.since) >= UNREACHABLE) })
    }
}

/// The push certificate in force, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The certificate, PEM.
    pub pem: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// The topic that devices enrol for.
    pub topic: String,
    /// The Apple Account that it is renewed with, as far as it was said.
    pub account: Option<String>,
    /// Its last moment.
    pub not_after: Time,
    /// When it was put in force.
    pub updated_at: Time,
}

/// The push certificate in force.
///
/// # Errors
/// When the store fails.
pub async fn shown(app: &App) -> Result<Option<Shown>> {
    let Some(found) = app.store.read(push::find_certificate).await? else { return Ok(None) };
    let serial = hex::encode_upper(Parts::parse(&found.der)?.serial);
    let (topic, account, not_after) = (found.topic, found.account, found.not_after);
    Ok(Some(Shown { pem: authority::pem(&found.der), serial, topic, account, not_after, updated_at: found.created_at }))
}

/// [`request`] for a person, PEM; a key that waits is used again.
///
/// # Errors
/// As [`request`].
pub async fn request_pem(app: &App, actor: &str, origin: &str) -> Result<String> {
    let der = request(app, false, actor, origin).await?;
    String::from_utf8(X509Req::from_der(&der)?.to_pem()?).map_err(Error::internal)
}

/// What there is.
///
/// # Errors
/// When the store fails.
pub async fn status(app: &App) -> Result<Status> {
    let now = app.now();
    let read = move |c: &mut store::Conn| Ok((push::find_certificate(c)?, push::find_request(c)?, Health::read(c, now)?));
    let (certificate, waiting, health) = app.store.read(read).await?;
    Ok(Status::of(certificate.as_ref(), waiting.as_ref(), health, now))
}

fn gauge(certificate: &Certificate, now: Time) {
    let days = certificate.not_after.since(now).div_euclid(DAY);
    metrics::gauge!("muster_apple_push_certificate_days").set(f64::from(i32::try_from(days).unwrap_or(i32::MAX)));
}

/// Warns of the certificate's end, at each of [`WARNINGS`] once.
///
/// # Errors
/// When the store fails.
pub async fn warn(app: &App) -> Result<()> {
    let Some(certificate) = app.store.read(push::find_certificate).await? else { return Ok(()) };
    let now = app.now();
    gauge(&certificate, now);
    let Some(days) = warning(certificate.not_after, certificate.warned_days, now) else { return Ok(()) };
    let (topic, not_after, der) = (certificate.topic.clone(), certificate.not_after, certificate.der.clone());
    let entry = Entry::new("system", "apple.push_expiring", TARGET, "jobs").after(&describe(&certificate));
    let claimed = app
        .store
        .write(move |tx| {
            let claimed = push::claim_warning(tx, &der, days)?;
            if claimed {
                store::audit::append(tx, &entry, now)?;
            }
            Ok(claimed)
        })
        .await?;
    if claimed {
        tracing::error!(topic, %not_after, days, "the Apple push certificate comes to its end: renew it at identity.apple.com/pushcert");
    }
    Ok(())
}
