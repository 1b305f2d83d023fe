//! Whether the user of a device can sign in without a password there.

use crate::app::App;
use crate::clock::Time;
use crate::domain::device::State;
use crate::domain::readiness::{Known, Person, Report};
use crate::domain::{passkey, tap};
use crate::ids::{DeviceId, UserId};
use crate::service::Result;
use crate::service::identity::policy::{PASSKEY, TAP};
use crate::store::{self, Conn, compliance, desired_items, devices, facts, method_policies, passkeys, taps, users};

/// The fact by which a PC tells of its TPM.
const TPM: &str = "device-status.tpm-specification-version";
/// How many passes of a person are looked at.
const PASSES: i64 = 100;

/// How each method stands at a device.
///
/// # Errors
/// [`crate::service::Error::NotFound`].
pub async fn readiness(app: &App, id: &DeviceId) -> Result<Vec<Report>> {
    let (id, sealer, now) = (id.clone(), app.sealer(), app.now());
    let report = app.store.read(move |conn| {
        let device = devices::load_device(conn, &id)?;
        let enrolling = compliance::load_subject(conn, &id)?.enrolling;
        let items = desired_items::list_for_device(conn, &sealer, &id)?;
        let tpm = facts::list_for_device(conn, &id)?.remove(TPM).and_then(|fact| fact.value);
        let keys: passkey::Policy = method_policies::load_policy(conn, PASSKEY)?;
        let passes: tap::Rules = method_policies::load_policy(conn, TAP)?;
        let known = Known {
            platform: device.platform,
            os_version: device.os_version.as_deref(),
            managed: device.state == State::Managed && !enrolling,
            has_tpm: tpm.is_some_and(|said| said.starts_with(|c: char| c.is_ascii_digit())),
            profiles: items.iter().filter_map(|loaded| Some((loaded.name.as_str(), loaded.desired.as_ref()?, loaded.item.state))).collect(),
            person: device.user_id.as_ref().map(|user| person(conn, user, now)).transpose()?,
            passkeys: &keys,
            passes: &passes,
        };
        Ok(known.report())
    });
    Ok(report.await?)
}

fn person(conn: &mut Conn, id: &UserId, now: Time) -> store::Result<Person> {
    let user = users::load_user(conn, id)?;
    let passes = taps::list_taps(conn, id, now, PASSES)?;
    Ok(Person {
        enabled: user.enabled,
        passkeys: passkeys::list_passkeys(conn, id)?.into_iter().map(|key| key.aa_guid).collect(),
        has_pass: passes.iter().any(|pass| pass.starts_at <= now),
    })
}
