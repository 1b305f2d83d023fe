//! Issuing authorities under somebody else's root: a request that an outside authority signs, or an authority that exists with its key.

use std::sync::Arc;

use openssl::asn1::Asn1Object;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, PKeyRef, Public};
use openssl::stack::Stack;
use openssl::x509::extension::{BasicConstraints, KeyUsage};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509NameBuilder, X509ReqBuilder, X509StoreContext};
use serde_json::json;

use super::authority::{self, Authority, Called};
use super::issue;
use super::keys::SigningKey;
use super::service_key;
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::authority::{Kind, Pending, Record, Status, is_name};
use crate::domain::certificate::{KeyAlgorithm, Purpose, Rdn};
use crate::ids::AuthorityId;
use crate::secret::Secret;
use crate::service::{Error, Result};
use crate::store::authorities;
use crate::store::sealed::{AUTHORITY_KEY, REQUEST_KEY};
use crate::wire::asn1::{self, Reader};
use crate::wire::x509::{BASIC_CONSTRAINTS, CRL_SIGN, KEY_CERT_SIGN, KEY_USAGE, Parts};

/// How many authorities may stand above one.
const TIERS: usize = 8;

/// Makes a key for an authority and the request (PKCS#10, DER) for an outside authority to sign; the key never leaves.
///
/// # Errors
/// [`Refusal::AuthorityNameInvalid`], [`Refusal::AuthorityNameTaken`]; [`Refusal::AuthorityRequested`] when it was made before and waits.
pub async fn request(app: &App, name: &str, common_name: &str, key_algorithm: KeyAlgorithm, actor: &str, origin: &str) -> Result<Vec<u8>> {
    let ordered = Ordered { name: name.to_owned(), common_name: common_name.to_owned(), key_algorithm };
    Ok(request_called(app, ordered, Called::by(name), actor, origin).await?.request)
}

/// An authority that an outside authority shall sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// Name in addresses.
    pub name: String,
    /// Common name of its certificate.
    pub common_name: String,
    /// Its key.
    pub key_algorithm: KeyAlgorithm,
}

/// [`request`], with what else it is called.
///
/// # Errors
/// As [`request`]; [`Refusal::CertificateNameTooLong`].
pub async fn request_called(app: &App, ordered: Ordered, called: Called, actor: &str, origin: &str) -> Result<Pending> {
    let Ordered { name, common_name, key_algorithm } = ordered;
    if !is_name(&name) {
        return Err(Refusal::AuthorityNameInvalid.into());
    }
    let (sealer, subject, now) = (app.sealer(), called.subject(&app.config.organisation, &common_name), app.now());
    if !subject.iter().all(Rdn::is_well_formed) {
        return Err(Refusal::CertificateNameInvalid.into());
    }
    let (request, sealed_key) = tokio::task::spawn_blocking(move || -> Result<_> {
        let key = SigningKey::generate(key_algorithm)?;
        Ok((sign_request(&key, &subject)?, key.seal(&sealer, REQUEST_KEY)?))
    })
    .await
    .map_err(Error::internal)??;
    let audit_after = json!({ "name": name, "commonName": common_name, "keyAlgorithm": key_algorithm });
    let pending = Pending {
        id: AuthorityId::new(),
        name,
        common_name,
        key_algorithm,
        sealed_key,
        request,
        created_at: now,
        display_name: called.display_name,
        description: called.description,
        updated_at: now,
        version: 1,
    };
    let audit = Entry::new(actor, "authority.request", format!("authority:{}", pending.id), origin).after(&audit_after);
    let row = pending.clone();
    app.store
        .write(move |tx| {
            authorities::insert_pending(tx, &row)?;
            crate::store::audit::append(tx, &audit, now)
        })
        .await?;
    Ok(pending)
}

fn sign_request(key: &SigningKey, subject: &[Rdn]) -> Result<Vec<u8>> {
    let too_long = |_| Error::from(Refusal::CertificateNameTooLong);
    let mut name = X509NameBuilder::new()?;
    for attribute in subject.iter().flat_map(|rdn| &rdn.0) {
        let kind = Asn1Object::from_str(attribute.kind.oid())?.nid();
        name.append_entry_by_nid(kind, &attribute.value).map_err(too_long)?;
    }
    let mut request = X509ReqBuilder::new()?;
    request.set_subject_name(&name.build())?;
    request.set_pubkey(key.pkey())?;
    let mut extensions = Stack::new()?;
    extensions.push(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
    extensions.push(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    request.add_extensions(&extensions)?;
    request.sign(key.pkey(), MessageDigest::sha256())?;
    Ok(request.build().to_der()?)
}

/// The authorities that wait for a certificate from outside.
///
/// # Errors
/// When the store fails.
pub async fn list_pending(app: &App) -> Result<Vec<Pending>> {
    Ok(app.store.read(authorities::list_pending).await?)
}

/// Whether an authority of that name waits for a certificate from outside.
///
/// # Errors
/// When the store fails.
pub async fn is_pending(app: &App, name: &str) -> Result<bool> {
    let name = name.to_owned();
    Ok(app.store.read(move |c| authorities::find_pending(c, &name)).await?.is_some())
}

/// Discards the request of an authority that waits, with its key.
///
/// # Errors
/// [`Error::NotFound`] when no such authority waits.
pub async fn discard(app: &App, name: &str, actor: &str, origin: &str) -> Result<()> {
    let (name, actor, origin, now) = (name.to_owned(), actor.to_owned(), origin.to_owned(), app.now());
    let discarded = app.store.write(move |tx| {
        let Some(pending) = authorities::find_pending(tx.conn(), &name)? else { return Ok(false) };
        if !authorities::purge_pending(tx, &pending.id)? {
            return Ok(false);
        }
        let target = format!("authority:{}", pending.id);
        let audit = Entry::new(actor.as_str(), "authority.discard", target, origin.as_str()).after(&json!({ "name": name }));
        crate::store::audit::append(tx, &audit, now)?;
        Ok(true)
    });
    if discarded.await? { Ok(()) } else { Err(Error::NotFound("authority")) }
}

/// An authority's certificate from outside.
#[derive(Clone, Debug)]
pub struct Import {
    /// Name in addresses.
    pub name: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// The certificates above it, PEM, in any order, up to a root.
    pub chain: String,
}

/// Puts an authority to work with the certificate that an outside authority made of its [`request`]. What is refused leaves it waiting.
///
/// # Errors
/// [`Error::NotFound`] when no such authority waits; [`Refusal::AuthorityImported`] when it has its certificate already;
/// [`Refusal::AuthorityCertificateRefused`] says what is wrong.
pub async fn import_certificate(app: &App, import: Import, actor: &str, origin: &str) -> Result<Arc<Authority>> {
    let name = import.name.clone();
    let Some(pending) = app.store.read(move |c| authorities::find_pending(c, &name)).await? else {
        authority::by_name(app, &import.name).await?;
        return Err(Refusal::AuthorityImported.into());
    };
    let (sealer, sealed, algorithm) = (app.sealer(), pending.sealed_key.clone(), pending.key_algorithm);
    let key = SigningKey::open(&sealer, REQUEST_KEY, &sealed, algorithm)?;
    let waited = Waited { id: pending.id, called: (pending.display_name, pending.description), version: pending.version, crl_number: 0 };
    put_to_work(app, import, key, waited, actor, origin).await
}

/// Puts an authority that exists elsewhere to work here, with its private key (PEM, not encrypted). Its CRLs go on after `crl_number`.
///
/// # Errors
/// [`Refusal::AuthorityNameInvalid`], [`Refusal::AuthorityCertificateRefused`], [`Refusal::AuthorityNameTaken`].
pub async fn import_with_key(
    app: &App,
    import: Import,
    key: &Secret,
    crl_number: u32,
    actor: &str,
    origin: &str,
) -> Result<Arc<Authority>> {
    if !is_name(&import.name) {
        return Err(Refusal::AuthorityNameInvalid.into());
    }
    // An empty pass phrase keeps OpenSSL from asking the terminal for one.
    let key = PKey::private_key_from_pem_passphrase(key.expose(), b"")
        .map_err(|_| refused("the private key cannot be read; it must not be encrypted"))?;
    let key = SigningKey::of(key).ok_or_else(|| refused("the key is neither RSA of 2048, 3072 or 4096 bits, nor P-256, nor P-384"))?;
    let called = (import.name.clone(), String::new());
    put_to_work(app, import, key, Waited { id: AuthorityId::new(), called, version: 0, crl_number }, actor, origin).await
}

fn refused(why: impl Into<String>) -> Error {
    Error::Invalid(Refusal::AuthorityCertificateRefused, why.into())
}

/// What is known of an authority before it is put to work.
struct Waited {
    id: AuthorityId,
    /// Its name and description for people.
    called: (String, String),
    version: i64,
    crl_number: u32,
}

async fn put_to_work(app: &App, import: Import, key: SigningKey, waited: Waited, actor: &str, origin: &str) -> Result<Arc<Authority>> {
    let (now, sealer, base) = (app.now(), app.sealer(), app.config.pki_url());
    let (organisation, names) = (app.config.organisation.clone(), app.config.server_names());
    // Where no other authority issues, the certificate of our TLS faces comes from this one.
    let certifies_server = authority::issuing(app).await.is_err();
    let record = tokio::task::spawn_blocking(move || -> Result<Record> {
        let upper_chain = judge(&import, &key, now)?;
        let certificate = read(&import.certificate)?.pop().ok_or_else(|| refused("there is no certificate"))?.to_der()?;
        let parts = Parts::parse(&certificate)?;
        let record = Record {
            id: waited.id,
            name: import.name,
            kind: if upper_chain.is_empty() { Kind::Root } else { Kind::Issuing },
            status: Status::Active,
            parent_id: None,
            key_algorithm: key.algorithm(),
            sealed_key: key.seal(&sealer, AUTHORITY_KEY)?,
            crl_number: i64::from(waited.crl_number),
            crl_due_at: now,
            not_before: Time::from_seconds(parts.not_before),
            not_after: Time::from_seconds(parts.not_after),
            created_at: now,
            certificate,
            upper_chain,
            display_name: waited.called.0,
            description: waited.called.1,
            updated_at: now,
            version: waited.version + 1,
        };
        // It must be able to certify what it cannot do without: its constraints, or those above it, may forbid our own names.
        let chain: Vec<Vec<u8>> = [&record.certificate].into_iter().chain(&record.upper_chain).cloned().collect();
        let authority = Authority::build(&sealer, &base, &record, &[], &chain)?;
        let spki = SigningKey::generate(KeyAlgorithm::Rsa2048)?.spki()?;
        let mut purposes = vec![Purpose::OcspResponder, Purpose::Registration, Purpose::Escrow];
        if certifies_server {
            purposes.push(Purpose::Server);
        }
        for purpose in purposes {
            let grant = service_key::grant(&authority.name, &organisation, purpose, 30, &names);
            issue::sign(&authority, &grant, &spki, issue::Subject::EndEntity, now)?;
        }
        Ok(record)
    })
    .await
    .map_err(Error::internal)??;
    let (id, audit) = (
        record.id.clone(),
        Entry::new(actor, "authority.import", format!("authority:{}", record.id), origin).after(&json!({
            "name": record.name, "kind": record.kind, "keyAlgorithm": record.key_algorithm, "notAfter": record.not_after.to_string(),
            "sha256": hex::encode(openssl::sha::sha256(&record.certificate)),
        })),
    );
    app.store
        .write(move |tx| {
            authorities::purge_pending(tx, &record.id)?;
            authorities::insert_authority(tx, &record)?;
            crate::store::audit::append(tx, &audit, now)
        })
        .await?;
    app.keys.invalidate();
    service_key::renew(app).await?;
    super::crl::publish(app, &id).await?;
    authority::by_id(app, &id).await
}

fn read(pem: &str) -> Result<Vec<X509>> {
    X509::stack_from_pem(pem.as_bytes()).map_err(|_| refused("the certificates cannot be read as PEM"))
}

/// Judges a certificate for a key of ours; gives back those above it, nearest first, DER.
fn judge(import: &Import, key: &SigningKey, now: Time) -> Result<Vec<Vec<u8>>> {
    let [own] = <[X509; 1]>::try_from(read(&import.certificate)?)
        .map_err(|_| refused("give exactly one certificate, and those above it as the chain"))?;
    if !own.public_key().is_ok_and(|public| public.public_eq(key.pkey())) {
        return Err(refused("the certificate is for another key"));
    }
    let tiers = order(own, &read(&import.chain)?)?;
    for (below, tier) in tiers.iter().enumerate() {
        judge_tier(tier, below, now)?;
    }
    let [own, above @ ..] = tiers.as_slice() else { return Err(refused("there is no certificate")) };
    verify(own, above, now)?;
    above.iter().map(|tier| Ok(tier.to_der()?)).collect()
}

/// The certificates from `own` up to a root, each signed by the next.
fn order(own: X509, others: &[X509]) -> Result<Vec<X509>> {
    let mut tiers = vec![own];
    while tiers.len() <= TIERS {
        let Some(last) = tiers.last() else { break };
        let signed_by = |issuer: &X509| {
            issuer.issued(last) == openssl::x509::X509VerifyResult::OK
                && issuer.public_key().is_ok_and(|key| last.verify(&key).unwrap_or(false))
        };
        if signed_by(last) {
            return Ok(tiers);
        }
        let Some(issuer) = others.iter().find(|other| signed_by(other)) else { break };
        tiers.push(issuer.clone());
    }
    Err(refused("the chain does not lead to a root by signature; give every certificate above this one"))
}

/// Judges one tier; `below` says how many authorities stand below it.
fn judge_tier(tier: &X509, below: usize, now: Time) -> Result<()> {
    let der = tier.to_der()?;
    let parts = Parts::parse(&der)?;
    let who = || {
        let names = tier.subject_name().entries().filter_map(|entry| entry.data().to_string().ok());
        names.collect::<Vec<_>>().join(", ")
    };
    for (name, extension) in [("basicConstraints", &BASIC_CONSTRAINTS), ("keyUsage", &KEY_USAGE)] {
        if parts.extension(extension)?.is_none() {
            let wanted = "an authority's certificate says CA:TRUE in basicConstraints, and keyCertSign and cRLSign in keyUsage";
            return Err(refused(format!("{} has no extension {name}: {wanted}", who())));
        }
    }
    if !parts.is_authority() {
        return Err(refused(format!("{} is not the certificate of an authority (basicConstraints)", who())));
    }
    if !signs_certificates(&parts)? {
        return Err(refused(format!("{} may not sign certificates and CRLs (keyUsage)", who())));
    }
    if now.seconds() < parts.not_before || parts.not_after <= now.seconds() {
        return Err(refused(format!("{} is not in its validity", who())));
    }
    if tier.pathlen().is_some_and(|length| usize::try_from(length).is_ok_and(|length| length < below)) {
        return Err(refused(format!("{} does not permit this many authorities below it (pathLenConstraint)", who())));
    }
    if !is_strong(&*tier.public_key()?) {
        return Err(refused(format!("{} has a key that is too weak", who())));
    }
    let digest = tier.signature_algorithm().object().nid().signature_algorithms().map(|found| found.digest);
    if !digest.is_some_and(|digest| [Nid::SHA256, Nid::SHA384, Nid::SHA512].contains(&digest)) {
        return Err(refused(format!("{} is not signed with SHA-2 (RSA PKCS#1 v1.5 or ECDSA)", who())));
    }
    Ok(())
}

fn signs_certificates(parts: &Parts<'_>) -> Result<bool> {
    let Some(value) = parts.extension(&KEY_USAGE)? else { return Ok(false) };
    let bits = Reader::new(value).expect(asn1::BIT_STRING, "key usage")?.value.get(1).copied().unwrap_or_default();
    Ok([KEY_CERT_SIGN, CRL_SIGN].iter().all(|bit| bits & (0x80 >> bit) != 0))
}

fn is_strong(key: &PKeyRef<Public>) -> bool {
    match key.id() {
        Id::RSA => key.bits() >= 2048,
        Id::EC => key.bits() >= 256,
        _ => false,
    }
}

/// Lets OpenSSL judge the whole chain.
fn verify(own: &X509, above: &[X509], now: Time) -> Result<()> {
    let mut parameters = X509VerifyParam::new()?;
    parameters.set_flags(X509VerifyFlags::X509_STRICT)?;
    parameters.set_time(now.seconds());
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(above.last().unwrap_or(own).clone())?;
    store.set_param(&parameters)?;
    let store = store.build();
    let mut untrusted = Stack::new()?;
    for tier in above {
        untrusted.push(tier.clone())?;
    }
    let mut context = X509StoreContext::new()?;
    let (good, why) = context.init(&store, own, &untrusted, |c| Ok((c.verify_cert()?, c.error())))?;
    if good { Ok(()) } else { Err(refused(format!("the chain does not verify: {why}"))) }
}
