//! How the instance stands, and what asks for somebody's attention.

use openssl::nid::Nid;
use openssl::x509::X509;
use serde::Serialize;
use serde_json::Value;

use super::apple::{ade, licences, push_certificate};
use super::device::{self, Contested, ContestedSerial};
use super::identity::break_glass;
use super::pki::authority::{self, Authority};
use super::pki::issue::LEAST_LIFE;
use super::signals::receiver;
use super::{Error, Result, health};
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::authority::{Kind, Status as AuthorityStatus};
use crate::domain::signal::ReceiverStatus;
use crate::store::Location;

/// How many days before its end an authority asks for attention: devices' certificates end with it.
const CA_ENDS_SOON: i64 = 90;

/// The instance.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Of the program.
    pub version: &'static str,
    /// The organisation's name.
    pub organisation: String,
    /// Its id.
    pub tenant: String,
    /// Where the data is.
    pub database: String,
    /// Base URL of the web face.
    pub web: String,
    /// Base URL of the device face.
    pub device: String,
    /// Base URL of the CA's plain HTTP face.
    pub pki: String,
    /// The server's clock.
    pub time: String,
    /// Apple's push certificate.
    pub apple_push: push_certificate::Status,
    /// Servers of Apple Business Manager.
    pub apple_ade: Vec<ade::Status>,
    /// Licences of the App Store.
    pub apple_content: Option<Value>,
    /// Hardware that more than one device claims to be.
    pub contested_hardware: Vec<Contested>,
    /// Devices that say they have another serial number than they enrolled with.
    pub contested_serials: Vec<ContestedSerial>,
    /// What the certificates of our own root and issuing CA say; `None` where the issuing CA is of another root.
    pub authority: Option<AuthoritySays>,
    /// Who issues to devices.
    pub issuing: Issuing,
    /// Accounts for emergencies.
    pub break_glass: Option<Value>,
    /// Receivers of signals that are paused, or did not take what was sent to them last.
    pub failing_receivers: Vec<FailingReceiver>,
}

/// Who issues to devices and until when, with what to do about it; or why nobody does.
#[derive(Clone, Debug, Serialize)]
pub struct Issuing {
    /// The authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Whole days until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_left: Option<i64>,
    /// Why no device can be issued a certificate.
    pub alarm: Option<String>,
    /// What to do before that comes.
    pub advice: Option<String>,
}

/// What the certificates of our own root and issuing CA say of addresses and names, beside what they would say if they were made today.
#[derive(Clone, Debug, Serialize)]
pub struct AuthoritySays {
    /// Where the issuing CA's certificate says its root's revocation list is.
    pub crl_in_certificate: Option<String>,
    /// Where it is.
    pub crl: String,
    /// What the root is called.
    pub name: Option<String>,
    /// What it would be called.
    pub name_by_configuration: String,
}

/// A receiver that does not get its signals.
#[derive(Clone, Debug, Serialize)]
pub struct FailingReceiver {
    /// Its name.
    pub name: String,
    /// Whether it is to get them.
    pub status: ReceiverStatus,
    /// How many tries failed.
    pub failed_tries: i64,
    /// Why.
    pub why: Option<String>,
    /// When something last reached it.
    pub last_success: Option<String>,
}

/// Something that asks for attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Which part of the status says it.
    pub part: String,
    /// Whether something does not work already.
    pub alarm: bool,
    /// What it is, and what to do.
    pub text: String,
}

impl Status {
    /// All alarms and advice, alarms first.
    #[must_use]
    pub fn attention(&self) -> Vec<Attention> {
        let whole = serde_json::to_value(self).unwrap_or_default();
        let mut found = Vec::new();
        for (part, value) in whole.as_object().into_iter().flatten() {
            collect(part, value, &mut found);
        }
        found.sort_by_key(|one| !one.alarm);
        found
    }
}

fn collect(part: &str, value: &Value, found: &mut Vec<Attention>) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| collect(part, one, found)),
        Value::Object(members) => {
            for (name, value) in members {
                // An alarm of a push service is its reason with the moment since when.
                let text = value.as_str().or_else(|| value.get("reason").and_then(Value::as_str));
                match (name.as_str(), text) {
                    ("alarm" | "unreachable" | "advice", Some(text)) => {
                        found.push(Attention { part: part.to_owned(), alarm: name != "advice", text: text.to_owned() });
                    }
                    _ => collect(part, value, found),
                }
            }
        }
        _ => {}
    }
}

/// How the instance stands.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer or takes no writes.
pub async fn read(app: &App) -> Result<Status> {
    health::check_ready(app).await?;
    Ok(Status {
        version: env!("CARGO_PKG_VERSION"),
        organisation: app.config.organisation.clone(),
        tenant: app.tenant.to_string(),
        database: match app.config.location() {
            Location::Sqlite(path) => format!("SQLite, {}", path.display()),
            Location::Postgres(_) => "PostgreSQL".to_owned(),
        },
        web: app.config.web_url(),
        device: app.config.device_url(),
        pki: app.config.pki_url(),
        time: app.now().to_string(),
        apple_push: push_certificate::status(app).await?,
        apple_ade: ade::status(app).await?,
        apple_content: licences::health(app).await?,
        contested_hardware: device::contested(app).await?,
        contested_serials: device::contested_serials(app).await?,
        authority: authority_says(app).await?,
        issuing: issuing(app).await?,
        break_glass: break_glass::status(app).await?,
        failing_receivers: failing_receivers(app).await?,
    })
}

async fn issuing(app: &App) -> Result<Issuing> {
    let now = app.now();
    let found = match authority::issuing(app).await {
        Ok(authority) => Some(authority),
        Err(Error::Refused(Refusal::AuthorityNotActive)) => None,
        Err(error) => return Err(error),
    };
    let after = "make another one by `muster ca create`, or `muster ca import` yours";
    if let Some(authority) = found {
        let (name, end): (&str, Time) = (&authority.name, authority.not_after);
        let days = end.since(now) / DAY;
        let short = end.since(now) < LEAST_LIFE;
        let alarm = short.then(|| format!("no device can be issued a certificate: the issuing CA {name} ends {end}; pause it and {after}"));
        let advice = (!short && days < CA_ENDS_SOON).then(|| {
            format!("the issuing CA {name} ends in {days} days ({end}), and devices' certificates end with it: {after}, and pause it")
        });
        return Ok(Issuing { name: Some(name.to_owned()), until: Some(end.to_string()), days_left: Some(days), alarm, advice });
    }
    let all = authority::list(app).await?;
    let whys = all.iter().filter(|authority| authority.kind == Kind::Issuing).map(|authority| why_not(authority, now));
    let whys: Vec<String> = whys.collect();
    let why = if whys.is_empty() { "there is no issuing CA".to_owned() } else { whys.join(", ") };
    let alarm = Some(format!("no device can be issued a certificate: {why}; else {after}"));
    Ok(Issuing { name: None, until: None, days_left: None, alarm, advice: None })
}

fn why_not(authority: &Authority, now: Time) -> String {
    match authority.status {
        _ if authority.not_after <= now => format!("{} ended {}", authority.name, authority.not_after),
        AuthorityStatus::Paused => format!("{0} is paused (`muster ca activate {0}`)", authority.name),
        AuthorityStatus::Active | AuthorityStatus::Revoked => format!("{} is {}", authority.name, authority.status),
    }
}

async fn failing_receivers(app: &App) -> Result<Vec<FailingReceiver>> {
    let all = receiver::list(app).await?;
    let failing = all.into_iter().filter(|(fortune, receiver)| fortune.failed > 0 || receiver.status != ReceiverStatus::Enabled);
    let show = |(fortune, receiver): (crate::store::outbox::Fortune, crate::domain::signal::Receiver)| FailingReceiver {
        name: receiver.name,
        status: receiver.status,
        failed_tries: fortune.failed,
        why: receiver.status_reason.or(fortune.last_error),
        last_success: fortune.last_success.map(|at| Time(at).to_string()),
    };
    Ok(failing.map(show).collect())
}

async fn authority_says(app: &App) -> Result<Option<AuthoritySays>> {
    let own = authority::list(app).await?;
    let named = |name: &str| own.iter().find(|authority| authority.name == name);
    let (Some(root), Some(issuing)) = (named(authority::ROOT), named(authority::ISSUING)) else { return Ok(None) };
    if !issuing.chain.contains(&root.certificate) {
        return Ok(None);
    }
    let (issuing, top) = (X509::from_der(&issuing.certificate)?, X509::from_der(&root.certificate)?);
    let said = issuing.crl_distribution_points().into_iter().flatten().find_map(|point| {
        let names = point.distpoint()?.fullname()?;
        names.iter().find_map(|name| name.uri().map(str::to_owned))
    });
    let name = top.subject_name().entries_by_nid(Nid::COMMONNAME).next().and_then(|entry| entry.data().to_string().ok());
    let expected: String = format!("{} Root CA", app.config.organisation);
    let beyond = expected.chars().count().saturating_sub(64);
    Ok(Some(AuthoritySays {
        crl_in_certificate: said,
        crl: root.crl_url(),
        name,
        name_by_configuration: expected.chars().skip(beyond).collect(),
    }))
}
