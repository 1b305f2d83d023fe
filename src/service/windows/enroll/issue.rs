//! A first certificate: judges the request, issues, and commits device, enrolment, certificate and audit rows before it answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::{MessageDigest, hash};

use super::super::terms;
use super::authenticate::{Authenticated, Method};
use super::{Caller, MANAGEMENT_PATH, csr, renew};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::certificate::{AttributeType, Certificate, Grant, Purpose, Rdn, RevocationReason};
use crate::domain::compliance::Rules;
use crate::domain::device::{Device, Platform, State as DeviceState};
use crate::domain::enrollment::{Enrollment, Kind, State};
use crate::domain::signal::Initiator;
use crate::ids::{DeviceId, EnrollmentId};
use crate::secret::{Sealer, random};
use crate::service::device::hardware::{self, Claim};
use crate::service::pki::authority::{self, Authority};
use crate::service::pki::issue as pki;
use crate::service::{Error, Result, compliance, device, restriction};
use crate::store::sealed::ENROLLMENT_MD5;
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, Tx, audit, certificates, desired_items, devices, enrollments, facts, users};
use crate::wire::Malformed;
use crate::wire::mde::wstep::{Csr, RequestToken};
use crate::wire::provisioning::{Credential, Document, Management, Poll, PollSet, Renewal, Store as CertificateStore};

/// Longest device id and hardware id.
const LONGEST_ID: usize = 256;
/// Longest other text that becomes a column.
const LONGEST_TEXT: usize = 256;
/// Most devices with the same hardware id that are looked at.
const MANY: i64 = 1000;
/// How often an enrolment is judged again when the same device was enrolled meanwhile.
const TRIES: usize = 3;
/// Days between two tries of a renewal.
const RETRY_DAYS: u32 = 4;

/// Enrols a device.
pub(super) async fn issue(app: &App, request: &RequestToken, who: Authenticated, caller: &Caller) -> Result<Vec<u8>> {
    if app.config.windows.maintenance {
        return Err(Refusal::EnrollmentMaintenance.into());
    }
    let seen = Seen::read(request)?;
    restriction::check(app, Platform::Windows, seen.os_version.as_deref(), seen.serial_number.as_deref()).await?;
    if let Method::Entra(claims) = &who.method
        && let Some(blob) = request.item("EnrollmentData").filter(|blob| *blob != "null")
    {
        terms::check(app, blob, claims).await?;
    }
    let Csr::Pkcs10(csr) = &request.csr else {
        return Err(Malformed::new("a first request is PKCS10", "BinarySecurityToken/@ValueType").into());
    };
    let key = csr::public_key(csr.clone()).await?;
    for _ in 1..TRIES {
        match attempt(app, request, &seen, &key, &who, caller).await {
            // The same hardware enrolled meanwhile: what is known of it has changed.
            Err(Error::Conflict(_)) => {}
            other => return other,
        }
    }
    attempt(app, request, &seen, &key, &who, caller).await
}

/// Enrols with what is known of the hardware now.
///
/// # Errors
/// [`Error::Conflict`] when it is known otherwise by the time it is written.
async fn attempt(app: &App, request: &RequestToken, seen: &Seen, key: &[u8], who: &Authenticated, caller: &Caller) -> Result<Vec<u8>> {
    let (hardware_id, entra_device_id) = (seen.hardware_id.clone(), who.method.entra_device_id().map(str::to_owned));
    let known = app
        .store
        .read(move |c| devices::list_same_hardware(c, Platform::Windows, hardware_id.as_deref(), entra_device_id.as_deref(), MANY))
        .await?;
    let holds = match caller.certificate {
        Some(_) if !known.is_empty() => renew::identify(app, caller).await.ok().map(|identity| identity.enrollment.device_id),
        _ => None,
    };
    let proof = hardware::Proof { user: Some(&who.user.id), holds: holds.as_ref(), entra_device_id: who.method.entra_device_id() };
    let claim = hardware::judge(known, seen.hardware_id.as_deref(), &proof);
    let plan = Plan::new(app, who, seen.clone(), claim, request, caller);
    let authority = authority::issuing(app).await?;
    let issued = pki::prepare(app, &authority.id, &plan.grant(), key).await?;
    let digest = Digest::make(app, &plan.device.id)?;
    let document = document(app, &authority, &plan, &issued.der, &digest)?;
    plan.commit(app, issued.certificate, digest.sealed, who.clone()).await?;
    Ok(document.encode())
}

/// What the device says of itself, as far as we use it.
#[derive(Clone, Debug)]
struct Seen {
    mdm_id: String,
    kind: Kind,
    hardware_id: Option<String>,
    name: Option<String>,
    os_version: Option<String>,
    os_edition: Option<String>,
    serial_number: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
}

impl Seen {
    fn read(request: &RequestToken) -> Result<Self> {
        let text = |name: &str| request.item(name).map(|text| text.chars().take(LONGEST_TEXT).collect::<String>());
        let id = request.item("DeviceID").ok_or_else(|| Malformed::new("missing", "ContextItem DeviceID"))?;
        let hardware_id = request.item("HWDevID");
        if id.len() > LONGEST_ID || hardware_id.is_some_and(|id| id.len() > LONGEST_ID) {
            return Err(Malformed::new("too long", "ContextItem").into());
        }
        let kind = match request.item("EnrollmentType") {
            Some("Device") => Kind::Device,
            _ => Kind::Full,
        };
        Ok(Self {
            mdm_id: id.to_owned(),
            kind,
            hardware_id: hardware_id.map(str::to_ascii_lowercase),
            name: text("DeviceName"),
            os_version: text("OSVersion").or_else(|| text("ApplicationVersion")),
            os_edition: text("OSEdition"),
            serial_number: text("SerialNumber"),
            manufacturer: text("Manufacturer"),
            model: text("DeviceModel"),
        })
    }
}

/// Everything that will be written.
#[derive(Clone)]
struct Plan {
    device: Device,
    is_new: bool,
    /// Devices that were this hardware, and are not any more.
    left: Vec<Device>,
    /// Devices that say they are this hardware, too: nobody has proven that they are the same.
    contested: Vec<Device>,
    enrollment: Enrollment,
    identity_days: u32,
    cap: i64,
    upn: String,
    origin: String,
    now: Time,
}

impl Plan {
    fn new(app: &App, who: &Authenticated, seen: Seen, claim: Claim, request: &RequestToken, caller: &Caller) -> Self {
        let now = app.now();
        let Claim { own, left, contested } = claim;
        let is_new = own.is_none();
        let entra_device_id = who.method.entra_device_id().map(str::to_owned);
        let old = own.unwrap_or_else(|| Device {
            id: DeviceId::new(),
            display_name: String::new(),
            platform: Platform::Windows,
            user_id: None,
            hardware_id: None,
            entra_device_id: None,
            serial_number: None,
            manufacturer: None,
            model: None,
            os_version: None,
            os_edition: None,
            state: DeviceState::Managed,
        });
        let device = Device {
            display_name: seen.name.unwrap_or_else(|| seen.mdm_id.clone()),
            user_id: Some(who.user.id.clone()),
            hardware_id: seen.hardware_id.or(old.hardware_id),
            entra_device_id: entra_device_id.or(old.entra_device_id),
            serial_number: seen.serial_number.or(old.serial_number),
            manufacturer: seen.manufacturer.or(old.manufacturer),
            model: seen.model.or(old.model),
            os_version: seen.os_version.or(old.os_version),
            os_edition: seen.os_edition.or(old.os_edition),
            state: DeviceState::Managed,
            ..old
        };
        let enrollment = Enrollment {
            id: EnrollmentId::new(),
            device_id: device.id.clone(),
            platform: Platform::Windows,
            kind: seen.kind,
            state: State::Provisioned,
            mdm_id: seen.mdm_id,
            provider_id: Some(app.config.windows.provider_id.clone()),
            user_id: Some(who.user.id.clone()),
            context: serde_json::json!(request.multimap()).to_string(),
            channel_uri: None,
            certificate_id: None,
            work_at: Some(now),
            waiting_since: None,
            last_seen_at: None,
            enrolled_at: now,
            ended_at: None,
            version: 1,
        };
        Self {
            device,
            is_new,
            left,
            contested,
            enrollment,
            identity_days: app.config.windows.identity_days,
            cap: i64::from(app.config.windows.devices_per_user),
            upn: who.user.upn.clone(),
            origin: caller.origin(),
            now,
        }
    }

    fn grant(&self) -> Grant {
        identity_grant(&self.device.id, self.provider(), self.identity_days, &self.enrollment)
    }

    /// The server's name in the device's tree.
    fn provider(&self) -> &str {
        self.enrollment.provider_id.as_deref().unwrap_or_default()
    }

    /// The row first, then the answer: one transaction for all of it.
    async fn commit(self, app: &App, certificate: Certificate, digest: Vec<u8>, who: Authenticated) -> Result<()> {
        let mut enrollment = self.enrollment.clone();
        enrollment.certificate_id = Some(certificate.id.clone());
        let entry = self.entry(&enrollment, &certificate, &who);
        let issued = pki::audit(&certificate, &format!("user:{}", who.user.id), &self.origin);
        let (now, rules, sealer) = (self.now, compliance::rules(&app.config), app.sealer());
        hardware::warn(&self.device, &self.contested);
        app.store
            .write(move |tx| {
                take_turn(tx, Turn::Device)?;
                who.method.burn(tx, now)?;
                self.put_device(tx, &who, &sealer, rules)?;
                enrollments::insert_enrollment(tx, &enrollment)?;
                certificates::insert_certificate(tx, &certificate, now)?;
                enrollments::update_digest(tx, &enrollment.id, &digest)?;
                desired_items::update_as_new(tx, &self.device.id, now)?;
                desired_items::recompute_device(tx, &self.device.id, now)?;
                facts::update_all_due(tx, &self.device.id, now)?;
                compliance::enrolled_in(tx, &self.device.id, rules, now)?;
                audit::append(tx, &issued, now)?;
                for alert in hardware::alerts(&self.device, &self.contested, &self.origin) {
                    audit::append(tx, &alert, now)?;
                }
                audit::append(tx, &entry, now)
            })
            .await?;
        app.outbox.notify_waiters();
        Ok(())
    }

    fn put_device(&self, tx: &mut Tx<'_>, who: &Authenticated, sealer: &Sealer, rules: Rules) -> store::Result<()> {
        let now = self.now;
        // Locked, so that two devices at once are counted one after the other, and nobody is disabled in between.
        if !users::lock_user(tx, &who.user.id)?.enabled {
            return Err(Refusal::AccountDisabled.into());
        }
        let actor = format!("user:{}", who.user.id);
        for left in &self.left {
            if let Some(old) = enrollments::find_current_enrollment(tx.conn(), &left.id)? {
                device::end_in(tx, sealer, &old, RevocationReason::Superseded, &actor, &self.origin, now)?;
            }
            let gone = Device { hardware_id: None, entra_device_id: None, state: DeviceState::Retired, ..left.clone() };
            devices::update_device(tx, &gone, now)?;
            desired_items::recompute_device(tx, &left.id, now)?;
            compliance::retire_in(tx, &left.id, rules, Initiator::User, now)?;
        }
        if self.cap > 0 && devices::count_devices_of_user(tx.conn(), &who.user.id, Some(&self.device.id))? >= self.cap {
            return Err(Refusal::DeviceCapReached.into());
        }
        if self.is_new {
            return devices::insert_device(tx, &self.device, now);
        }
        if let Some(old) = enrollments::find_current_enrollment(tx.conn(), &self.device.id)? {
            device::end_in(tx, sealer, &old, RevocationReason::Superseded, &actor, &self.origin, now)?;
        }
        devices::update_device(tx, &self.device, now)
    }

    fn entry(&self, enrollment: &Enrollment, certificate: &Certificate, who: &Authenticated) -> Entry {
        let state = serde_json::json!({
            "device": self.device.id, "name": self.device.display_name, "user": who.user.id, "method": who.method.as_str(),
            "kind": enrollment.kind, "mdm_id": enrollment.mdm_id, "hardware_id": self.device.hardware_id,
            "os_version": self.device.os_version, "certificate": certificate.id, "again": !self.is_new,
            "took_over_from": self.left.iter().map(|left| &left.id).collect::<Vec<_>>(),
            "same_hardware_as": self.contested.iter().map(|other| &other.id).collect::<Vec<_>>(),
        });
        Entry::new(format!("user:{}", who.user.id), "enrollment.create", format!("enrollment:{}", enrollment.id), &self.origin)
            .after(&state)
    }
}

/// What the identity certificate of a device may be.
pub(super) fn identity_grant(device: &DeviceId, provider_id: &str, days: u32, enrollment: &Enrollment) -> Grant {
    let mut grant = Grant::client(Purpose::MdmIdentity, device.as_str(), days);
    grant.subject.push(Rdn::new(AttributeType::OrganizationalUnit, provider_id));
    grant.device_id = Some(device.clone());
    grant.user_id.clone_from(&enrollment.user_id);
    grant.enrollment_id = Some(enrollment.id.clone());
    grant
}

/// Where the certificate of an enrolment goes.
pub(super) fn certificate_store(kind: Kind) -> CertificateStore {
    match kind {
        Kind::Full => CertificateStore::User,
        Kind::Device => CertificateStore::System,
    }
}

/// Root and issuing certificate, as the document carries them: none twice when the root issues.
pub(super) fn trust(authority: &Authority) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let root = authority.chain.last().cloned();
    let intermediate = (authority.chain.len() > 1).then(|| authority.certificate.clone());
    (root, intermediate)
}

/// The secrets of MD5 authentication (OMA-DM 1.2 security): the device keeps the clear ones, we keep the digest.
struct Digest {
    server: Credential,
    client: Credential,
    sealed: Vec<u8>,
}

impl Digest {
    fn make(app: &App, device: &DeviceId) -> Result<Self> {
        let secret = || random::<24>().map(|bytes| STANDARD.encode(bytes));
        let client = Credential { name: Some(device.to_string()), secret: secret()?, nonce: random::<16>()?.to_vec() };
        let server = Credential { name: None, secret: secret()?, nonce: random::<16>()?.to_vec() };
        let md5 = hash(MessageDigest::md5(), format!("{device}:{}", client.secret).as_bytes())?;
        let sealed = app.sealer().seal(ENROLLMENT_MD5, &md5)?;
        Ok(Self { server, client, sealed })
    }
}

fn document(app: &App, authority: &Authority, plan: &Plan, certificate: &[u8], digest: &Digest) -> Result<Document> {
    let windows = &app.config.windows;
    let (root, intermediate) = trust(authority);
    let push = Some(windows.wns.package_family_name.clone()).filter(|name| !name.is_empty());
    let set = |retries, interval_minutes| PollSet { retries, interval_minutes };
    let subject = vec![("CN".to_owned(), plan.device.id.to_string()), ("OU".to_owned(), plan.provider().to_owned())];
    Ok(Document {
        root,
        intermediate,
        certificate: certificate.to_vec(),
        store: certificate_store(plan.enrollment.kind),
        provider_id: plan.provider().to_owned(),
        management: Some(Management {
            name: app.config.organisation.clone(),
            address: format!("{}{MANAGEMENT_PATH}", app.config.device_url()),
            subject,
            server: digest.server.clone(),
            client: digest.client.clone(),
            upn: Some(plan.upn.clone()),
            device_name: Some(plan.device.display_name.clone()),
            entity_id: plan.device.id.to_string(),
            sign_messages: windows.sign_messages,
            push_package: push,
            poll: Poll { first: set(5, 3), second: set(8, 15), remaining: set(0, windows.poll_minutes), on_login: true },
            renewal: Renewal { period_days: windows.renewal_days, retry_days: RETRY_DAYS },
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mde::wstep::RequestType;

    fn seen(items: &[(&str, &str)]) -> Result<Seen> {
        let context = items.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Seen::read(&RequestToken { request_type: RequestType::Issue, csr: Csr::Pkcs10(Vec::new()), context })
    }

    #[test]
    fn only_the_device_id_must_be_there() {
        assert!(matches!(seen(&[]), Err(Error::Malformed(_))));
        assert!(seen(&[("DeviceID", &"x".repeat(300))]).is_err());
        let seen = seen(&[("DeviceID", "d"), ("EnrollmentType", "Device"), ("HWDevID", "AB")]).unwrap();
        assert_eq!((seen.kind, seen.hardware_id.as_deref()), (Kind::Device, Some("ab")));
    }
}
