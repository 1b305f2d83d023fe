//! Whom a certificate is for: whether that device and user may still have it, and what their profile grants today.

use serde_json::Value;

use crate::domain::certificate::{Grant, Purpose, Renewal, Template, Variables};
use crate::domain::enrollment::State;
use crate::domain::profile::Payload;
use crate::domain::scep::Reason;
use crate::secret::Sealer;
use crate::store::apple::sessions;
use crate::store::{self, Conn, Tx, desired_items, devices, enrollments, users};

/// Takes hold of the device's enrolment until the transaction ends: whoever gives the device another certificate of the kind, withdraws its
/// requests or ends it comes before or after.
///
/// # Errors
/// Only the database's own.
pub(super) fn hold(tx: &mut Tx<'_>, grant: &Grant) -> store::Result<()> {
    match &grant.device_id {
        Some(device) => enrollments::hold_current(tx, device).map(drop),
        None => Ok(()),
    }
}

/// Whether the enrolment, the user and the profile of a grant still stand.
///
/// # Errors
/// The reason why not, in the inner result.
pub(super) fn judge(c: &mut Conn, grant: &Grant) -> store::Result<Result<(), Reason>> {
    let enrollment = match (&grant.enrollment_id, &grant.device_id) {
        (Some(id), _) => found(enrollments::load_enrollment(c, id))?,
        (None, Some(device)) => enrollments::find_current_enrollment(c, device)?,
        (None, None) => None,
    };
    // An Apple device gets its identity before its enrolment exists: until then the session stands for it.
    let begun = match (&grant.enrollment_id, &enrollment) {
        (Some(id), None) => sessions::find_session(c, id)?.is_some(),
        _ => false,
    };
    let for_device = !begun && (grant.enrollment_id.is_some() || grant.device_id.is_some());
    if for_device && !enrollment.is_some_and(|enrollment| matches!(enrollment.state, State::Provisioned | State::Active)) {
        return Ok(Err(Reason::BadDeviceIdInChallenge));
    }
    if let Some(id) = &grant.user_id
        && !found(users::load_user(c, id))?.is_some_and(|user| user.enabled)
    {
        return Ok(Err(Reason::BadUserIdInChallenge));
    }
    if let (Some(device), Some(profile)) = (&grant.device_id, &grant.profile_id)
        && !desired_items::is_desired(c, device, profile)?
    {
        return Ok(Err(Reason::ScepProfileNoLongerTargetedToTheClient));
    }
    Ok(Ok(()))
}

fn found<T>(loaded: store::Result<T>) -> store::Result<Option<T>> {
    match loaded {
        Ok(value) => Ok(Some(value)),
        Err(store::Error::NotFound) => Ok(None),
        Err(other) => Err(other),
    }
}

/// What the holder of a grant is granted today, and whether an administrator has to agree: names and usages are those of the profile as it
/// is now, filled with what the directory says now. A grant that no profile gave stays as it is, and an administrator's says itself whether
/// it renews.
///
/// # Errors
/// The reason why nothing is granted any more, in the inner result.
pub(super) fn grant_today(c: &mut Conn, sealer: &Sealer, old: &Grant) -> store::Result<Result<(Grant, bool), Reason>> {
    let (Some(device), Some(profile), Some(name)) = (&old.device_id, &old.profile_id, &old.payload) else {
        return Ok(match (old.purpose, old.renewal) {
            (Purpose::Manual, None) => Err(Reason::NotIssued),
            (Purpose::Manual, Some(Renewal::Approved)) => Ok((old.clone(), true)),
            _ => Ok((old.clone(), false)),
        });
    };
    let items = desired_items::list_for_device(c, sealer, device)?;
    let document = items.into_iter().find(|loaded| loaded.item.profile_id == *profile).and_then(|loaded| loaded.desired);
    let payload = document.and_then(|document| document.payloads.into_iter().find(|payload| payload.name == *name));
    // Who got a key with its certificate does not make another one of their own.
    let payload = payload.filter(|payload| payload.kind == "scep");
    let Some((template, needs_approval)) = payload.as_ref().and_then(template) else {
        return Ok(Err(Reason::ScepProfileNoLongerTargetedToTheClient));
    };
    let device = devices::load_device(c, device)?;
    let user = match &old.user_id {
        Some(id) => found(users::load_user(c, id))?,
        None => None,
    };
    let Ok(mut grant) = template.resolve(&Variables::of(user.as_ref(), Some(&device))) else { return Ok(Err(Reason::NotIssued)) };
    grant.device_id.clone_from(&old.device_id);
    grant.user_id.clone_from(&old.user_id);
    grant.enrollment_id.clone_from(&old.enrollment_id);
    grant.profile_id.clone_from(&old.profile_id);
    grant.payload.clone_from(&old.payload);
    Ok(Ok((grant, needs_approval)))
}

/// The template of a payload, and whether an administrator has to agree to each certificate.
fn template(payload: &Payload) -> Option<(Template, bool)> {
    let needs_approval = payload.body.get("needs-approval").and_then(Value::as_bool).unwrap_or_default();
    let template = match payload.body.get("template") {
        Some(template) => serde_json::from_value(template.clone()).ok()?,
        None => Template::default(),
    };
    Some((template, needs_approval))
}
