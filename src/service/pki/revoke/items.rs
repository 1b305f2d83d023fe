//! What the profiles of a device hear of revoked certificates.

use serde_json::Value;

use crate::clock::Time;
use crate::domain::certificate::Certificate;
use crate::domain::desired::{self, Input, Record, Timing};
use crate::domain::enrollment::State;
use crate::ids::DeviceId;
use crate::service::push;
use crate::store::{Result, Tx, desired_items, enrollments};

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
    let before: Vec<_> = desired_items::list_items(tx.conn(), device)?.into_iter().map(|(item, _)| item).collect();
    let mut items = before.clone();
    // How long a look at what is verified takes does not matter here.
    let timing = Timing::hours(1);
    let concerned: Vec<String> = before
        .iter()
        .flat_map(|item| &item.detail.records)
        .filter(|(key, record)| record.winner.is_none() && revoked.iter().any(|certificate| uses(key, record, certificate)))
        .map(|(key, _)| key.clone())
        .collect();
    for key in &concerned {
        desired::apply(&mut items, key, Input::Revoked, timing, now);
    }
    let (items, _) = desired::settle(items);
    let changed: Vec<_> = items.iter().filter(|item| !before.contains(item)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    for item in changed {
        desired_items::update_item(tx, item, now)?;
    }
    // A session that has read the items looks again.
    enrollments::claim_update(tx, &enrollment)?;
    // Now, even if the device puts something off: then it would be woken for that only, ever more rarely.
    enrollments::update_work_at(tx, &enrollment.id, Some(now))?;
    // Rare enough to be put in without asking which push services there are.
    push::due::enqueue(tx, true, now)
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
