//! `Authenticate`: what begins with a profile becomes an enrolment, or not.

use std::sync::Arc;

use serde_json::json;

use crate::app::App;
use crate::clock::Time;
use crate::config::Config;
use crate::domain::Refusal;
use crate::domain::apple::enrollment::{Decision, Live, Session as Known, authenticate as decide, platform};
use crate::domain::audit::Entry;
use crate::domain::certificate::{Certificate, RevocationReason};
use crate::domain::compliance::Rules;
use crate::domain::device::{Device, Platform, State as DeviceState};
use crate::domain::enrollment::{Enrollment, Kind, State};
use crate::domain::signal::Initiator;
use crate::ids::DeviceId;
use crate::secret::Sealer;
use crate::service::apple::identity::Speaker;
use crate::service::device::hardware;
use crate::service::{Result, compliance, device, restriction};
use crate::store::apple::management;
use crate::store::apple::sessions::{self, Session};
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, Tx, audit, certificates, desired_items, devices, enrollments, facts};
use crate::wire::apple::Channel;
use crate::wire::apple::checkin::Authenticate;

/// Longest text of a device that is kept.
const LONGEST_TEXT: usize = 256;
/// Most devices with the same hardware id that are looked at.
const MANY: i64 = 1000;

/// Judges a device that asks to be managed.
///
/// # Errors
/// [`Refusal::ManagementSourceMismatch`], [`Refusal::EnrollmentModeForeign`], [`Refusal::DeviceOfAnother`], [`Refusal::EnrollmentSessionOver`],
/// [`Refusal::DeviceKindUnsupported`], [`Refusal::CertificateExpired`], and those of [`restriction::check_in`].
pub(in crate::service::apple) async fn authenticate(
    app: &App,
    speaker: &Speaker,
    speaking: &Channel,
    request: &Authenticate,
    origin: &str,
) -> Result<()> {
    match speaker {
        Speaker::Enrolled(identity) => {
            let enrollment = &identity.enrollment;
            let known = Known {
                user: enrollment.user_id.clone(),
                renews: Some(enrollment.id.clone()),
                bound_to: Some(enrollment.mdm_id.clone()),
                ..Known::default()
            };
            let same_certificate = enrollment.certificate_id.as_ref() == Some(&identity.certificate.id);
            let (user, user_enrollment) = (enrollment.user_id.clone(), enrollment.is_user_enrollment());
            let live = Live { id: enrollment.id.clone(), user, user_enrollment, same_certificate };
            // The device may yet fail to take its new profile, and then comes with the identity before it: a renewed one takes over with
            // what follows, its `TokenUpdate`.
            decide(&speaking.device, request.serial_number.as_deref(), &known, Some(&live))?;
            Ok(())
        }
        Speaker::Expired(_) => Err(Refusal::CertificateExpired.into()),
        Speaker::Begun(certificate) => {
            // Whatever else such a device may say: the hardware of a user's own device is nobody's business.
            let hidden = speaking.device.is_user_enrollment();
            let begun = Begun {
                certificate: (**certificate).clone(),
                speaking: speaking.clone(),
                request: if hidden { request.clone().without_hardware() } else { request.clone() }.cut(LONGEST_TEXT),
                config: Arc::clone(&app.config),
                sealer: app.sealer(),
                rules: compliance::rules(&app.config),
                origin: origin.to_owned(),
                now: app.now(),
            };
            app.store.write(move |tx| begun.carry_out(tx)).await?;
            app.outbox.notify_waiters();
            Ok(())
        }
    }
}

/// The first message of an identity.
struct Begun {
    certificate: Certificate,
    speaking: Channel,
    request: Authenticate,
    config: Arc<Config>,
    sealer: Arc<Sealer>,
    rules: Rules,
    origin: String,
    now: Time,
}

impl Begun {
    fn carry_out(&self, tx: &mut Tx<'_>) -> store::Result<()> {
        take_turn(tx, Turn::Device)?;
        let now = self.now;
        // Before anything is used up.
        let platform = platform(self.request.product_name.as_deref().unwrap_or_default())?;
        let key = &self.speaking.device;
        let over = || store::Error::from(Refusal::EnrollmentSessionOver);
        let id = self.certificate.grant.enrollment_id.clone().ok_or_else(over)?;
        let session = sessions::find_session(tx.conn(), &id)?.ok_or_else(over)?;
        let (os_version, serial) = (self.request.os_version.as_deref(), self.request.serial_number.as_deref());
        restriction::check_in(tx.conn(), &self.config, platform.unwrap_or(session.platform), os_version, serial)?;
        let live = enrollments::find_live_apple(tx.conn(), key.as_str())?;
        let known = Known {
            user: session.user_id.clone(),
            udid: session.udid.clone(),
            serial: session.serial.clone(),
            mode: session.management.as_ref().and_then(|mdm| mdm.enrollment_mode),
            ..Known::default()
        };
        let seen = live.as_ref().map(|live| Live {
            id: live.id.clone(),
            user: live.user_id.clone(),
            user_enrollment: live.is_user_enrollment(),
            same_certificate: false,
        });
        let decision = decide(key, serial, &known, seen.as_ref())?;
        if !sessions::claim_session(tx, &id, now)? {
            return Err(over());
        }
        let actor = session.user_id.as_ref().map_or_else(|| "device:new".to_owned(), |user| format!("user:{user}"));
        if let (Decision::Replaced(_), Some(old)) = (&decision, &live) {
            device::end_in(tx, &self.sealer, old, RevocationReason::Superseded, &actor, &self.origin, now)?;
        }
        let (device, again) = self.put_device(tx, &session, platform, live.as_ref(), &actor)?;
        let enrollment = self.enrollment(&session, &device);
        enrollments::insert_enrollment(tx, &enrollment)?;
        if let Some(mdm) = &session.management {
            management::insert_management(tx, &enrollment.id, mdm)?;
        }
        certificates::update_device(tx, &self.certificate.id, &device.id)?;
        desired_items::update_as_new(tx, &device.id, now)?;
        desired_items::recompute_device(tx, &device.id, now)?;
        facts::update_all_due(tx, &device.id, now)?;
        let state = json!({
            "device": device.id, "name": device.display_name, "user": session.user_id, "method": session.method, "kind": enrollment.kind,
            "mdm_id": enrollment.mdm_id, "serial_number": device.serial_number, "os_version": device.os_version,
            "certificate": self.certificate.id, "again": again, "replaces": live.map(|live| live.id),
        });
        let entry = Entry::new(actor, "enrollment.create", format!("enrollment:{id}"), &self.origin).after(&state);
        audit::append(tx, &entry, now)
    }

    fn enrollment(&self, session: &Session, device: &Device) -> Enrollment {
        let key = &self.speaking.device;
        Enrollment {
            id: session.id.clone(),
            device_id: device.id.clone(),
            platform: device.platform,
            kind: if key.is_user_enrollment() { Kind::Full } else { Kind::Device },
            state: State::Provisioned,
            mdm_id: key.as_str().to_owned(),
            provider_id: None,
            user_id: session.user_id.clone(),
            context: serde_json::to_string(&self.request).unwrap_or_default(),
            channel_uri: None,
            certificate_id: Some(self.certificate.id.clone()),
            work_at: None,
            waiting_since: None,
            last_seen_at: Some(self.now),
            enrolled_at: self.now,
            ended_at: None,
            version: 1,
        }
    }

    /// The device's row: the user's own again, or a new one. Of others with its hardware only those end that are proven to be it. A device
    /// that hides its hardware is known again by the enrolment that it replaces, `live`, and by nothing else.
    fn put_device(
        &self,
        tx: &mut Tx<'_>,
        session: &Session,
        platform: Option<Platform>,
        live: Option<&Enrollment>,
        actor: &str,
    ) -> store::Result<(Device, bool)> {
        let now = self.now;
        let key = &self.speaking.device;
        let hardware_id = (!key.is_user_enrollment()).then(|| key.as_str().to_owned());
        let known = devices::list_same_hardware(tx.conn(), session.platform, hardware_id.as_deref(), None, MANY)?;
        // Who got here with another's live enrolment under the identifier has proven that it is the same hardware.
        let holds = live.map(|live| &live.device_id);
        let proof = hardware::Proof { user: session.user_id.as_ref(), holds, entra_device_id: None };
        let claim = hardware::judge(known, hardware_id.as_deref(), &proof);
        for other in claim.left {
            if let Some(old) = enrollments::find_current_enrollment(tx.conn(), &other.id)? {
                device::end_in(tx, &self.sealer, &old, RevocationReason::Superseded, actor, &self.origin, now)?;
            }
            let gone = Device { hardware_id: None, state: DeviceState::Retired, ..other };
            devices::update_device(tx, &gone, now)?;
            desired_items::recompute_device(tx, &gone.id, now)?;
            compliance::retire_in(tx, &gone.id, self.rules, Initiator::User, now)?;
        }
        let own = match live.filter(|_| key.is_user_enrollment()) {
            Some(live) => Some(devices::load_device(tx.conn(), &live.device_id)?),
            None => claim.own,
        };
        if let Some(old) = &own
            && let Some(current) = enrollments::find_current_enrollment(tx.conn(), &old.id)?
        {
            device::end_in(tx, &self.sealer, &current, RevocationReason::Superseded, actor, &self.origin, now)?;
        }
        let again = own.is_some();
        let request = self.request.clone();
        let name = request.device_name.or(request.model_name).or_else(|| request.product_name.clone());
        let device = Device {
            id: own.as_ref().map_or_else(DeviceId::new, |own| own.id.clone()),
            display_name: name.unwrap_or_else(|| key.as_str().to_owned()),
            platform: platform.unwrap_or(session.platform),
            user_id: session.user_id.clone(),
            hardware_id,
            entra_device_id: own.and_then(|own| own.entra_device_id),
            serial_number: request.serial_number,
            manufacturer: Some("Apple".into()),
            model: request.product_name.or(request.model),
            os_version: request.os_version,
            os_edition: request.build_version,
            state: DeviceState::Managed,
        };
        if again {
            devices::update_device(tx, &device, now)?
        } else {
            devices::insert_device(tx, &device, now)?
        }
        hardware::warn(&device, &claim.contested);
        for alert in hardware::alerts(&device, &claim.contested, &self.origin) {
            audit::append(tx, &alert, now)?;
        }
        Ok((device, again))
    }
}
