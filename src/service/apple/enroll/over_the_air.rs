//! Over-the-air enrolment (Apple's Profile Service): the device is asked what it is, and answers in a message that its factory key signed;
//! it gets an identity of ours for one message; it shows itself again with that identity, and gets the profile that makes it managed, bound
//! to what it said first. Both messages go to the same address, and who signed tells them apart.

use std::net::IpAddr;

use openssl::sha::sha256;
use serde_json::json;

use super::machine_info::{self, Message};
use super::{Beginning, PLATFORMS, begin_in, profile, sign};
use crate::app::App;
use crate::clock::MINUTE;
use crate::domain::Refusal;
use crate::domain::apple::enrollment::platform;
use crate::domain::audit::Entry;
use crate::domain::certificate::{Certificate, CertificateStatus, Purpose, RevocationReason};
use crate::domain::device::Platform;
use crate::ids::EnrollmentId;
use crate::service::apple::names;
use crate::service::apple::push_certificate::topic;
use crate::service::identity::token;
use crate::service::pki::revoke::revoke_in;
use crate::service::{Error, Result};
use crate::store::apple::sessions::{self, Session};
use crate::store::{audit, certificates, enrollment_tokens, scep, users};
use crate::wire::apple::machine_info::DeviceAttributes;
use crate::wire::apple::profile::ProfileService;

/// Path of the page for it; links have their token after it.
pub const PAGE_PATH: &str = "/enroll/apple/ota";
/// Where devices send their messages.
pub const SERVICE_PATH: &str = "/enroll/apple/profile-service";
/// Longest identifier or serial number.
const LONGEST: usize = 256;

/// The first document for whoever holds a one-time token, which the device gives back and which is used up then.
///
/// # Errors
/// [`Refusal::TokenInvalid`], [`Refusal::AccountDisabled`]; [`Error::Unavailable`] without authority.
pub async fn invite(app: &App, text: &[u8]) -> Result<Vec<u8>> {
    token::check(app, text, &PLATFORMS).await?;
    let challenge = std::str::from_utf8(text.trim_ascii()).map_err(Error::internal)?;
    let names = names(app).await?;
    let identifier = format!("{}.profile-service", names.prefix());
    let organisation = app.config.organisation.as_str();
    let document = ProfileService {
        url: format!("{}{SERVICE_PATH}", app.config.web_url()),
        attributes: ProfileService::ATTRIBUTES.map(str::to_owned).to_vec(),
        challenge: Some(challenge.to_owned()),
        uuid: names.payload_uuid(&identifier, "", &hex::encode(sha256(challenge.as_bytes()))),
        identifier,
        display_name: Some(format!("Management by {organisation}")),
        organization: Some(organisation.to_owned()),
    };
    sign(app, document.encode()).await
}

/// Signs a person in with user name and pass, and gives the first document.
///
/// # Errors
/// [`Refusal::SignInFailed`], [`Error::Throttled`], and those of [`invite`].
pub async fn sign_in(app: &App, user_name: &str, pass: &str, address: IpAddr) -> Result<Vec<u8>> {
    topic(app).await?;
    let token = token::create_with_tap(app, user_name, pass, address, Platform::MacOs, None).await?;
    invite(app, token.expose()).await
}

/// Answers a device's message: signed by its factory key, with the profile of an identity; signed by that identity, with the profile that
/// makes it managed.
///
/// # Errors
/// [`Refusal::MachineInfoInvalid`], [`Refusal::MachineInfoForeign`], [`Refusal::MachineInfoIncomplete`],
/// [`Refusal::DeviceKindUnsupported`], [`Refusal::PlatformRefused`], [`Refusal::ProfileServiceChallenge`], [`Refusal::TokenInvalid`],
/// [`Refusal::AccountDisabled`], [`Refusal::CertificateRevoked`], [`Refusal::CertificateExpired`], [`Refusal::EnrollmentSessionOver`],
/// [`Refusal::ManagementSourceMismatch`]; [`Error::Malformed`] for content that is no property list.
pub async fn answer(app: &App, body: &[u8], origin: &str) -> Result<Vec<u8>> {
    super::automated::recorded(app, origin, "over-the-air", answer_unrecorded(app, body, origin).await).await
}

async fn answer_unrecorded(app: &App, body: &[u8], origin: &str) -> Result<Vec<u8>> {
    let message = machine_info::inspect(app, body.to_vec()).await?;
    if message.from_factory {
        return first(app, &message, origin).await;
    }
    let fingerprint = message.signer.clone();
    let found = app.store.read(move |c| certificates::find_certificate_by_sha256(c, &fingerprint)).await?;
    let ours = found.filter(|certificate| certificate.grant.purpose == Purpose::ProfileService).ok_or(Refusal::MachineInfoForeign)?;
    second(app, &message, ours, origin).await
}

/// What a device tells of itself: identifier and serial number.
fn identifiers(said: &DeviceAttributes) -> Result<(String, String)> {
    let short = |text: &Option<String>| {
        let text = text.clone().filter(|text| (1..=LONGEST).contains(&text.len()));
        text.ok_or(Refusal::MachineInfoIncomplete)
    };
    Ok((short(&said.udid)?, short(&said.serial)?))
}

/// The device shows what it is: it gets an identity. Its version comes with the first message of management, and is judged there.
async fn first(app: &App, message: &Message, origin: &str) -> Result<Vec<u8>> {
    let said = DeviceAttributes::decode(&message.content)?;
    let (udid, serial) = identifiers(&said)?;
    let platform = platform(said.product.as_deref().unwrap_or_default())?.ok_or(Refusal::PlatformRefused)?;
    let challenge = said.challenge.as_deref().ok_or(Refusal::ProfileServiceChallenge)?;
    let proof = token::check(app, challenge.as_bytes(), &PLATFORMS).await?;
    let now = app.now();
    let session = Session {
        id: EnrollmentId::new(),
        user_id: Some(proof.user.id.clone()),
        platform,
        udid: Some(udid),
        serial: Some(serial),
        management: None,
        method: format!("over-the-air-{}", proof.method),
        created_at: now,
        expires_at: now.plus(i64::from(app.config.apple.session_minutes).saturating_mul(MINUTE)),
    };
    let (document, row) = profile::introduction(app, &session).await?;
    let signed = sign(app, document).await?;
    let state = json!({ "user": session.user_id, "method": session.method, "udid": session.udid, "serial_number": session.serial });
    let entry = Entry::new(format!("user:{}", proof.user.id), "enrollment.introduce", format!("enrollment:{}", session.id), origin);
    let entry = entry.after(&state);
    app.store
        .write(move |tx| {
            if !enrollment_tokens::claim_token(tx, &proof.hash, now)? {
                return Err(Refusal::TokenInvalid.into());
            }
            sessions::insert_session(tx, &session)?;
            scep::insert_challenge(tx, &row, now)?;
            audit::append(tx, &entry, now)
        })
        .await?;
    Ok(signed)
}

/// The device shows itself with the identity: once, and only the device that it was made for.
async fn second(app: &App, message: &Message, ours: Certificate, origin: &str) -> Result<Vec<u8>> {
    let now = app.now();
    let id = ours.grant.enrollment_id.clone().ok_or(Refusal::EnrollmentSessionOver)?;
    let known = id.clone();
    let session = app.store.read(move |c| sessions::find_session(c, &known)).await?;
    // Before the certificate is judged: after its one message it is revoked, and a message that comes again shall be told apart.
    let session = session.ok_or(Refusal::EnrollmentSessionOver)?;
    if ours.status != CertificateStatus::Active {
        return Err(Refusal::CertificateRevoked.into());
    }
    if now < ours.not_before || now >= ours.not_after {
        return Err(Refusal::CertificateExpired.into());
    }
    let (udid, serial) = identifiers(&DeviceAttributes::decode(&message.content)?)?;
    if session.udid.as_ref() != Some(&udid) || session.serial.as_ref() != Some(&serial) {
        return Err(Refusal::ManagementSourceMismatch.into());
    }
    let user = match session.user_id.clone() {
        Some(user) => Some(app.store.read(move |c| users::load_user(c, &user)).await?),
        None => None,
    };
    if user.as_ref().is_some_and(|user| !user.enabled) {
        return Err(Refusal::AccountDisabled.into());
    }
    let beginning = Beginning {
        user,
        platform: session.platform,
        udid: session.udid,
        serial: session.serial,
        mode: None,
        method: session.method,
        token: None,
    };
    let (certificate, actor, origin_of) = (ours.id, format!("enrollment:{id}"), origin.to_owned());
    begin_in(app, beginning, origin, move |tx| {
        if !sessions::claim_session(tx, &id, now)? {
            return Err(Refusal::EnrollmentSessionOver.into());
        }
        revoke_in(tx, &certificate, RevocationReason::Superseded, &actor, &origin_of, now).map(drop)
    })
    .await
}
