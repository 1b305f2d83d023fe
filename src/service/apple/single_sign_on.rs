//! Single sign-on by the organisation's build of the extension: who this server is for it, and the token with which each device registers.
//!
//! A device is given one token, however often the profile is delivered. Another one follows at the next look at the profile
//! (`apple.drift_hours`) when it was used or nears its end: not sooner, or an extension that registers with each change would never rest.

use serde_json::{Value, json};

use super::turn::Turn;
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::apple::content;
use crate::domain::apple::content::single_sign_on::{self, Bundle, IdentityService};
use crate::domain::desired::label;
use crate::domain::device::Platform;
use crate::domain::profile::Payload;
use crate::domain::registration::Token;
use crate::ids::ProfileId;
use crate::secret::random;
use crate::service::effect::Effect;
use crate::service::identity::registration;
use crate::service::round::Known;
use crate::service::{Error, Result};
use crate::store::{self, Conn, registration_tokens};

/// Where a record remembers that its profile gives the device a token.
const REGISTERS: &str = "registers";

/// This server for extensions.
#[must_use]
pub fn identity_service(app: &App) -> IdentityService {
    let sso = &app.config.apple.sso;
    IdentityService {
        url: app.config.web_url(),
        host: app.config.web_host(),
        tenant: app.tenant.to_string(),
        apps: sso.apps.iter().filter_map(|text| Bundle::parse(text)).collect(),
        macos: Bundle::parse(&sso.macos_extension),
        ios: Bundle::parse(&sso.ios_extension),
    }
}

/// The applications and extensions that may sign people in for this server's host.
#[must_use]
pub fn associated(app: &App) -> Vec<String> {
    identity_service(app).associated().into_iter().map(ToString::to_string).collect()
}

/// Refuses a profile that wants an extension which is not configured.
pub(in crate::service) fn check(app: &App, platform: Platform, payloads: &[Payload]) -> Result<()> {
    let Some(own) = payloads.iter().find(|payload| single_sign_on::is_own(payload)) else { return Ok(()) };
    let Some(system) = content::system(platform) else { return Ok(()) };
    identity_service(app).extension(system).map(drop).map_err(|refusal| Error::Invalid(refusal, own.name.clone()))
}

/// The tokens of an enrolment that are good still. Of devices that were never given one none are sought.
pub(super) fn list_registrations(conn: &mut Conn, known: &Known, now: Time) -> store::Result<Vec<Token>> {
    let mut records = known.items.iter().flat_map(|loaded| loaded.item.detail.records.values());
    if !records.any(|record| record.memory.contains_key(REGISTERS)) {
        return Ok(Vec::new());
    }
    registration_tokens::list_good(conn, &known.device.id, &known.enrollment.id, now)
}

impl Turn<'_> {
    /// The token that the device has for a payload and keeps.
    fn fresh_token(&self, profile: &ProfileId, payload: &str) -> Option<&Token> {
        self.registrations.iter().find(|token| token.profile_id == *profile && token.payload == payload && token.is_fresh(self.now))
    }

    /// The token with which the device registers.
    pub(super) async fn registration_token(&mut self, key: &str, profile: &ProfileId, payload: &str) -> Result<String> {
        let payload = label(key, payload);
        let known = self.fresh_token(profile, &payload).cloned();
        let token = match known {
            Some(token) => token,
            None => {
                let token = Token {
                    id: hex::encode(random::<16>()?),
                    device_id: self.device.id.clone(),
                    enrollment_id: self.known.enrollment.id.clone(),
                    profile_id: profile.clone(),
                    payload,
                    created_at: self.now,
                    expires_at: self.now.plus(i64::from(self.app.config.apple.sso.token_days).saturating_mul(DAY)),
                    used_at: None,
                    used_for: None,
                };
                self.effects.push(Effect::Registration(Box::new(token.clone())));
                self.registrations.push(token.clone());
                token
            }
        };
        let object = format!("device:{}", self.device.id);
        self.audit(
            "registration.token",
            object,
            &json!({ "profile": profile, "payload": token.payload, "expires": token.expires_at.to_string() }),
        );
        registration::text(self.app, &token).await
    }

    /// Notes whether a record's profile gives the device a token.
    pub(super) fn note_registrations(&mut self, key: &str, registers: bool) {
        self.remember(key, |memory| {
            memory.retain(|name, _| name != REGISTERS);
            memory.extend(registers.then(|| (REGISTERS.to_owned(), Value::from(true))));
        });
    }

    /// Whether the device was given a token for a payload that is used or too old.
    pub(super) fn lacks_registration(&self, key: &str, payload: &Payload) -> bool {
        let Some((profile, record)) = self.record(key).filter(|_| single_sign_on::is_own(payload)) else { return false };
        record.memory.contains_key(REGISTERS) && self.fresh_token(profile, &label(key, &payload.name)).is_none()
    }
}
