//! The enrolment profile: the roots, the identity by SCEP, and the payload that makes a device managed.

use crate::app::App;
use crate::clock::{MINUTE, Time};
use crate::domain::apple::enrollment::update;
use crate::domain::apple::profile::{About, Part};
use crate::domain::certificate::{AttributeType, Grant, Purpose, Rdn};
use crate::domain::device::Platform;
use crate::domain::enrollment::Enrollment;
use crate::domain::scep::Challenge;
use crate::ids::{DeviceId, EnrollmentId, UserId};
use crate::service::apple::push_certificate::topic;
use crate::service::apple::{ade, names};
use crate::service::pki::authority::{self, Authority};
use crate::service::pki::authorize::scep_challenge::{self, NewChallenge};
use crate::service::{Error, Result};
use crate::store::apple::management::find_management;
use crate::store::apple::sessions::Session;
use crate::wire::apple::enroll::{BOOTSTRAP_TOKEN, MDM, Mdm, Mode, PER_USER, TOKEN, access};
use crate::wire::apple::profile::Profile;
use crate::wire::cms::{self, Digest, Signer};
use crate::wire::plist::{self, Data, Dict, Value};

/// The organisational unit of identities.
const UNIT: &str = "Muster device management";
/// What the identity's key is for: signatures and key encipherment.
const KEY_USAGE: i64 = 5;

/// Whose identity it is.
struct Holder {
    /// What the identity is for.
    purpose: Purpose,
    enrollment: EnrollmentId,
    device: Option<DeviceId>,
    user: Option<UserId>,
    expires: Time,
    /// A Mac, whose keys leave the keychain unless the profile says otherwise.
    mac: bool,
    /// Another text makes the device ask for a new identity.
    generation: String,
}

/// The profile of a new enrolment.
pub(super) struct First {
    /// The document.
    pub(super) document: Vec<u8>,
    /// The challenge in it, whose row goes into the caller's transaction.
    pub(super) challenge: Challenge,
    /// What it says of the management.
    pub(super) management: Mdm,
}

/// Makes the profile of a new enrolment; by account: with its mode and the Managed Apple Account.
pub(super) async fn first(
    app: &App,
    id: &EnrollmentId,
    user: Option<UserId>,
    platform: Platform,
    account: Option<(Mode, String)>,
    expires: Time,
) -> Result<First> {
    let mac = platform == Platform::MacOs;
    let holder =
        Holder { purpose: Purpose::MdmIdentity, enrollment: id.clone(), device: None, user, expires, mac, generation: id.to_string() };
    let management = management(app, topic(app).await?, account, ade::gives_account_tokens(app).await?);
    let (profile, challenge) = make(app, holder, &management).await?;
    Ok(First { document: profile.encode(), challenge, management })
}

/// The profile of the identity with which a device shows itself once, in over-the-air enrolment.
pub(super) async fn introduction(app: &App, session: &Session) -> Result<(Vec<u8>, Challenge)> {
    let holder = Holder {
        purpose: Purpose::ProfileService,
        enrollment: session.id.clone(),
        device: None,
        user: session.user_id.clone(),
        expires: session.expires_at,
        mac: session.platform == Platform::MacOs,
        generation: session.id.to_string(),
    };
    let authority = authority::issuing(app).await?;
    let (secret, row) = challenge(app, &authority, &holder).await?;
    let mut parts = certificates(&authority);
    parts.push(identity(app, &authority, &holder, &secret));
    let names = names(app).await?;
    Ok((names.assemble(&format!("{}.introduction", names.prefix()), &about(app), parts).encode(), row))
}

/// A profile that gives a device a new identity, to be installed in the place of the enrolment profile.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The signed profile, for `InstallProfile`.
    pub profile: Vec<u8>,
    /// The row of the challenge in it: goes into the transaction that delivers the command.
    pub challenge: Challenge,
}

/// Makes the profile that renews the identity of an enrolment: everything in it but the identity is as it was, whatever is configured now,
/// because a device refuses a profile that says something else. The certificate before it stays good until the new one is used for the
/// first time.
///
/// # Errors
/// [`Error::Unavailable`] without authority; [`Refusal::EnrollmentUpdateRefused`](crate::domain::Refusal::EnrollmentUpdateRefused).
pub async fn renewal_profile(app: &App, enrollment: &Enrollment, topic: &str) -> Result<Renewal> {
    let (now, id) = (app.now(), enrollment.id.clone());
    let known = app.store.read(move |c| find_management(c, &id)).await?;
    let known = known.unwrap_or_else(|| management(app, topic.to_owned(), None, false));
    // The device's own word for the topic, which a restored database may not have.
    let next = update(&known, Mdm { topic: topic.to_owned(), ..known.clone() })?;
    let holder = Holder {
        purpose: Purpose::MdmIdentity,
        enrollment: enrollment.id.clone(),
        device: Some(enrollment.device_id.clone()),
        user: enrollment.user_id.clone(),
        expires: now.plus(i64::from(app.config.scep.challenge_minutes).saturating_mul(MINUTE)),
        mac: enrollment.platform == Platform::MacOs,
        generation: format!("{} {}", enrollment.id, now.0),
    };
    let (profile, challenge) = make(app, holder, &next).await?;
    Ok(Renewal { profile: sign(app, profile.encode()).await?, challenge })
}

async fn make(app: &App, holder: Holder, management: &Mdm) -> Result<(Profile, Challenge)> {
    let authority = authority::issuing(app).await?;
    let (secret, row) = challenge(app, &authority, &holder).await?;
    let names = names(app).await?;
    let identifier = names.enrollment();
    let mut parts = certificates(&authority);
    parts.push(identity(app, &authority, &holder, &secret));
    let payload = Mdm { identity: names.payload_uuid(&identifier, "identity", &holder.generation), ..management.clone() };
    let body = plist::to_value(&payload)?.into_dict(MDM)?;
    parts.push(Part { kind: MDM.into(), name: "mdm".into(), generation: String::new(), body });
    Ok((names.assemble(&identifier, &about(app), parts), row))
}

/// The challenge for an identity: its text, and its row.
async fn challenge(app: &App, authority: &Authority, holder: &Holder) -> Result<(String, Challenge)> {
    // An introduction is over in minutes.
    let days = if holder.purpose == Purpose::ProfileService { 1 } else { app.config.apple.identity_days };
    let mut grant = Grant::client(holder.purpose, holder.enrollment.as_str(), days);
    grant.subject.push(Rdn::new(AttributeType::OrganizationalUnit, UNIT));
    let challenge = NewChallenge {
        authority: authority.id.clone(),
        grant,
        device: holder.device.clone(),
        user: holder.user.clone(),
        enrollment: Some(holder.enrollment.clone()),
        profile: None,
        needs_approval: false,
        expires: Some(holder.expires),
    };
    let minted = scep_challenge::prepare(app, challenge).await?;
    let secret = std::str::from_utf8(minted.text.expose()).map_err(Error::internal)?.to_owned();
    Ok((secret, minted.row))
}

/// What people are told.
fn about(app: &App) -> About {
    let organisation = app.config.organisation.as_str();
    About {
        display_name: format!("Management by {organisation}"),
        description: format!("{organisation} manages this device."),
        organization: organisation.to_owned(),
        scope: None,
    }
}

/// The root, and what stands between it and the identity.
fn certificates(authority: &Authority) -> Vec<Part> {
    let last = authority.chain.len().saturating_sub(1);
    let part = |(at, der): (usize, &Vec<u8>)| Part {
        kind: if at == last { "com.apple.security.root" } else { "com.apple.security.pkcs1" }.to_owned(),
        name: if at == last { "root".to_owned() } else { format!("intermediate{at}") },
        generation: String::new(),
        body: Dict::new().with("PayloadContent", Data(der.clone())),
    };
    authority.chain.iter().enumerate().rev().map(part).collect()
}

fn identity(app: &App, authority: &Authority, holder: &Holder, challenge: &str) -> Part {
    let rdn = |name: &str, value: &str| Value::Array(vec![Value::Array(vec![Value::from(name), Value::from(value)])]);
    let mut content = Dict::new()
        .with("URL", format!("{}/scep/{}", app.config.web_url(), authority.name).as_str())
        .with("Name", authority.name.as_str())
        .with("Subject", Value::Array(vec![rdn("CN", holder.enrollment.as_str()), rdn("OU", UNIT)]))
        .with("Challenge", challenge)
        .with("Key Type", "RSA")
        .with("Keysize", 2048)
        .with("Key Usage", KEY_USAGE)
        .with("Retries", 3)
        .with("RetryDelay", 10);
    // Only Macs know the key; without it the private key may be exported there.
    if holder.mac {
        content.insert("KeyIsExtractable", false);
    }
    Part {
        kind: "com.apple.security.scep".into(),
        name: "identity".into(),
        generation: holder.generation.clone(),
        body: Dict::new().with("PayloadContent", content),
    }
}

/// What a profile made now says of the management, `tokens`: that the server gives account tokens; the identity is put in when the profile is made.
fn management(app: &App, topic: String, account: Option<(Mode, String)>, tokens: bool) -> Mdm {
    let (mode, account) = account.unzip();
    let user = mode == Some(Mode::User);
    // A user's own Mac has no bootstrap token to give.
    let mut capabilities = if user { Vec::new() } else { vec![BOOTSTRAP_TOKEN.to_owned()] };
    if app.config.apple.user_channels {
        capabilities.push(PER_USER.to_owned());
    }
    let base = super::base(&app.config);
    if tokens {
        capabilities.push(TOKEN.to_owned());
    }
    Mdm {
        topic,
        server_url: format!("{base}{}", super::COMMANDS_PATH),
        check_in_url: Some(format!("{base}{}", super::CHECK_IN_PATH)),
        sign_message: app.config.apple.sign_messages,
        // A device does not take a user enrolment that asks for rights.
        access_rights: (!user).then_some(access::ALL),
        check_out_when_removed: true,
        server_capabilities: capabilities,
        enrollment_mode: mode,
        account,
        ..Mdm::default()
    }
}

/// Signs a profile with the registration authority's key, which is RSA on every server.
///
/// # Errors
/// [`Error::Unavailable`] without a registration certificate.
pub async fn sign(app: &App, document: Vec<u8>) -> Result<Vec<u8>> {
    let authority = authority::issuing(app).await?;
    let key = std::sync::Arc::clone(authority.service_key(Purpose::Registration, app.now())?);
    let signing = move || {
        let signer = Signer { certificate: &key.certificate, key: key.key.pkey(), digest: Digest::Sha256 };
        // Whoever checks the signature has the root, and nothing between it and the signer.
        let above: Vec<&[u8]> = authority.chain.split_last().map_or(&[][..], |(_, above)| above).iter().map(Vec::as_slice).collect();
        cms::sign_with_chain(&document, &signer, &above)
    };
    Ok(tokio::task::spawn_blocking(signing).await.map_err(Error::internal)??)
}
