//! Certificates by SCEP: `ClientCertificateInstall/SCEP` (windows.md section 4.4).
//!
//! `Enroll` answers at once and the device fetches the certificate later, so this provider looks at `Status`, `CertThumbprint` and
//! `ErrorCode` until the thumbprint is one that we issued to this very device. Devices do not renew by themselves: before the end a new
//! request is installed, and the old one is deleted when the new certificate is seen.

use openssl::hash::{MessageDigest, hash};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Context, Csp, Effect, Part, Step, Turn, fields};
use crate::clock::{MINUTE, SECOND, Time};
use crate::domain::certificate::{Certificate, CertificateStatus, KeyUsage, Rdn, RevocationReason, San, Template, Variables};
use crate::domain::desired::{Input, State};
use crate::domain::dm_session::{Op, Outcome, Verdict};
use crate::catalogue::Scope;
use crate::service::pki::authorize::scep_challenge::{self, NewChallenge};
use crate::service::windows::plan;
use crate::service::{Error, Result};
use crate::wire::syncml::Format;

/// How long the device gets for the enrolment that it started.
const FIRST_LOOK: i64 = 30 * SECOND;
/// How long until the next look at one that is still pending.
const NEXT_LOOK: i64 = 2 * MINUTE;

/// The provider.
pub(super) struct Scep;

/// Fields of the payload.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Body {
    /// Names, usages and life of the certificate.
    template: Template,
    /// RSA bits: 2048 or 4096 (the device knows no 3072).
    key_length: u32,
    /// Where the key is kept.
    key_protection: KeyProtection,
    /// How much of the life is left when it is renewed, in percent.
    renew_percent: u32,
    /// How often the device asks again while the request is pending, 0 to 30.
    retry_count: u32,
    /// Minutes between these.
    retry_delay: u32,
    /// The request waits for an administrator.
    needs_approval: bool,
}

impl Default for Body {
    fn default() -> Self {
        Self {
            template: Template::default(),
            key_length: 2048,
            key_protection: KeyProtection::TpmElseSoftware,
            renew_percent: 20,
            retry_count: 3,
            retry_delay: 5,
            needs_approval: false,
        }
    }
}

/// `KeyProtection`.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeyProtection {
    /// In the TPM, or not at all.
    Tpm,
    /// In the TPM when there is one.
    TpmElseSoftware,
    /// In software.
    Software,
}

impl KeyProtection {
    fn value(self) -> &'static str {
        match self {
            Self::Tpm => "1",
            Self::TpmElseSoftware => "2",
            Self::Software => "3",
        }
    }
}

/// The request's node.
fn node(scope: Scope, id: &str) -> String {
    let root = match scope {
        Scope::Device => "./Device",
        Scope::User => "./User",
    };
    format!("{root}/Vendor/MSFT/ClientCertificateInstall/SCEP/{id}")
}

/// A name as Windows reads it (CertStrToName): values with special characters are quoted, quotes in them doubled.
fn windows_name(name: &[Rdn]) -> String {
    let value = |text: &str| {
        let special = text.contains([',', '=', '+', ';', '"', '\n', '<', '>', '#']) || text.starts_with(' ') || text.ends_with(' ');
        if special { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
    };
    let rdn = |rdn: &Rdn| rdn.0.iter().map(|a| format!("{}={}", a.kind, value(&a.value))).collect::<Vec<_>>().join("+");
    name.iter().map(rdn).collect::<Vec<_>>().join(",")
}

/// `type+value` in the numbers of `CERT_ALT_NAME`.
fn alternative(san: &San) -> Option<String> {
    match san {
        San::Email(text) => Some(format!("2+{text}")),
        San::Dns(text) => Some(format!("3+{text}")),
        San::Uri(text) => Some(format!("7+{text}")),
        San::Upn(text) => Some(format!("11+{text}")),
        San::Ip(_) => None,
    }
}

impl Scep {
    /// A new request: challenge, and the one Atomic that installs it.
    async fn enroll(context: &Context<'_>, part: &Part<'_>, body: &Body, mut memory: Map<String, Value>) -> Result<Turn> {
        let mut variables = Variables::of(context.user, Some(context.device));
        if let Some(domain) = context.user.and_then(|user| user.upn.split_once('@')).map(|(_, domain)| domain) {
            variables = variables.with("DomainName", domain);
        }
        let mut grant = match body.template.resolve(&variables) {
            Ok(grant) => grant,
            // A variable without a value fails the profile on this device, by name.
            Err(unresolved) => {
                return Ok(Turn::moved(Input::Refused { status: 0, original_error: Some(unresolved.to_string()) }));
            }
        };
        grant.device_id = Some(context.device.id.clone());
        grant.user_id = context.enrollment.user_id.clone();
        grant.enrollment_id = Some(context.enrollment.id.clone());
        grant.profile_id = Some(part.profile.clone());
        let subject = windows_name(&grant.subject);
        let sans: Vec<String> = grant.sans.iter().filter_map(alternative).collect();
        let challenge = scep_challenge::prepare(
            context.app,
            NewChallenge {
                authority: context.authority.id.clone(),
                device: grant.device_id.clone(),
                user: grant.user_id.clone(),
                enrollment: grant.enrollment_id.clone(),
                profile: grant.profile_id.clone(),
                needs_approval: body.needs_approval,
                expires: None,
                grant,
            },
        )
        .await?;
        let id = uuid::Uuid::now_v7().to_string();
        let scope = body.template.scope;
        let base = node(scope, &id);
        let leaf = |name: &str, format, value: &str| Op::add(format!("{base}/Install/{name}"), format, value);
        let usage: u32 = body.template.key_usages.iter().map(|usage| match usage {
            KeyUsage::DigitalSignature => 0x80,
            KeyUsage::KeyEncipherment => 0x20,
        }).sum();
        let thumbprint = hex::encode_upper(hash(MessageDigest::sha1(), &context.authority.certificate)?);
        let server = format!("{}/scep/{}", context.app.config.web_url(), context.authority.name);
        let text = std::str::from_utf8(challenge.text.expose()).map_err(Error::internal)?.to_owned();
        let mut ops = vec![
            Op::add_node(base.as_str()),
            leaf("ServerURL", Format::Chr, &server),
            leaf("Challenge", Format::Chr, &text),
            leaf("EKUMapping", Format::Chr, &body.template.extended_key_usages.join("+")),
            leaf("KeyUsage", Format::Int, &usage.to_string()),
            leaf("SubjectName", Format::Chr, &subject),
            leaf("KeyProtection", Format::Int, body.key_protection.value()),
            leaf("KeyLength", Format::Int, &body.key_length.to_string()),
            leaf("HashAlgorithm", Format::Chr, "SHA-2"),
            leaf("CAThumbprint", Format::Chr, &thumbprint),
            leaf("RetryCount", Format::Int, &body.retry_count.to_string()),
            leaf("RetryDelay", Format::Int, &body.retry_delay.to_string()),
        ];
        if !sans.is_empty() {
            ops.push(leaf("SubjectAlternativeNames", Format::Chr, &sans.join(";")));
        }
        ops.push(Op::exec(format!("{base}/Install/Enroll")));
        if let Some(current) = memory.get("id").cloned() {
            memory.insert("previous".into(), current);
        }
        memory.insert("id".into(), id.into());
        memory.insert("scope".into(), scope.as_str().into());
        Ok(Turn {
            steps: vec![Step { phase: "enroll", ops, atomic: true }],
            inputs: vec![Input::Sent],
            memory: Some(memory),
            effects: vec![Effect::Challenge(Box::new(challenge.row))],
        })
    }

    /// Asks how far the request has got.
    fn look(base: &str) -> Turn {
        let get = |name: &str| Op::get(format!("{base}/{name}"));
        Turn::send("status", vec![get("Status"), get("CertThumbprint"), get("ErrorCode")])
    }

    fn looked(context: &Context<'_>, part: &Part<'_>, base: &str, outcome: &Outcome) -> Turn {
        let value = |at: usize| plan::value(outcome, at).map(str::trim).filter(|v| !v.is_empty());
        let Some(status) = value(0) else {
            // The request is gone from the device: a new one.
            return Turn { memory: Some(Map::new()), ..Turn::moved(Input::Differs { found: None }) };
        };
        match status {
            "1" => {
                let thumbprint = value(1).unwrap_or_default();
                match issued(context.certificates, thumbprint) {
                    Some(certificate) => {
                        let mut memory = part.record.memory.clone();
                        memory.insert("certificate".into(), certificate.id.to_string().into());
                        memory.insert("thumbprint".into(), thumbprint.into());
                        let previous = memory.remove("previous");
                        let mut turn = Turn { memory: Some(memory), ..Turn::moved(Input::Matches) };
                        if let (Some(old), Some(parent)) = (previous.as_ref().and_then(Value::as_str), base.rsplit_once('/')) {
                            let old = format!("{}/{old}", parent.0);
                            turn.steps.push(Step { phase: "remove-old", ops: vec![Op::delete(old)], atomic: false });
                            if let Some(superseded) = part.memory("certificate").and_then(crate::ids::CertificateId::parse) {
                                turn.effects.push(Effect::Revoke(superseded, RevocationReason::Superseded));
                            }
                        }
                        turn
                    }
                    // A certificate that we did not issue to this device is not what the profile asked for.
                    None => Turn {
                        memory: Some(Map::new()),
                        ..Turn::moved(Input::Retry { status: 1, original_error: Some(format!("unknown certificate {thumbprint}")) })
                    },
                }
            }
            "2" => Turn::moved(Input::Deferred { until: context.now.plus(NEXT_LOOK) }),
            "16" => {
                let error = value(2).map(str::to_owned);
                Turn { memory: Some(Map::new()), ..Turn::moved(Input::Retry { status: 16, original_error: error }) }
            }
            _ => Turn::moved(Input::Deferred { until: context.now.plus(NEXT_LOOK) }),
        }
    }
}

/// The certificate of that SHA-1 thumbprint, if we issued it to the device and it is good.
fn issued<'a>(certificates: &'a [Certificate], thumbprint: &str) -> Option<&'a Certificate> {
    certificates.iter().find(|c| c.sha1.eq_ignore_ascii_case(thumbprint) && c.status == CertificateStatus::Active)
}

/// When a certificate is renewed: when `percent` of its life is left.
fn renew_at(certificate: &Certificate, percent: u32) -> Time {
    let life = certificate.not_after.since(certificate.not_before);
    certificate.not_after.plus(-(life / 100 * i64::from(percent)))
}

impl Csp for Scep {
    fn kind(&self) -> &'static str {
        "scep"
    }

    fn alert(&self) -> Option<&'static str> {
        Some("com.microsoft:mdm.SCEPcertinstall.result")
    }

    fn check(&self, body: &Map<String, Value>) -> std::result::Result<(), String> {
        let body: Body = fields(body)?;
        if !matches!(body.key_length, 2048 | 4096) {
            return Err("key-length: 2048 or 4096".into());
        }
        if !(1..=90).contains(&body.renew_percent) {
            return Err("renew-percent: 1 to 90".into());
        }
        if body.retry_count > 30 {
            return Err("retry-count: 0 to 30".into());
        }
        if body.template.sans.iter().any(|san| alternative(san).is_none()) {
            return Err("template.sans: devices take email, dns, uri and upn".into());
        }
        if body.template.key_usages.is_empty() {
            return Err("template.key-usages: at least one".into());
        }
        // Resolved with made-up values: what is wrong with the template itself shows.
        match body.template.resolve(&Variables::samples()) {
            Ok(_) => Ok(()),
            Err(unresolved) => Err(format!("template: {unresolved}")),
        }
    }

    fn begin<'a>(&'a self, context: &'a Context<'_>, part: &'a Part<'_>) -> BoxFuture<'a, Result<Turn>> {
        async move {
        let scope = part.memory("scope").and_then(Scope::parse).unwrap_or(Scope::Device);
        let current = part.memory("id").map(|id| node(scope, id));
        let Some(payload) = part.payload else {
            return Ok(match current {
                Some(base) => Turn::send("remove", vec![Op::delete(base)]),
                None => Turn::moved(Input::Removed),
            });
        };
        let body: Body = fields(&payload.body).map_err(|why| Error::internal(anyhow::anyhow!(why)))?;
        match (part.record.state, current) {
            (State::Verified, Some(base)) => {
                let held = part.memory("thumbprint").and_then(|t| issued(context.certificates, t));
                match held {
                    Some(certificate) if context.now < renew_at(certificate, body.renew_percent) => Ok(Self::look(&base)),
                    // Near its end, or revoked meanwhile.
                    _ => Self::enroll(context, part, &body, part.record.memory.clone()).await,
                }
            }
            // Sent before, and the session died: `Enroll` is not repeated blindly.
            (State::Sent | State::Delivered, Some(base)) => Ok(Self::look(&base)),
            (State::Pending, Some(base)) if part.memory("hash") == Some(&part.record.value_hash) => Ok(Self::look(&base)),
            (_, _) => {
                let mut memory = part.record.memory.clone();
                memory.insert("hash".into(), part.record.value_hash.clone().into());
                Self::enroll(context, part, &body, memory).await
            }
        }
        }
        .boxed()
    }

    fn answered(&self, context: &Context<'_>, part: &Part<'_>, phase: &str, outcome: &Outcome) -> Result<Turn> {
        let scope = part.memory("scope").and_then(Scope::parse).unwrap_or(Scope::Device);
        let base = part.memory("id").map(|id| node(scope, id)).unwrap_or_default();
        Ok(match (phase, outcome.verdict) {
            ("enroll", Verdict::Done) => Turn {
                inputs: vec![
                    Input::Taken { status: plan::status(outcome) },
                    Input::Deferred { until: context.now.plus(FIRST_LOOK) },
                ],
                ..Turn::default()
            },
            ("enroll", verdict) => {
                Turn { memory: Some(Map::new()), ..Turn::moved(plan::input(verdict, outcome, context.now)) }
            }
            ("status", Verdict::Done) => Self::looked(context, part, &base, outcome),
            ("remove", Verdict::Done) => {
                let held = part.memory("certificate").and_then(crate::ids::CertificateId::parse);
                let effects = held.map(|id| Effect::Revoke(id, RevocationReason::CessationOfOperation)).into_iter().collect();
                Turn { effects, ..Turn::moved(Input::Removed) }
            }
            ("remove-old", _) => Turn::default(),
            (_, verdict) => Turn::moved(plan::input(verdict, outcome, context.now)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::certificate::AttributeType;

    #[test]
    fn names_are_quoted_as_windows_wants_them() {
        let name = [
            Rdn::new(AttributeType::CommonName, "Test User (Company, \"LLC\")"),
            Rdn::new(AttributeType::OrganizationalUnit, "Sales"),
        ];
        assert_eq!(windows_name(&name), "CN=\"Test User (Company, \"\"LLC\"\")\",OU=Sales");
    }
}
