//! Tokens with which devices register at the identity service: each is for one enrolment, and good once.

use super::Refusal;
use super::enrollment::{Enrollment, State};
use crate::clock::Time;
use crate::ids::{DeviceId, EnrollmentId, ProfileId};

/// A token, without its text: that follows from its id and the instance's own key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Identifier, lower-case hex.
    pub id: String,
    /// The device that was given it.
    pub device_id: DeviceId,
    /// The enrolment that it was given in.
    pub enrollment_id: EnrollmentId,
    /// With which profile.
    pub profile_id: ProfileId,
    /// In which payload.
    pub payload: String,
    /// When it was made.
    pub created_at: Time,
    /// When it ends.
    pub expires_at: Time,
    /// When it was used.
    pub used_at: Option<Time>,
    /// SHA-256 of the key that was registered with it, lower-case hex.
    pub used_for: Option<String>,
}

/// What a device says that shows a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Which device it is.
    pub udid: String,
    /// SHA-256 of the key that it registers, lower-case hex.
    pub key: String,
}

/// What becomes of a token that is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is used up.
    First,
    /// It was used for this very key: the answer got lost.
    Again,
}

impl Token {
    /// Whether a device may be given it (once more): it is not used, and a third of its life is left at least.
    #[must_use]
    pub fn is_fresh(&self, now: Time) -> bool {
        let third = self.expires_at.since(self.created_at).checked_div(3).unwrap_or(0);
        self.used_at.is_none() && self.expires_at.since(now) >= third
    }

    /// Judges what a device shows, with its enrolment as it is now (`None`: it is not known any more).
    ///
    /// # Errors
    /// [`Refusal::RegistrationDeviceGone`], [`Refusal::RegistrationDeviceForeign`], [`Refusal::RegistrationTokenUsed`],
    /// [`Refusal::RegistrationTokenExpired`].
    pub fn judge(&self, enrollment: Option<&Enrollment>, shown: &Shown, now: Time) -> Result<Use, Refusal> {
        let enrolled = |enrollment: &&Enrollment| matches!(enrollment.state, State::Provisioned | State::Active);
        let enrollment = enrollment.filter(enrolled).ok_or(Refusal::RegistrationDeviceGone)?;
        // A device that is its user's own hides its hardware from its management.
        if !enrollment.is_user_enrollment() && !enrollment.mdm_id.eq_ignore_ascii_case(&shown.udid) {
            return Err(Refusal::RegistrationDeviceForeign);
        }
        if self.used_at.is_some() && self.used_for.as_ref() != Some(&shown.key) {
            return Err(Refusal::RegistrationTokenUsed);
        }
        if self.expires_at <= now {
            return Err(Refusal::RegistrationTokenExpired);
        }
        Ok(if self.used_at.is_some() { Use::Again } else { Use::First })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_given_again_while_a_third_of_its_life_is_left() {
        let token = Token {
            id: "a".into(),
            device_id: DeviceId::new(),
            enrollment_id: EnrollmentId::new(),
            profile_id: ProfileId::new(),
            payload: "sso".into(),
            created_at: Time(0),
            expires_at: Time(300),
            used_at: None,
            used_for: None,
        };
        assert!(token.is_fresh(Time(0)) && token.is_fresh(Time(200)) && !token.is_fresh(Time(201)) && !token.is_fresh(Time(400)));
        assert!(!Token { used_at: Some(Time(1)), ..token }.is_fresh(Time(2)));
    }
}
