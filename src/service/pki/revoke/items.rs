//! What the profiles of a device hear of revoked certificates.

use serde_json::Value;

use crate::clock::Time;
use crate::domain::certificate::Certificate;
use crate::domain::desired::{self, Input, Record, Timing};
use crate::domain::enrollment::State;
use crate::ids::DeviceId;
use crate::service::desired::change_in;
use crate::store::{Result, Tx, enrollments};

/// Lets each profile whose certificate is among those revoked say so, and be looked at in the next session: then the device is asked to make
/// another key and request. A device that leaves or has left hears nothing. The caller holds the enrolment ([`enrollments::hold_current`]).
///
/// # Errors
/// [`Busy`](crate::store::Error::Busy) when somebody changed the enrolment meanwhile; else only the database's own.
pub(super) fn tell(tx: &mut Tx<'_>, device: &DeviceId, revoked: &[&Certificate], now: Time) -> Result<()> {
    let Some(enrollment) = enrollments::find_current_enrollment(tx.conn(), device)? else { return Ok(()) };
    if revoked.iter().all(|certificate| certificate.grant.profile_id.is_none())
        || !matches!(enrollment.state, State::Provisioned | State::Active)
    {
        return Ok(());
    }
    change_in(tx, &enrollment, now, |items| {
        let concerned: Vec<String> = items
            .iter()
            .flat_map(|item| &item.detail.records)
            .filter(|(key, record)| record.winner.is_none() && revoked.iter().any(|certificate| uses(key, record, certificate)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &concerned {
            // How long a look at what is verified takes does not matter here.
            desired::apply(items, key, Input::Revoked, Timing::hours(1), now);
        }
        true
    })
}

/// Whether a record's payload brought that certificate and the device has it as far as is known: Windows payloads remember which one is
/// held, Apple profiles and declarations which ones the device has.
fn uses(key: &str, record: &Record, certificate: &Certificate) -> bool {
    let grant = &certificate.grant;
    let (Some(profile), Some(payload)) = (&grant.profile_id, &grant.payload) else { return false };
    let listed = |list: &Value| list.as_array().is_some_and(|list| list.iter().any(|one| one.as_str() == Some(&certificate.sha256)));
    if key == format!("payload:{profile}/{payload}") {
        let held = record.memory.get("held").and_then(|held| held.get("certificate"));
        held.and_then(Value::as_str) == Some(certificate.id.as_str())
    } else {
        desired::brought(key, profile, payload) && record.memory.get("certificates").is_some_and(listed)
    }
}
