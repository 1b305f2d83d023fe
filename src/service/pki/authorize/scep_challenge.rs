//! SCEP challenges: one-time, bound to an authority and to the grant of one certificate.
//!
//! The text is `base64( version ‖ id (16) ‖ HMAC-SHA256(key, version ‖ tenant ‖ authority ‖ id)[0..16] )`: 44 characters of the standard
//! alphabet, which fit a PrintableString. The check value refuses garbage, and challenges of another authority, without a look into the
//! database; everything else is in the row.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::App;
use crate::clock::{MINUTE, Time};
use crate::domain::access::Caller;
use crate::domain::audit::Entry;
use crate::domain::certificate::{Grant, show_name};
use crate::domain::scep::{Challenge, Reason};
use crate::ids::{AuthorityId, DeviceId, EnrollmentId, ProfileId, TenantId, UserId};
use crate::secret::{self, Secret};
use crate::service::directory::By;
use crate::service::identity::instance_key;
use crate::service::pki::namesake;
use crate::service::{Error, Result};
use crate::store::sealed::SCEP_CHALLENGE_KEY;
use crate::store::{self, scep};

const VERSION: u8 = 1;
const ID: usize = 16;
const MAC: usize = 16;

/// A challenge to be made.
#[derive(Clone, Debug)]
pub struct NewChallenge {
    /// Which authority issues.
    pub authority: AuthorityId,
    /// What is granted.
    pub grant: Grant,
    /// The device.
    pub device: Option<DeviceId>,
    /// The user.
    pub user: Option<UserId>,
    /// The enrolment.
    pub enrollment: Option<EnrollmentId>,
    /// The profile that wants the certificate.
    pub profile: Option<ProfileId>,
    /// Whether an administrator has to agree to each request.
    pub needs_approval: bool,
    /// When it ends; default: as configured.
    pub expires: Option<Time>,
}

/// A challenge that is made but not stored: the text works once the row is committed.
#[derive(Clone, Debug)]
pub struct Minted {
    /// What the device gets.
    pub text: Secret,
    /// What goes to [`scep::insert_challenge`].
    pub row: Challenge,
}

/// Makes a challenge, for a caller that stores its row in a transaction of its own.
///
/// # Errors
/// [`Error::Refused`] when the grant may not be given; else only our own.
pub async fn prepare(app: &App, new: NewChallenge) -> Result<Minted> {
    new.grant.check()?;
    let id = secret::random::<ID>()?;
    let key = challenge_key(app).await?;
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&id);
    bytes.extend_from_slice(&mac(&key, &app.tenant, &new.authority, &id)?);
    let lifetime = i64::from(app.config.scep.challenge_minutes).saturating_mul(MINUTE);
    let mut grant = new.grant;
    grant.device_id.clone_from(&new.device);
    grant.user_id.clone_from(&new.user);
    grant.enrollment_id.clone_from(&new.enrollment);
    grant.profile_id.clone_from(&new.profile);
    let row = Challenge {
        id: hex::encode(id),
        authority_id: new.authority,
        profile_id: new.profile,
        enrollment_id: new.enrollment,
        device_id: new.device,
        user_id: new.user,
        grant,
        needs_approval: new.needs_approval,
        expires_at: new.expires.unwrap_or_else(|| app.now().plus(lifetime)),
        consumed_at: None,
    };
    Ok(Minted { text: Secret::new(STANDARD.encode(bytes).into_bytes()), row })
}

/// Makes and stores a challenge.
///
/// # Errors
/// As [`prepare`]; [`Error::Conflict`] when the authority does not exist.
pub async fn mint(app: &App, new: NewChallenge, actor: &str, origin: &str) -> Result<Secret> {
    mint_for(app, new, None, &By { actor: actor.to_owned(), origin: origin.to_owned() }).await
}

/// Makes and stores a challenge as somebody asks for it; `giver` is `None` for somebody at the server's own machine.
///
/// # Errors
/// As [`mint`]; [`Refusal::MethodsOfSuperior`] for a certificate in the name of somebody who may do more than they.
///
/// [`Refusal::MethodsOfSuperior`]: crate::domain::Refusal::MethodsOfSuperior
pub async fn mint_for(app: &App, new: NewChallenge, giver: Option<&Caller>, by: &By) -> Result<Secret> {
    let minted = prepare(app, new).await?;
    let (row, now, giver) = (minted.row, app.now(), giver.cloned());
    let entry = audit(&row, &by.actor, &by.origin);
    app.store
        .write(move |tx| {
            namesake::check_giver(tx, giver.as_ref(), &row.grant)?;
            scep::insert_challenge(tx, &row, now)?;
            store::audit::append(tx, &entry, now)
        })
        .await?;
    Ok(minted.text)
}

/// The audit row of a new challenge.
#[must_use]
pub fn audit(row: &Challenge, actor: &str, origin: &str) -> Entry {
    Entry::new(actor, "scep.challenge", format!("scep-challenge:{}", row.id), origin).after(&serde_json::json!({
        "authority": row.authority_id, "device": row.device_id, "user": row.user_id, "profile": row.profile_id,
        "subject": show_name(&row.grant.subject), "names": row.grant.sans, "needsApproval": row.needs_approval, "expires": row.expires_at.to_string(),
    }))
}

/// The id inside a challenge text, if we made it for this authority. Some clients send the text as it was given, others what its base64
/// decodes to: Windows documents its `Challenge` node as "B64 encoded" and leaves open who decodes it.
///
/// # Errors
/// In the inner result [`Reason::ChallengeDecodingError`]; in the outer only our own.
pub(in crate::service::pki) fn recognise(
    key: &Secret,
    tenant: &TenantId,
    authority: &AuthorityId,
    text: &[u8],
) -> Result<std::result::Result<String, Reason>> {
    let mut candidate = text.trim_ascii().to_vec();
    for _ in 0..2 {
        let Ok(bytes) = STANDARD.decode(&candidate) else { break };
        if let Some((&[VERSION], rest)) = bytes.split_first_chunk::<1>()
            && let Some((id, given)) = rest.split_first_chunk::<ID>()
            && secret::same(given, &mac(key, tenant, authority, id)?)
        {
            return Ok(Ok(hex::encode(id)));
        }
        candidate = bytes;
    }
    Ok(Err(Reason::ChallengeDecodingError))
}

/// The instance's key of SCEP: the check values of challenges are made with it.
///
/// # Errors
/// When the store fails or the key does not open.
pub(in crate::service::pki) async fn challenge_key(app: &App) -> Result<Secret> {
    if let Some(key) = app.challenge_key.get() {
        return Ok(key.clone());
    }
    let key = instance_key(app, SCEP_CHALLENGE_KEY).await?;
    Ok(app.challenge_key.get_or_init(|| key).clone())
}

fn mac(key: &Secret, tenant: &TenantId, authority: &AuthorityId, id: &[u8; ID]) -> Result<[u8; MAC]> {
    let mut data = vec![VERSION];
    for name in [tenant.as_str(), authority.as_str()] {
        data.extend_from_slice(&(name.len() as u64).to_be_bytes());
        data.extend_from_slice(name.as_bytes());
    }
    data.extend_from_slice(id);
    let full = secret::hmac_sha256(key.expose(), &data)?;
    full.first_chunk::<MAC>().copied().ok_or_else(|| Error::internal(anyhow::anyhow!("HMAC of the wrong length")))
}
