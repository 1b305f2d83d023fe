//! Enrolled devices that never call: what a database looks like in which many others are.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use crate::app::App;
use crate::catalogue::catalogue;
use crate::clock::{DAY, SystemClock, Time};
use crate::config::Config;
use crate::domain::certificate::{Certificate, CertificateStatus, Grant, Purpose};
use crate::domain::device::{Device, Platform, State as DeviceState};
use crate::domain::enrollment::{Enrollment, Kind, State};
use crate::domain::fact::Fact;
use crate::domain::user::{Details, User};
use crate::ids::{AuthorityId, CertificateId, DeviceId, EnrollmentId, UserId};
use crate::secret::random;
use crate::service::pki::authority;
use crate::store::apple::channels::{self, Channel, DEVICE};
use crate::store::{self, Tx, certificates, desired_items, devices, enrollments, facts, users};

/// Devices per transaction: what a transaction may take back is kept in a list that grows with it, and is walked at each statement.
const BATCH: usize = 25;
/// Octets of a certificate like those of our own CA.
const CERTIFICATE: usize = 900;

/// Puts `count` devices into the instance in `folder`, which nobody serves: user, device, enrolment, certificate, command channel (Apple), facts, and an item
/// of each profile that is assigned to all.
pub(super) async fn fill(folder: PathBuf, count: usize, platform: Platform) -> anyhow::Result<()> {
    let config = Config { data_dir: folder, ..Config::default() };
    let app = Arc::new(App::open(config, Arc::new(SystemClock)).await.context("the throw-away instance")?);
    let authority = authority::issuing(&app).await?.id.clone();
    for first in (0..count).step_by(BATCH) {
        let now = app.now();
        let batch = (first..count.min(first + BATCH))
            .map(|number| Resident::new(number, platform, &authority, now))
            .collect::<anyhow::Result<Vec<_>>>()?;
        app.store.write(move |tx| batch.iter().try_for_each(|resident| resident.insert(tx, now))).await?;
    }
    Ok(())
}

/// One device with all that belongs to it.
struct Resident {
    user: User,
    device: Device,
    enrollment: Enrollment,
    certificate: Certificate,
    /// Of an Apple device: the channel on which it gets commands.
    channel: Option<Channel>,
    facts: Vec<Fact>,
}

impl Resident {
    fn new(number: usize, platform: Platform, authority: &AuthorityId, now: Time) -> anyhow::Result<Self> {
        let upn = format!("resident-{number:07}@example.org");
        let user = User {
            id: UserId::new(),
            display_name: upn.clone(),
            mail: None,
            upn,
            sam_account_name: None,
            security_identifier: None,
            distinguished_name: None,
            enabled: true,
            details: Details::default(),
        };
        let device = Device {
            id: DeviceId::new(),
            display_name: format!("RESIDENT-{number:07}"),
            platform,
            user_id: Some(user.id.clone()),
            hardware_id: Some(hex::encode(openssl::sha::sha256(format!("resident {number}").as_bytes()))),
            entra_device_id: None,
            serial_number: Some(format!("RES-{number:07}")),
            manufacturer: Some("Simulated".into()),
            model: Some("Virtual".into()),
            os_version: Some(if platform.is_apple() { "18.5" } else { "10.0.26100.4349" }.into()),
            os_edition: (!platform.is_apple()).then(|| "4".into()),
            state: DeviceState::Managed,
        };
        let (enrollment_id, certificate_id) = (EnrollmentId::new(), CertificateId::new());
        let der = random::<CERTIFICATE>()?.to_vec();
        let mut grant = Grant::client(Purpose::MdmIdentity, device.id.as_str(), 365);
        (grant.device_id, grant.user_id, grant.enrollment_id) =
            (Some(device.id.clone()), Some(user.id.clone()), Some(enrollment_id.clone()));
        let certificate = Certificate {
            id: certificate_id.clone(),
            authority_id: authority.clone(),
            serial: hex::encode(random::<16>()?),
            sha1: hex::encode(openssl::sha::sha1(&der)),
            sha256: hex::encode(openssl::sha::sha256(&der)),
            subject: format!("CN={}", device.id),
            status: CertificateStatus::Active,
            not_before: now,
            not_after: now.plus(365 * DAY),
            revoked_at: None,
            revocation_reason: None,
            superseded_by: None,
            grant,
            der,
            created_at: now,
        };
        let enrollment = Enrollment {
            id: enrollment_id,
            device_id: device.id.clone(),
            platform,
            kind: if platform.is_apple() { Kind::Device } else { Kind::Full },
            state: State::Active,
            mdm_id: device.id.as_str().replace('-', "").to_uppercase(),
            provider_id: None,
            user_id: Some(user.id.clone()),
            context: "{}".into(),
            channel_uri: None,
            certificate_id: Some(certificate_id),
            work_at: None,
            waiting_since: None,
            last_seen_at: Some(now),
            enrolled_at: now,
            ended_at: None,
            version: 1,
        };
        // Nobody can push it: it never calls, and waking it again and again would be measured with the others.
        let channel = platform.is_apple().then(|| Channel {
            token_updated_at: Some(now),
            last_seen_at: Some(now),
            ..Channel::new(enrollment.id.clone(), DEVICE, super::report::TOPIC)
        });
        let fact = |row: &crate::catalogue::FactRow| Fact {
            name: row.name.clone(),
            value: Some("1".into()),
            status: 200,
            source: row.uri.clone(),
            observed_at: now,
            next_at: Some(now.plus(DAY)),
        };
        let facts = catalogue().facts().filter(|row| row.is_of(platform.as_str())).map(fact).collect();
        Ok(Self { user, device, enrollment, certificate, channel, facts })
    }

    fn insert(&self, tx: &mut Tx<'_>, now: Time) -> store::Result<()> {
        users::insert_user(tx, &self.user, now)?;
        devices::insert_device(tx, &self.device, now)?;
        enrollments::insert_enrollment(tx, &self.enrollment)?;
        certificates::insert_certificate(tx, &self.certificate, now)?;
        self.channel.iter().try_for_each(|channel| channels::insert_channel(tx, channel))?;
        facts::upsert_facts(tx, &self.device.id, &self.facts)?;
        desired_items::recompute_device(tx, &self.device.id, now)
    }
}
