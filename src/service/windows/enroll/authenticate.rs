//! Who enrols: the token of our sign-in page, a Temporary Access Pass as the password, or a JWT of a configured tenant.

use super::super::entra::{self, Claims, Use};
use super::Caller;
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::device::Platform;
use crate::domain::user::User;
use crate::ids::TapId;
use crate::service::identity::{tap, token};
use crate::service::{Error, Result};
use crate::store::{self, Tx, enrollment_tokens, taps, users};
use crate::wire::mde::soap::Security;

/// Somebody who may enrol a device.
#[derive(Clone, Debug)]
pub(super) struct Authenticated {
    /// Who.
    pub(super) user: User,
    /// By what.
    pub(super) method: Method,
}

/// What a person proved to be somebody by.
#[derive(Clone, Debug)]
pub(super) enum Method {
    /// The sign-in page's token.
    Token {
        /// Names it.
        hash: String,
    },
    /// A pass.
    Tap(TapId),
    /// A tenant's token.
    Entra(Claims),
}

impl Method {
    /// The word for audit rows.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Token { .. } => "federated",
            Self::Tap(_) => "on-premise",
            Self::Entra(_) => "entra",
        }
    }

    /// The identity provider's own id for the device, which its signed token names.
    pub(super) fn entra_device_id(&self) -> Option<&str> {
        match self {
            Self::Entra(claims) => claims.device_id.as_deref(),
            Self::Token { .. } | Self::Tap(_) => None,
        }
    }

    /// Uses the proof up, in the transaction of the enrolment that it was good for.
    pub(super) fn burn(&self, tx: &mut Tx<'_>, now: Time) -> store::Result<()> {
        let fresh = match self {
            Self::Token { hash } => enrollment_tokens::claim_token(tx, hash, now)?,
            Self::Tap(id) => taps::claim_tap(tx, id, now)?,
            Self::Entra(_) => true,
        };
        if fresh { Ok(()) } else { Err(Refusal::TokenInvalid.into()) }
    }
}

/// Judges the security header.
///
/// # Errors
/// [`Refusal::TokenInvalid`], [`Refusal::SignInFailed`], [`Refusal::AccountDisabled`], [`Refusal::UserUnknown`],
/// [`Refusal::SecurityHeaderInvalid`], [`Error::Throttled`].
pub(super) async fn authenticate(app: &App, security: &Security, caller: &Caller) -> Result<Authenticated> {
    match security {
        Security::Token(text) => {
            let proof = token::check(app, text, &[Platform::Windows]).await?;
            Ok(Authenticated { user: proof.user, method: Method::Token { hash: proof.hash } })
        }
        Security::UserName { name, password } => {
            let checked = tap::check(app, name, password, caller.address).await?;
            Ok(Authenticated { user: checked.user, method: Method::Tap(checked.tap_id) })
        }
        Security::Jwt(text) => {
            let text = std::str::from_utf8(text).map_err(|_| Refusal::TokenInvalid)?;
            let claims = entra::verify(app, text, Use::Enrollment).await?;
            let upn = claims.upn.clone();
            let user = app.store.read(move |c| users::find_user_by_upn(c, &upn)).await?.ok_or(Refusal::UserUnknown)?;
            if !user.enabled {
                return Err(Refusal::AccountDisabled.into());
            }
            Ok(Authenticated { user, method: Method::Entra(claims) })
        }
        Security::None | Security::Other(_) => Err(Error::Refused(Refusal::TokenInvalid)),
    }
}
