//! The one place where certificates are made: a grant, a public key and an authority become a certificate.

use std::sync::Arc;

use openssl::bn::BigNumContext;
use openssl::ec::EcKey;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey};
use openssl::sha::{sha1, sha256};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509Req, X509StoreContext};
use serde_json::json;

use super::authority::{self, Authority};
use super::keys::SigningKey;
use super::namesake;
use crate::app::App;
use crate::clock::{DAY, MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::access::Caller;
use crate::domain::audit::Entry;
use crate::domain::authority::{Kind, Status};
use crate::domain::certificate::{
    Certificate, CertificateStatus, Grant, KeyAlgorithm, KeyUsage, Purpose, San, rsa_algorithm, show_name, usage,
};
use crate::ids::{AuthorityId, CertificateId};
use crate::service::directory::By;
use crate::service::{Error, Result};
use crate::store::certificates;
use crate::wire::public_key;
use crate::wire::x509::{self, Extension, GeneralName, SignatureAlgorithm, ToBeSigned};

/// Device clocks may be behind ours by this much.
const BACKDATE: i64 = 5 * MINUTE;
/// A shorter certificate is taken for one near its end and never installed.
pub const LEAST_LIFE: i64 = 5 * DAY;

/// A certificate that was made and verified, but is not recorded yet: record it before it leaves the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The record.
    pub certificate: Certificate,
    /// The certificate, DER.
    pub der: Vec<u8>,
}

/// What the certificate makes of its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// An authority that signs no authorities.
    Authority,
    /// Anything else.
    EndEntity,
}

/// Makes a certificate; stores nothing. Signing happens off the async threads.
///
/// # Errors
/// [`Refusal::AuthorityIsRoot`], [`Refusal::AuthorityNotActive`], [`Refusal::AuthorityTooShort`], [`Refusal::CertificateKeyRefused`] and
/// what [`Grant::check`] says;
/// [`Error::NotFound`] for an unknown authority.
pub async fn prepare(app: &App, authority: &AuthorityId, grant: &Grant, spki: &[u8]) -> Result<Issued> {
    let authority = authority::by_id(app, authority).await?;
    let signs = |other: &Arc<Authority>| other.parent_id.as_ref() == Some(&authority.id);
    if authority.kind == Kind::Root && authority::list(app).await?.iter().any(signs) {
        return Err(Refusal::AuthorityIsRoot.into());
    }
    let (grant, spki, now) = (grant.clone(), spki.to_vec(), app.now());
    tokio::task::spawn_blocking(move || prepare_now(&authority, &grant, &spki, now)).await.map_err(Error::internal)?
}

/// [`prepare`] for callers that are off the async threads already.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_now(authority: &Arc<Authority>, grant: &Grant, spki: &[u8], now: Time) -> Result<Issued> {
    if authority.status != Status::Active || grant.purpose.is_ours() {
        return Err(Refusal::AuthorityNotActive.into());
    }
    if authority.not_after.since(now) < LEAST_LIFE {
        return Err(Refusal::AuthorityTooShort.into());
    }
    sign(authority, grant, spki, Subject::EndEntity, now)
}

/// Makes a certificate and records it.
///
/// # Errors
/// As [`prepare`].
pub async fn issue(app: &App, authority: &AuthorityId, grant: &Grant, spki: &[u8], actor: &str, origin: &str) -> Result<Issued> {
    let by = By { actor: actor.to_owned(), origin: origin.to_owned() };
    issue_for(app, authority, grant, spki, None, &by).await
}

/// Makes a certificate as somebody asks for it, and records it; `giver` is `None` for somebody at the server's own machine.
///
/// # Errors
/// As [`prepare`]; [`Refusal::MethodsOfSuperior`] for the name of somebody who may do more than they.
pub async fn issue_for(app: &App, authority: &AuthorityId, grant: &Grant, spki: &[u8], giver: Option<&Caller>, by: &By) -> Result<Issued> {
    let issued = prepare(app, authority, grant, spki).await?;
    let (row, entry, now) = (issued.certificate.clone(), audit(&issued.certificate, &by.actor, &by.origin), app.now());
    let giver = giver.cloned();
    app.store
        .write(move |tx| {
            namesake::check_giver(tx, giver.as_ref(), &row.grant)?;
            certificates::insert_certificate(tx, &row, now)?;
            crate::store::audit::append(tx, &entry, now)
        })
        .await?;
    Ok(issued)
}

/// The audit row of an issued certificate.
#[must_use]
pub fn audit(certificate: &Certificate, actor: &str, origin: &str) -> Entry {
    Entry::new(actor, "certificate.issue", format!("certificate:{}", certificate.id), origin).after(&json!({
        "serial": certificate.serial, "sha256": certificate.sha256, "subject": certificate.subject,
        "purpose": certificate.grant.purpose, "authority": certificate.authority_id, "notAfter": certificate.not_after.to_string(),
        "device": certificate.grant.device_id, "user": certificate.grant.user_id, "profile": certificate.grant.profile_id,
    }))
}

/// The key of a certificate request (PKCS#10, PEM or DER) whose signature shows that the asker holds the private key.
///
/// # Errors
/// [`Error::Invalid`] when it is no such request ([`Refusal::CertificateRequestInvalid`]) or its key is not accepted
/// ([`Refusal::CertificateKeyRefused`]); the text says what was found.
pub fn request_key(request: &[u8]) -> Result<Vec<u8>> {
    let no_request = |found: &str| Error::Invalid(Refusal::CertificateRequestInvalid, found.to_owned());
    let parsed = X509Req::from_pem(request).or_else(|_| X509Req::from_der(request)).map_err(|_| no_request(&what(request)))?;
    let key = parsed.public_key().map_err(|_| no_request("the request's key cannot be read"))?;
    let spki = key.public_key_to_der()?;
    if holder_key(&spki).is_err() {
        let kind = match key.id() {
            Id::RSA => format!("an RSA key of {} bits", key.bits()),
            Id::EC => format!("a key on a curve of {} bits", key.bits()),
            _ => "a key of another kind".to_owned(),
        };
        return Err(Error::Invalid(Refusal::CertificateKeyRefused, format!("the request has {kind}")));
    }
    if !parsed.verify(&key).unwrap_or(false) {
        return Err(no_request("the request's signature is not its key's"));
    }
    Ok(spki)
}

/// What a file is that is no request.
fn what(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let label = text.split("-----BEGIN ").nth(1).and_then(|rest| rest.split("-----").next());
    let short: Option<String> = label.map(|label| label.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(40).collect());
    match short.as_deref() {
        Some("CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") => "the request does not parse".to_owned(),
        Some(label) => format!("a PEM of {label} was given"),
        None => "neither PEM nor DER of a request was given".to_owned(),
    }
}

/// A holder's key, judged and encoded anew so that nothing of the request's own encoding gets into the certificate.
struct HolderKey {
    algorithm: KeyAlgorithm,
    spki: Vec<u8>,
}

/// What kind of key it is.
///
/// # Errors
/// [`Refusal::CertificateKeyRefused`] for kinds that are not accepted.
pub(super) fn key_algorithm(spki: &[u8]) -> Result<KeyAlgorithm> {
    holder_key(spki).map(|key| key.algorithm)
}

fn holder_key(spki: &[u8]) -> Result<HolderKey> {
    let refused = || Error::Refused(Refusal::CertificateKeyRefused);
    let key = public_key::read(spki).ok_or_else(refused)?;
    match key.id() {
        Id::RSA => {
            let rsa = key.rsa()?;
            let algorithm = rsa_algorithm(rsa.n(), rsa.e()).ok_or_else(refused)?;
            Ok(HolderKey { algorithm, spki: public_key::rsa(&rsa) })
        }
        Id::EC => {
            let ec = key.ec_key()?;
            let curve = ec.group().curve_name();
            let algorithm = match curve {
                Some(Nid::X9_62_PRIME256V1) => KeyAlgorithm::P256,
                Some(Nid::SECP384R1) => KeyAlgorithm::P384,
                _ => return Err(refused()),
            };
            // A curve spelt out in parameters becomes the named one.
            let group = openssl::ec::EcGroup::from_curve_name(curve.unwrap_or(Nid::X9_62_PRIME256V1))?;
            let mut context = BigNumContext::new()?;
            let point = ec.public_key().to_bytes(&group, openssl::ec::PointConversionForm::UNCOMPRESSED, &mut context)?;
            let point = openssl::ec::EcPoint::from_bytes(&group, &point, &mut context).map_err(|_| refused())?;
            let named = EcKey::from_public_key(&group, &point).map_err(|_| refused())?;
            Ok(HolderKey { algorithm, spki: PKey::from_ec_key(named)?.public_key_to_der()? })
        }
        _ => Err(refused()),
    }
}

/// Signs a certificate under an authority, whatever the authority's state, and verifies the result.
pub(super) fn sign(authority: &Authority, grant: &Grant, spki: &[u8], subject: Subject, now: Time) -> Result<Issued> {
    grant.check()?;
    let key = holder_key(spki)?;
    grant.key_rules.check(key.algorithm)?;
    let not_before = now.plus(-BACKDATE).max(authority.not_before);
    let not_after = now.plus(i64::from(grant.days) * DAY).min(authority.not_after);
    if not_after <= now {
        return Err(Refusal::AuthorityTooShort.into());
    }
    check_constraints(authority, grant)?;
    let mut extensions = base_extensions(grant, &key, subject)?;
    extensions.push(Extension::authority_key_identifier(&authority.key_identifier));
    extensions.push(Extension::crl_distribution_point(&authority.crl_url()));
    extensions.push(Extension::authority_info_access(&authority.ocsp_url(), &authority.certificate_url()));
    if grant.purpose == Purpose::OcspResponder {
        extensions.push(Extension::ocsp_no_check());
    }
    let issuer = Issuer { id: &authority.id, name: &authority.subject, key: &authority.key, certificate: Some(&authority.x509) };
    finish(&issuer, grant, &key, &extensions, not_before, not_after, now)
}

/// Judges the names by what the authority and those above it may certify.
fn check_constraints(authority: &Authority, grant: &Grant) -> Result<()> {
    if authority.constraints.is_empty() {
        return Ok(());
    }
    let subject = encode_name(grant)?;
    let names: Vec<GeneralName<'_>> = grant.sans.iter().filter_map(general_name).collect();
    for constraints in &authority.constraints {
        if !constraints.permit(&subject, &names)? {
            return Err(Refusal::CertificateNameNotPermitted.into());
        }
    }
    Ok(())
}

/// Signs the certificate of a new root by its own key.
pub(super) fn sign_root(id: &AuthorityId, key: &SigningKey, grant: &Grant, now: Time) -> Result<Issued> {
    let holder = holder_key(&key.spki()?)?;
    let mut extensions = vec![Extension::authority(None)];
    extensions.push(Extension::key_usage(&[x509::KEY_CERT_SIGN, x509::CRL_SIGN]));
    extensions.push(Extension::subject_key_identifier(&x509::key_identifier(x509::public_key_bits(&holder.spki)?)));
    let name = encode_name(grant)?;
    let issuer = Issuer { id, name: &name, key, certificate: None };
    let not_after = now.plus(i64::from(grant.days) * DAY);
    finish(&issuer, grant, &holder, &extensions, now.plus(-BACKDATE), not_after, now)
}

fn encode_name(grant: &Grant) -> Result<Vec<u8>> {
    let rdns: Vec<Vec<x509::NameAttribute<'_>>> =
        grant.subject.iter().map(|rdn| rdn.0.iter().map(|a| (a.kind.oid(), a.value.as_str())).collect()).collect();
    x509::name(&rdns).map_err(|_| Refusal::CertificateNameInvalid.into())
}

fn base_extensions(grant: &Grant, key: &HolderKey, subject: Subject) -> Result<Vec<Extension>> {
    let mut extensions = Vec::with_capacity(10);
    if subject == Subject::Authority {
        extensions.push(Extension::authority(Some(0)));
        extensions.push(Extension::key_usage(&[x509::KEY_CERT_SIGN, x509::CRL_SIGN]));
    } else {
        extensions.push(Extension::end_entity());
        let mut bits = Vec::with_capacity(2);
        let enciphers = key.algorithm.rsa_bits().is_some() && grant.key_usages.contains(&KeyUsage::KeyEncipherment);
        if !enciphers || grant.key_usages.contains(&KeyUsage::DigitalSignature) {
            bits.push(x509::DIGITAL_SIGNATURE);
        }
        if enciphers {
            bits.push(x509::KEY_ENCIPHERMENT);
        }
        extensions.push(Extension::key_usage(&bits));
    }
    let usages = grant.extended_key_usages.iter().map(|oid| x509::parse_oid(oid)).collect::<std::result::Result<Vec<_>, _>>()?;
    if !usages.is_empty() {
        extensions.push(Extension::extended_key_usage(&usages));
        if !grant.purpose.is_ours() {
            extensions.push(Extension::application_policies(&usages));
        }
    }
    extensions.push(Extension::subject_key_identifier(&x509::key_identifier(x509::public_key_bits(&key.spki)?)));
    let names: Vec<GeneralName<'_>> = grant.sans.iter().filter_map(general_name).collect();
    if names.len() != grant.sans.len() {
        return Err(Refusal::CertificateNameInvalid.into());
    }
    if !names.is_empty() {
        extensions.push(Extension::subject_alt_name(&names, grant.subject.is_empty()));
    }
    if let Some(sid) = &grant.sid {
        extensions.push(Extension::sid(sid));
    }
    Ok(extensions)
}

fn general_name(san: &San) -> Option<GeneralName<'_>> {
    Some(match san {
        San::Email(text) => GeneralName::Email(text),
        San::Upn(text) => GeneralName::Upn(text),
        San::Dns(text) => GeneralName::Dns(text),
        San::Uri(text) => GeneralName::Uri(text),
        San::Ip(text) => GeneralName::Ip(text.parse().ok()?),
    })
}

struct Issuer<'a> {
    id: &'a AuthorityId,
    name: &'a [u8],
    key: &'a SigningKey,
    /// The issuer's certificate; `None` for a root that signs itself.
    certificate: Option<&'a X509>,
}

fn finish(
    issuer: &Issuer<'_>,
    grant: &Grant,
    key: &HolderKey,
    extensions: &[Extension],
    not_before: Time,
    not_after: Time,
    now: Time,
) -> Result<Issued> {
    let serial = serial()?;
    let algorithm: SignatureAlgorithm = issuer.key.signature_algorithm();
    let to_be_signed = ToBeSigned {
        serial: &serial,
        algorithm,
        issuer: issuer.name,
        not_before: not_before.seconds(),
        not_after: not_after.seconds(),
        subject: &encode_name(grant)?,
        spki: &key.spki,
        extensions,
    }
    .der();
    let der = x509::signed(&to_be_signed, algorithm, &issuer.key.sign(&to_be_signed)?);
    verify(&der, issuer, grant, now)?;
    let certificate = Certificate {
        id: CertificateId::new(),
        authority_id: issuer.id.clone(),
        serial: hex::encode(serial),
        sha1: hex::encode(sha1(&der)),
        sha256: hex::encode(sha256(&der)),
        subject: show_name(&grant.subject),
        status: CertificateStatus::Active,
        not_before: Time::from_seconds(not_before.seconds()),
        not_after: Time::from_seconds(not_after.seconds()),
        revoked_at: None,
        revocation_reason: None,
        superseded_by: None,
        grant: grant.clone(),
        der: der.clone(),
        created_at: now,
    };
    Ok(Issued { certificate, der })
}

/// 16 random bytes that are a positive number of exactly that length.
fn serial() -> Result<[u8; 16]> {
    let mut serial = crate::secret::random::<16>()?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(serial)
}

/// Lets OpenSSL judge what we made: that it parses, chains to its issuer under the strict rules of RFC 5280, and serves its purpose.
fn verify(der: &[u8], issuer: &Issuer<'_>, grant: &Grant, now: Time) -> Result<()> {
    let certificate = X509::from_der(der)?;
    let mut parameters = X509VerifyParam::new()?;
    let mut flags = X509VerifyFlags::PARTIAL_CHAIN | X509VerifyFlags::X509_STRICT;
    if issuer.certificate.is_none() {
        // OpenSSL trusts what is in the store without looking at its signature, unless it is told to.
        flags |= X509VerifyFlags::CHECK_SS_SIGNATURE;
    }
    parameters.set_flags(flags)?;
    parameters.set_time(now.seconds());
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(issuer.certificate.unwrap_or(&certificate).clone())?;
    store.set_param(&parameters)?;
    store.set_purpose(purpose_of(grant))?;
    let store = store.build();
    let mut context = X509StoreContext::new()?;
    let (good, why) = context.init(&store, &certificate, &*Stack::new()?, |c| Ok((c.verify_cert()?, c.error())))?;
    if good {
        return Ok(());
    }
    Err(Error::internal(anyhow::anyhow!("a certificate that we made does not verify: {why}")))
}

fn purpose_of(grant: &Grant) -> X509PurposeId {
    let has = |oid: &str| grant.extended_key_usages.iter().any(|usage| usage == oid);
    match grant.purpose {
        Purpose::Server => X509PurposeId::SSL_SERVER,
        Purpose::OcspResponder => X509PurposeId::OCSP_HELPER,
        _ if has(usage::CLIENT_AUTH) && grant.key_usages.contains(&KeyUsage::DigitalSignature) => X509PurposeId::SSL_CLIENT,
        _ => X509PurposeId::ANY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::asn1;

    #[test]
    fn a_new_root_is_judged_by_its_own_signature() {
        let (key, id, now) = (SigningKey::generate(KeyAlgorithm::P256).unwrap(), AuthorityId::new(), Time::from_seconds(1_800_000_000));
        let grant = Grant { extended_key_usages: Vec::new(), key_usages: Vec::new(), ..Grant::client(Purpose::Authority, "Root", 100) };
        let root = sign_root(&id, &key, &grant, now).unwrap();
        let name = encode_name(&grant).unwrap();
        let issuer = Issuer { id: &id, name: &name, key: &key, certificate: None };
        verify(&root.der, &issuer, &grant, now).unwrap();
        // The same certificate with another signature of the same key.
        let to_be_signed = asn1::only_sequence(&root.der).unwrap().reader().element().unwrap().raw;
        let forged = x509::signed(to_be_signed, key.signature_algorithm(), &key.sign(b"something else").unwrap());
        let refused = verify(&forged, &issuer, &grant, now).unwrap_err();
        assert!(format!("{refused:?}").contains("signature"), "{refused:?}");
    }
}
