//! `muster ca`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::wanted::{Wanted, device_of, user_of};
use super::who::Who;
use super::{find, page};
use crate::app::App;
use crate::domain::certificate::{Certificate, CertificateStatus, KeyAlgorithm, RevocationReason};
use crate::ids::CertificateId;
use crate::secret::Secret;
use crate::service::pki::authority::{self, Authority, NewAuthority};
use crate::service::pki::external::{self, Import};
use crate::service::pki::{crl, issue, names, revoke};
use crate::service::{Error, Result};
use crate::store::certificates::Search;

/// What is done to authorities and certificates.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub enum Command {
    /// Shows the authorities
    List,
    /// Makes an authority with a key of its own
    Create {
        /// Name in addresses: lower-case letters, digits and hyphens
        name: String,
        /// Common name of its certificate
        #[arg(long)]
        common_name: String,
        /// The root that signs it; without one it is a root itself
        #[arg(long)]
        parent: Option<String>,
        /// rsa-2048, rsa-3072, rsa-4096, p-256 or p-384
        #[arg(long, default_value = "rsa-3072", value_parser = read_algorithm)]
        key: KeyAlgorithm,
        /// Life in days
        #[arg(long, default_value_t = 3650)]
        days: u32,
        /// Only makes the key, and prints a request (PKCS#10, PEM) for an outside authority to sign; go on with `import-certificate`
        #[arg(long, conflicts_with_all = ["parent", "days"])]
        csr: bool,
    },
    /// Puts an authority that was made with --csr to work with the certificate that an outside authority made
    ImportCertificate {
        /// Name that it was made with
        name: String,
        /// File with its certificate, PEM
        #[arg(long, value_parser = read_file)]
        certificate: String,
        /// Files with the certificates above it, to the root, PEM, in any order
        #[arg(long, value_parser = read_file)]
        chain: Vec<String>,
    },
    /// Puts an authority that exists elsewhere to work here, with its private key
    Import {
        /// Name in addresses: lower-case letters, digits and hyphens
        name: String,
        /// File with its certificate, PEM
        #[arg(long, value_parser = read_file)]
        certificate: String,
        /// File with its private key, PEM, not encrypted
        #[arg(long, value_parser = read_key)]
        key: KeyText,
        /// Files with the certificates above it, to the root, PEM, in any order; none for a root
        #[arg(long, value_parser = read_file)]
        chain: Vec<String>,
        /// Number of the last CRL that it published elsewhere
        #[arg(long, default_value_t = 0)]
        crl_number: u32,
    },
    /// Shows one authority, or one certificate by its id or serial number
    Show {
        /// Name of an authority, or id or serial number of a certificate
        what: String,
    },
    /// Shows issued certificates, newest first
    Certificates {
        /// Of this device: id, name or serial number
        #[arg(long)]
        device: Option<String>,
        /// Of this user: name or id
        #[arg(long, value_name = "UPN|ID")]
        user: Option<String>,
        /// active, held or revoked
        #[arg(long, value_parser = read_status)]
        status: Option<CertificateStatus>,
        /// Of this serial number
        #[arg(long, value_parser = read_serial)]
        #[serde(default)]
        serial: Option<String>,
        /// Whose subject begins so, such as CN=printer
        #[arg(long)]
        #[serde(default)]
        subject: Option<String>,
        /// Those that were issued after this one, oldest first: its id
        #[arg(long, value_name = "ID", value_parser = read_id)]
        #[serde(default)]
        after: Option<CertificateId>,
        /// Those that were issued before this one: its id
        #[arg(long, value_name = "ID", value_parser = read_id)]
        #[serde(default)]
        before: Option<CertificateId>,
        /// How many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Issues a certificate for the key of a request file; nothing else is taken from the request
    Issue(Box<Issue>),
    /// Revokes a certificate, all certificates of a device or user, or an authority; discards an authority that waits for its certificate
    #[command(group(clap::ArgGroup::new("whose").required(true)))]
    Revoke {
        /// Id or serial number of a certificate, or name of an authority
        #[arg(value_name = "CERTIFICATE|AUTHORITY", group = "whose")]
        what: Option<String>,
        /// All of this device: id, name or serial number
        #[arg(long, group = "whose")]
        device: Option<String>,
        /// All of this user: name or id
        #[arg(long, value_name = "UPN|ID", group = "whose")]
        user: Option<String>,
        /// unspecified, key-compromise, affiliation-changed, superseded, cessation-of-operation, certificate-hold, privilege-withdrawn
        #[arg(long, default_value = "unspecified", value_parser = read_reason)]
        reason: RevocationReason,
        /// Yes, although all that an authority issued falls with it
        #[arg(long)]
        #[serde(default)]
        yes: bool,
    },
    /// Releases a certificate from hold
    Release {
        /// Id or serial number
        what: String,
    },
    /// Pauses an authority: it issues nothing, and answers as before
    Pause {
        /// Its name
        name: String,
    },
    /// Lets a paused authority issue again
    Activate {
        /// Its name
        name: String,
    },
    /// Publishes a revocation list now
    Crl {
        /// Name of the authority
        #[arg(default_value = "issuing")]
        name: String,
    },
    /// Lets somebody ask for a certificate by SCEP, and decides on requests that wait
    #[command(subcommand)]
    Scep(super::scep::Command),
    /// Prints the certificate of an authority, PEM
    Export {
        /// Name of the authority
        #[arg(default_value = "root")]
        name: String,
        /// With those above it, to the root
        #[arg(long)]
        chain: bool,
    },
}

/// A private key on its way to the server: never shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyText(String);

impl KeyText {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn secret(&self) -> Secret {
        Secret::new(self.0.as_bytes().to_vec())
    }
}

impl std::fmt::Debug for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

pub(super) fn read_key(path: &str) -> std::result::Result<KeyText, String> {
    read_file(path).map(KeyText)
}

/// What the certificate is to be like.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub struct Issue {
    /// File with the request (PKCS#10, PEM)
    #[arg(long, value_parser = read_file)]
    csr: String,
    #[command(flatten)]
    #[serde(flatten)]
    wanted: Wanted,
}

fn read_algorithm(text: &str) -> std::result::Result<KeyAlgorithm, String> {
    KeyAlgorithm::parse(text).ok_or_else(|| "use rsa-2048, rsa-3072, rsa-4096, p-256 or p-384".into())
}

fn read_reason(text: &str) -> std::result::Result<RevocationReason, String> {
    RevocationReason::parse(text)
        .ok_or_else(|| format!("use one of {}", RevocationReason::ALL.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(", ")))
}

fn read_status(text: &str) -> std::result::Result<CertificateStatus, String> {
    CertificateStatus::parse(text).ok_or_else(|| "use active, held or revoked".into())
}

fn read_serial(text: &str) -> std::result::Result<String, String> {
    revoke::read_serial(text).ok_or_else(|| "use a serial number in hexadecimal digits".into())
}

fn read_id(text: &str) -> std::result::Result<CertificateId, String> {
    CertificateId::parse(text).ok_or_else(|| "use the id of a certificate, as muster ca certificates shows it".into())
}

/// A request as PEM text.
pub(super) fn request_pem(der: &[u8]) -> Result<String> {
    String::from_utf8(openssl::x509::X509Req::from_der(der)?.to_pem()?).map_err(Error::internal)
}

/// The file is read here, because the order may be carried out by another process.
pub(super) fn read_file(path: &str) -> std::result::Result<String, String> {
    // The name of the file is said by whoever shows this.
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if text.len() > 64 * 1024 { Err("longer than 64 KiB".to_owned()) } else { Ok(text) }
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    match command {
        Command::List => {
            let waiting = external::list_pending(app).await?;
            let waiting = waiting
                .iter()
                .map(|p| json!({ "name": p.name, "status": "signing-pending", "subject": p.common_name, "key": p.key_algorithm }));
            Ok(authority::list(app).await?.iter().map(|a| show_authority(a)).chain(waiting).collect())
        }
        Command::Create { name, common_name, key, csr: true, .. } => {
            let request = external::request(app, &name, &common_name, key, &who.by.actor, &who.by.origin).await?;
            Ok(request_pem(&request)?.into())
        }
        Command::ImportCertificate { name, certificate, chain } => {
            let import = Import { name, certificate, chain: chain.concat() };
            Ok(show_authority(&*external::import_certificate(app, import, &who.by.actor, &who.by.origin).await?))
        }
        Command::Import { name, certificate, key, chain, crl_number } => {
            let import = Import { name, certificate, chain: chain.concat() };
            let key = key.secret();
            Ok(show_authority(&*external::import_with_key(app, import, &key, crl_number, &who.by.actor, &who.by.origin).await?))
        }
        Command::Create { name, common_name, parent, key, days, csr: false } => {
            let new = NewAuthority { name, common_name, parent, key_algorithm: key, days };
            Ok(show_authority(&*authority::create(app, &new, &who.by.actor, &who.by.origin).await?))
        }
        Command::Show { what } => match authority::by_name(app, &what).await {
            Ok(authority) => Ok(show_authority(&authority)),
            Err(Error::NotFound(_)) => {
                let certificate = find::authority_or_certificate(app, &what).await?;
                let mut shown = show_certificates(app, vec![certificate.clone()]).await?.pop().unwrap_or_default();
                if let Some(fields) = shown.as_object_mut() {
                    fields.insert("pem".into(), authority::pem(&certificate.der).into());
                }
                Ok(shown)
            }
            Err(other) => Err(other),
        },
        Command::Certificates { device, user, status, serial, subject, after, before, limit } => {
            let search = Search {
                device: device_of(app, device.as_deref()).await?.map(|device| device.id),
                user: user_of(app, user.as_deref()).await?.map(|user| user.id),
                status,
                serial,
                subject,
                newest_first: after.is_none(),
                after,
                before,
                authority: None,
            };
            let way = if search.newest_first { "before" } else { "after" };
            let (found, more) = revoke::search_more(app, search, limit).await?;
            let next = |last: &Map<String, Value>| Some(format!("--{way} {}", last.get("id")?.as_str()?));
            Ok(page::mark(show_certificates(app, found).await?, more, next))
        }
        Command::Issue(order) => issue_from(app, *order, who).await,
        Command::Revoke { what, device, user, reason, yes } => {
            if let Some(device) = device_of(app, device.as_deref()).await? {
                return Ok(json!({ "revoked": revoke::revoke_of_device(app, &device.id, reason, &who.by.actor, &who.by.origin).await? }));
            }
            if let Some(user) = user_of(app, user.as_deref()).await? {
                return Ok(json!({ "revoked": revoke::revoke_of_user(app, &user.id, reason, &who.by.actor, &who.by.origin).await? }));
            }
            super::revocation::revoke_one(app, &what.unwrap_or_default(), reason, yes, who).await
        }
        Command::Release { what } => {
            revoke::release(app, &find::certificate(app, &what).await?.id, &who.by.actor, &who.by.origin).await?;
            Ok(json!({ "released": 1 }))
        }
        Command::Pause { name } => set_paused(app, &name, true, who).await,
        Command::Activate { name } => set_paused(app, &name, false, who).await,
        Command::Crl { name } => {
            let authority = find::authority(app, &name).await?;
            crl::publish_for(app, &authority.id, &who.by).await?;
            let list = crl::find(app, &name).await?;
            Ok(
                json!({ "number": list.number, "this_update": list.this_update.to_string(), "next_update": list.next_update.to_string(), "url": authority.crl_url() }),
            )
        }
        Command::Scep(command) => super::scep::run(app, command, who).await,
        Command::Export { name, chain } => {
            let authority = find::authority(app, &name).await?;
            let count = if chain { authority.chain.len() } else { 1 };
            Ok(authority.chain.iter().take(count).map(|der| authority::pem(der)).collect::<String>().into())
        }
    }
}

async fn set_paused(app: &App, name: &str, paused: bool, who: &Who) -> Result<Value> {
    let found = find::authority(app, name).await?;
    authority::set_paused(app, &found.name, paused, &who.by.actor, &who.by.origin).await?;
    let mut shown = show_authority(&*find::authority(app, name).await?);
    match (shown.as_object_mut(), authority::issuing(app).await) {
        (Some(fields), Err(Error::Refused(_))) if paused => {
            let warning = "no authority issues now: nobody enrols, and no certificate is made or renewed until one is activated";
            fields.insert("warning".into(), warning.into());
        }
        _ => {}
    }
    Ok(shown)
}

async fn issue_from(app: &App, order: Issue, who: &Who) -> Result<Value> {
    let spki = issue::request_key(order.csr.as_bytes())?;
    let authority = match &order.wanted.authority {
        Some(name) => find::authority(app, name).await?,
        None => authority::issuing(app).await?,
    };
    let grant = order.wanted.grant(app).await?;
    let issued = issue::issue_for(app, &authority.id, &grant, &spki, who.giver(), &who.by).await?;
    Ok(authority::pem(&issued.der).into())
}

fn show_authority(authority: &Authority) -> Value {
    json!({
        "name": authority.name,
        "kind": authority.kind,
        "status": authority.status,
        "subject": authority.subject_text(),
        "key": authority.key.algorithm(),
        "not_after": authority.not_after.to_string(),
        "sha1": hex::encode(openssl::sha::sha1(&authority.certificate)),
        "crl": authority.crl_url(),
        "ocsp": authority.ocsp_url(),
        "certificate": authority.certificate_url(),
    })
}

/// Certificates with the names of whom they are for; of somebody who is gone, only the id is left.
async fn show_certificates(app: &App, certificates: Vec<Certificate>) -> Result<Vec<Value>> {
    let names = names::of(app, &certificates).await?;
    let show = |(certificate, names): (&Certificate, names::Names)| {
        let grant = &certificate.grant;
        json!({
            "serial": certificate.serial,
            "status": certificate.status,
            "purpose": grant.purpose,
            "device": names.device,
            "user": names.user,
            "not_after": certificate.not_after.to_string(),
            "authority": names.authority,
            "subject": certificate.subject,
            "reason": certificate.revocation_reason,
            "id": certificate.id,
            "device_id": grant.device_id,
            "user_id": grant.user_id,
            "sha1": certificate.sha1,
        })
    };
    Ok(certificates.iter().zip(names).map(show).collect())
}
