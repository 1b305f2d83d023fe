//! The certificates that an authority needs to serve: of its OCSP responder, its SCEP registration authority, and our TLS faces.

use std::sync::Arc;

use openssl::x509::X509;

use super::authority::{Authority, issuing, list};
use super::issue::{self, Subject};
use super::keys::{ServiceKey, SigningKey};
use crate::app::App;
use crate::clock::DAY;
use crate::domain::authority::{KeyRecord, Kind, Status};
use crate::domain::certificate::{AttributeType, Grant, KeyAlgorithm, KeyRules, KeyUsage, Purpose, Rdn, San, usage};
use crate::service::{Error, Result};
use crate::store::sealed::SERVICE_KEY;
use crate::store::{authorities, certificates};

/// Life of our own server certificates, in days (Apple accepts no more than 825).
const SERVER_DAYS: u32 = 397;

/// Life of the certificate for which recovery keys are encrypted, in days: another one means another profile for each Mac.
const ESCROW_DAYS: u32 = 3650;

/// The key algorithm of service certificates: devices encrypt with RSA only; the others sign, and P-256 is the cheapest.
pub(super) fn algorithm(purpose: Purpose) -> KeyAlgorithm {
    match purpose {
        Purpose::Registration | Purpose::Escrow => KeyAlgorithm::Rsa2048,
        _ => KeyAlgorithm::P256,
    }
}

/// Makes the service certificates that are missing or come near their end: an OCSP responder for each authority, a SCEP registration
/// authority for each issuing authority, and the server certificate. Old ones stay until they end, so that what was encrypted to them
/// can be read. For a job, and for the start of a server.
///
/// What fails is logged and tried again at the next run.
///
/// # Errors
/// When the authorities cannot be read.
pub async fn renew(app: &App) -> Result<()> {
    let now = app.now();
    let server_names = app.config.server_names();
    let first_issuing = issuing(app).await.ok().map(|a| a.id.clone());
    for authority in list(app).await? {
        if now >= authority.not_after {
            continue;
        }
        let config = &app.config.ca;
        let mut wanted = vec![(Purpose::OcspResponder, config.ocsp_responder_days)];
        if authority.kind == Kind::Issuing && authority.status != Status::Revoked {
            wanted.push((Purpose::Registration, config.ra_days));
            wanted.push((Purpose::Escrow, ESCROW_DAYS));
        }
        if first_issuing.as_ref() == Some(&authority.id) {
            wanted.push((Purpose::Server, SERVER_DAYS));
        }
        for (purpose, days) in wanted {
            let last = authority.service_key(purpose, now).ok();
            // Renewed when a third of its life is left; at the end of the authority's own life there is no more to be had.
            let lasting =
                last.is_some_and(|key| key.not_after >= authority.not_after || now.plus(i64::from(days) * DAY / 3) < key.not_after);
            let named = purpose != Purpose::Server || last.is_some_and(|key| has_names(&key.certificate, &server_names));
            if lasting && named {
                continue;
            }
            // One that cannot be made (names that the authority may not certify any more) must not keep the others from being made, nor
            // the server from starting.
            if let Err(error) = create(app, &authority, purpose, days, &server_names).await {
                tracing::error!(authority = %authority.name, %purpose, %error, "no new service certificate");
                metrics::counter!("muster_service_certificate_failed_total").increment(1);
            }
        }
    }
    Ok(())
}

fn has_names(certificate: &[u8], names: &[String]) -> bool {
    let Ok(certificate) = X509::from_der(certificate) else { return false };
    let Some(found) = certificate.subject_alt_names() else { return false };
    let found: Vec<String> = found
        .iter()
        .filter_map(|name| {
            let ip = name.ipaddress().and_then(|bytes| match bytes.len() {
                4 => <[u8; 4]>::try_from(bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
                16 => <[u8; 16]>::try_from(bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
                _ => None,
            });
            name.dnsname().map(str::to_owned).or(ip)
        })
        .collect();
    names.iter().all(|name| found.contains(name))
}

/// What a service certificate is to be like.
pub(super) fn grant(authority: &str, organisation: &str, purpose: Purpose, days: u32, names: &[String]) -> Grant {
    let common_name = match purpose {
        // Nobody checks it, but people read it: a name that says something.
        Purpose::Server => {
            let says = |name: &&String| *name != "localhost" && name.parse::<std::net::IpAddr>().is_err();
            names.iter().find(says).cloned().unwrap_or_else(|| organisation.to_owned())
        }
        Purpose::Registration => format!("SCEP registration authority of {authority}"),
        Purpose::Escrow => format!("Recovery key escrow of {authority}"),
        _ => format!("OCSP responder of {authority}"),
    };
    let common_name: String = common_name.chars().take(64).collect();
    let mut grant = Grant::client(purpose, &common_name, days);
    grant.subject.insert(0, Rdn::new(AttributeType::Organization, organisation.to_owned()));
    grant.key_rules = KeyRules::default();
    match purpose {
        Purpose::Server => {
            grant.extended_key_usages = vec![usage::SERVER_AUTH.to_owned()];
            let san = |name: &String| if name.parse::<std::net::IpAddr>().is_ok() { San::Ip(name.clone()) } else { San::Dns(name.clone()) };
            grant.sans = names.iter().map(san).collect();
        }
        Purpose::Registration => {
            grant.extended_key_usages = Vec::new();
        }
        Purpose::Escrow => {
            grant.extended_key_usages = Vec::new();
            grant.key_usages = vec![KeyUsage::KeyEncipherment];
        }
        _ => {
            grant.extended_key_usages = vec![usage::OCSP_SIGNING.to_owned()];
            grant.key_usages = vec![KeyUsage::DigitalSignature];
        }
    }
    grant
}

async fn create(app: &App, authority: &Arc<Authority>, purpose: Purpose, days: u32, names: &[String]) -> Result<()> {
    let grant = grant(&authority.name, &app.config.organisation, purpose, days, names);
    let (signing, sealer, now) = (Arc::clone(authority), app.sealer(), app.now());
    let (certificate, sealed_key) = tokio::task::spawn_blocking(move || -> Result<_> {
        let key = SigningKey::generate(algorithm(purpose))?;
        let issued = issue::sign(&signing, &grant, &key.spki()?, Subject::EndEntity, now)?;
        Ok((issued.certificate, key.seal(&sealer, SERVICE_KEY)?))
    })
    .await
    .map_err(Error::internal)??;
    let record = KeyRecord {
        id: certificate.id.clone(),
        authority_id: authority.id.clone(),
        purpose,
        certificate: certificate.der.clone(),
        sealed_key,
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        created_at: now,
    };
    let audit = issue::audit(&certificate, "system", "local");
    app.store
        .write(move |tx| {
            certificates::insert_certificate(tx, &certificate, now)?;
            authorities::insert_service_key(tx, &record)?;
            crate::store::audit::append(tx, &audit, now)
        })
        .await?;
    app.keys.invalidate();
    Ok(())
}

/// The certificate that our TLS faces show, with the chain without the root.
///
/// # Errors
/// [`Error::Unavailable`] when there is none yet.
pub async fn server_identity(app: &App) -> Result<(Arc<ServiceKey>, Vec<Vec<u8>>)> {
    let now = app.now();
    // An authority that is paused or revoked issues no more, and a constrained one may not certify our names: the certificate that another
    // one gave us still opens the doors.
    let authorities = list(app).await?;
    let first = issuing(app).await.ok().filter(|a| a.service_key(Purpose::Server, now).is_ok());
    let found = first.or_else(|| authorities.into_iter().find(|a| a.service_key(Purpose::Server, now).is_ok()));
    let authority = found.ok_or_else(|| Error::Unavailable("no authority has a server certificate".into()))?;
    let key = Arc::clone(authority.service_key(Purpose::Server, now)?);
    let without_root = authority.chain.len().saturating_sub(1);
    Ok((key, authority.chain.iter().take(without_root).cloned().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::certificate::show_name;

    #[test]
    fn a_server_is_called_by_a_name_that_says_something_and_is_good_for_all() {
        let made = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            grant("issuing", "Acme", Purpose::Server, 30, &names)
        };
        let named = made(&["127.0.0.1", "::1", "localhost", "muster.example.org"]);
        assert!(show_name(&named.subject).contains("CN=muster.example.org"), "{:?}", named.subject);
        assert_eq!(named.sans.len(), 4);
        let local = made(&["127.0.0.1", "::1", "localhost"]);
        assert!(show_name(&local.subject).contains("CN=Acme"), "{:?}", local.subject);
        assert_eq!(local.sans.first(), Some(&San::Ip("127.0.0.1".into())));
    }
}
