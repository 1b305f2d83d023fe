//! `muster status`.

use std::sync::Arc;

use openssl::nid::Nid;
use openssl::x509::X509;
use serde_json::{Value, json};

use super::output;
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::authority::{Kind, Status};
use crate::domain::signal::{Receiver, ReceiverStatus};
use crate::service::apple::{ade, licences, push_certificate};
use crate::service::identity::break_glass;
use crate::service::pki::authority::{self, Authority};
use crate::service::pki::issue::LEAST_LIFE;
use crate::service::signals::receiver;
use crate::service::{self, device, health};
use crate::store::Location;
use crate::store::outbox::Fortune;

pub(super) async fn run(app: &Arc<App>) -> service::Result<Value> {
    health::check_ready(app).await?;
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "organisation": app.config.organisation,
        "tenant": app.tenant.as_str(),
        "database": match app.config.location() {
            Location::Sqlite(path) => format!("SQLite, {}", path.display()),
            Location::Postgres(_) => "PostgreSQL".to_owned(),
        },
        "web": app.config.web_url(),
        "device": app.config.device_url(),
        "pki": app.config.pki_url(),
        "time": app.now().to_string(),
        "apple_push": push_certificate::status(app).await?,
        "apple_ade": ade::status(app).await?,
        "apple_content": licences::health(app).await?,
        "contested_hardware": device::contested(app).await?,
        "contested_serials": device::contested_serials(app).await?,
        "authority": authority_says(app).await?,
        "issuing": issuing(app).await?,
        "break_glass": break_glass::status(app).await?,
        "failing_receivers": failing_receivers(app).await?,
    }))
}

/// How many days before its end an authority asks for attention: devices' certificates end with it.
const CA_ENDS_SOON: i64 = 90;

/// Who issues to devices and until when, with what to do about it; or why nobody does.
async fn issuing(app: &Arc<App>) -> service::Result<Value> {
    let now = app.now();
    let days = |authority: &Authority| authority.not_after.since(now) / DAY;
    let shown = |authority: &Authority| (authority.name.clone(), authority.not_after.to_string(), days(authority));
    let found = match authority::issuing(app).await {
        Ok(authority) => Some(authority),
        Err(service::Error::Refused(Refusal::AuthorityNotActive)) => None,
        Err(error) => return Err(error),
    };
    let after = "make another one by `muster ca create`, or `muster ca import` yours";
    if let Some((name, end, days)) = found.as_deref().map(shown) {
        let short = found.is_some_and(|authority| authority.not_after.since(now) < LEAST_LIFE);
        let alarm = short.then(|| format!("no device can be issued a certificate: the issuing CA {name} ends {end}; pause it and {after}"));
        let advice = (!short && days < CA_ENDS_SOON).then(|| {
            format!("the issuing CA {name} ends in {days} days ({end}), and devices' certificates end with it: {after}, and pause it")
        });
        return Ok(json!({ "name": name, "until": end, "days_left": days, "alarm": alarm, "advice": advice }));
    }
    let all = authority::list(app).await?;
    let whys = all.iter().filter(|authority| authority.kind == Kind::Issuing).map(|authority| match authority.status {
        _ if authority.not_after <= now => format!("{} ended {}", authority.name, authority.not_after),
        Status::Paused => format!("{0} is paused (`muster ca activate {0}`)", authority.name),
        Status::Active | Status::Revoked => format!("{} is {}", authority.name, authority.status),
    });
    let whys: Vec<String> = whys.collect();
    let why = if whys.is_empty() { "there is no issuing CA".to_owned() } else { whys.join(", ") };
    Ok(json!({ "alarm": format!("no device can be issued a certificate: {why}; else {after}") }))
}

/// Receivers that are paused, or did not take what was sent to them last.
async fn failing_receivers(app: &Arc<App>) -> service::Result<Value> {
    let all = receiver::list(app).await?;
    let failing = all.iter().filter(|(fortune, receiver)| fortune.failed > 0 || receiver.status != ReceiverStatus::Enabled);
    let show = |(fortune, receiver): &(Fortune, Receiver)| {
        json!({
            "name": receiver.name, "status": receiver.status, "failed_tries": fortune.failed,
            "why": receiver.status_reason.as_ref().or(fortune.last_error.as_ref()),
            "last_success": fortune.last_success.map(|at| Time(at).to_string()),
        })
    };
    Ok(failing.map(show).collect())
}

/// Whether anything of it is an alarm.
pub(super) fn has_alarm(answer: &Value) -> bool {
    match answer {
        Value::Object(fields) => fields.iter().any(|(name, value)| name == "alarm" && !value.is_null() || has_alarm(value)),
        Value::Array(rows) => rows.iter().any(has_alarm),
        _ => false,
    }
}

/// The status without what there is nothing of, and without what only `muster doctor` compares.
pub(super) fn render(answer: &Value, width: Option<usize>) -> String {
    let mut answer = answer.clone();
    if let Some(fields) = answer.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|rows| !rows.is_empty()));
        if let Some(authority) = fields.get_mut("authority").and_then(Value::as_object_mut) {
            authority.remove("name_by_configuration");
        }
    }
    output::render(&answer, width)
}

/// What the certificates of our own root and issuing CA say of addresses and names, beside what they would say if they were made today;
/// null where the issuing CA is of another root.
async fn authority_says(app: &Arc<App>) -> service::Result<Value> {
    let own = authority::list(app).await?;
    let named = |name: &str| own.iter().find(|authority| authority.name == name);
    let (Some(root), Some(issuing)) = (named(authority::ROOT), named(authority::ISSUING)) else { return Ok(Value::Null) };
    if !issuing.chain.contains(&root.certificate) {
        return Ok(Value::Null);
    }
    let (issuing, top) = (X509::from_der(&issuing.certificate)?, X509::from_der(&root.certificate)?);
    let said = issuing.crl_distribution_points().into_iter().flatten().find_map(|point| {
        let names = point.distpoint()?.fullname()?;
        names.iter().find_map(|name| name.uri().map(str::to_owned))
    });
    let name = top.subject_name().entries_by_nid(Nid::COMMONNAME).next().and_then(|entry| entry.data().to_string().ok());
    let expected: String = format!("{} Root CA", app.config.organisation);
    let beyond = expected.chars().count().saturating_sub(64);
    Ok(json!({
        "crl_in_certificate": said,
        "crl": root.crl_url(),
        "name": name,
        "name_by_configuration": expected.chars().skip(beyond).collect::<String>(),
    }))
}
