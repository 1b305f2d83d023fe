//! Registration of devices at the identity service: the token that a device gets with its profile for single sign-on, and what it is worth
//! when the device shows it.
//!
//! The text is `base64url( id (16) ‖ HMAC-SHA256(key, tenant ‖ enrolment ‖ id) )`, 64 characters. It is nowhere in the database, and the
//! same whenever the profile is delivered again: a device that has it is not told another one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::instance_key;
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::registration::{Shown, Token, Use};
use crate::ids::{DeviceId, EnrollmentId, TenantId, UserId};
use crate::secret::{Secret, hmac_sha256, same};
use crate::service::Result;
use crate::store::sealed::REGISTRATION_KEY;
use crate::store::{self, Tx, audit, enrollments, registration_tokens};

const ID: usize = 16;
const MAC: usize = 32;

fn mac(key: &Secret, tenant: &TenantId, enrollment: &EnrollmentId, id: &str) -> Result<[u8; MAC]> {
    Ok(hmac_sha256(key.expose(), format!("{tenant}\n{enrollment}\n{id}").as_bytes())?)
}

/// What a device is given for a token.
///
/// # Errors
/// Only our own.
pub(in crate::service) async fn text(app: &App, token: &Token) -> Result<String> {
    let key = instance_key(app, REGISTRATION_KEY).await?;
    let mut bytes = hex::decode(&token.id).map_err(crate::service::Error::internal)?;
    bytes.extend_from_slice(&mac(&key, &app.tenant, &token.enrollment_id, &token.id)?);
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Whose registration it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The device.
    pub device: DeviceId,
    /// Its enrolment.
    pub enrollment: EnrollmentId,
    /// Who enrolled it, when somebody did.
    pub user: Option<UserId>,
    /// The same key was registered with this token before.
    pub again: bool,
}

/// A token that a device shows, before it is looked up: for a caller that stores what is registered in the same transaction.
#[derive(Debug)]
pub struct Ticket {
    key: Secret,
    tenant: TenantId,
    id: String,
    mac: Vec<u8>,
}

impl Ticket {
    /// Reads the text of a token.
    ///
    /// # Errors
    /// [`Refusal::RegistrationTokenUnknown`] when it is none.
    pub async fn read(app: &App, text: &[u8]) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_ascii()).map_err(|_| Refusal::RegistrationTokenUnknown)?;
        let (id, mac) = bytes.split_at_checked(ID).filter(|(_, mac)| mac.len() == MAC).ok_or(Refusal::RegistrationTokenUnknown)?;
        let key = instance_key(app, REGISTRATION_KEY).await?;
        Ok(Self { key, tenant: app.tenant.clone(), id: hex::encode(id), mac: mac.to_vec() })
    }

    /// Uses the token up for the key that the device registers. The same key may be shown again: an answer gets lost.
    ///
    /// # Errors
    /// [`Refusal::RegistrationTokenUnknown`], and those of [`Token::judge`]; then nothing has changed.
    pub fn redeem(&self, tx: &mut Tx<'_>, shown: &Shown, origin: &str, now: Time) -> store::Result<Registration> {
        let unknown = || store::Error::from(Refusal::RegistrationTokenUnknown);
        let token = registration_tokens::find_token(tx.conn(), &self.id)?.ok_or_else(unknown)?;
        let expected = mac(&self.key, &self.tenant, &token.enrollment_id, &token.id).map_err(store::Error::corrupt)?;
        if !same(&expected, &self.mac) {
            return Err(unknown());
        }
        // The row is taken before it is looked at: nobody retires the device between the look and the registration.
        enrollments::lock_enrollment(tx, &token.enrollment_id)?;
        let enrollment = match enrollments::load_enrollment(tx.conn(), &token.enrollment_id) {
            Err(store::Error::NotFound) => None,
            other => Some(other?),
        };
        let token = registration_tokens::find_token(tx.conn(), &self.id)?.ok_or_else(unknown)?;
        let again = token.judge(enrollment.as_ref(), shown, now)? == Use::Again;
        if !again {
            if !registration_tokens::claim_token(tx, &token.id, &shown.key, now)? {
                return Err(Refusal::RegistrationTokenUsed.into());
            }
            let after = json!({ "enrollment": token.enrollment_id, "profile": token.profile_id, "key": shown.key });
            let entry =
                Entry::new(format!("device:{}", token.device_id), "registration.redeem", format!("device:{}", token.device_id), origin);
            audit::append(tx, &entry.after(&after), now)?;
        }
        let user = enrollment.and_then(|enrollment| enrollment.user_id);
        Ok(Registration { device: token.device_id, enrollment: token.enrollment_id, user, again })
    }
}

/// Redeems a token in a transaction of its own.
///
/// # Errors
/// Those of [`Ticket::read`] and [`Ticket::redeem`].
pub async fn redeem(app: &App, text: &[u8], shown: Shown, origin: &str) -> Result<Registration> {
    let (ticket, origin, now) = (Ticket::read(app, text).await?, origin.to_owned(), app.now());
    Ok(app.store.write(move |tx| ticket.redeem(tx, &shown, &origin, now)).await?)
}
