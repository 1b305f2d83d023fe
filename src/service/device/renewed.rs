//! A renewed identity takes over, whatever the platform: the old one stays good until the new one is used for the first time, because the
//! answer that brought it may have been lost. On Apple devices `Authenticate` does not count as a use: it only begins the change.

use crate::app::App;
use crate::clock::Time;
use crate::domain::certificate::{Certificate, RevocationReason};
use crate::domain::enrollment::Enrollment;
use crate::service::Result;
use crate::service::pki::revoke;
use crate::store::certificates::Live;
use crate::store::enrollments::Identity;
use crate::store::{self, Tx, certificates, enrollments};

/// How many certificates of a device are looked through at a time.
const BATCH: i64 = 200;

/// A renewed certificate is seen for the first time: from now on it is the enrolment's, and the ones before it are revoked. To be
/// called when a session's certificate is another than `enrollment.certificate_id`; an older one changes nothing.
///
/// # Errors
/// When the store fails.
pub async fn confirm_renewal(app: &App, identity: &Identity, origin: &str) -> Result<()> {
    if identity.enrollment.certificate_id.as_ref() == Some(&identity.certificate.id) {
        return Ok(());
    }
    let (identity, origin, now) = (identity.clone(), origin.to_owned(), app.now());
    app.store
        .write(move |tx| {
            enrollments::lock_enrollment(tx, &identity.enrollment.id)?;
            let mut enrollment = enrollments::load_enrollment(tx.conn(), &identity.enrollment.id)?;
            let current = match &enrollment.certificate_id {
                Some(id) => Some(certificates::load_certificate(tx.conn(), id)?),
                None => None,
            };
            let fresh = certificates::load_certificate(tx.conn(), &identity.certificate.id)?;
            if current.is_some_and(|current| current.id == fresh.id || current.created_at > fresh.created_at) {
                return Ok(());
            }
            supersede(tx, &enrollment, &fresh, &origin, now)?;
            enrollment.certificate_id = Some(fresh.id);
            enrollments::claim_update(tx, &enrollment)
        })
        .await?;
    Ok(())
}

/// Revokes the identities of the enrolment that are not younger than `fresh`.
fn supersede(tx: &mut Tx<'_>, enrollment: &Enrollment, fresh: &Certificate, origin: &str, now: Time) -> store::Result<()> {
    let actor = format!("device:{}", enrollment.device_id);
    let live = Live { device: Some(enrollment.device_id.clone()), identity: Some(true), ..Live::default() };
    let mut after = None;
    loop {
        let batch = certificates::list_live(tx.conn(), &live, after.as_ref(), now, BATCH)?;
        let Some(last) = batch.last() else { return Ok(()) };
        after = Some(last.id.clone());
        for old in batch {
            let same_line = old.grant.enrollment_id.as_ref() == Some(&enrollment.id);
            if same_line && old.id != fresh.id && old.created_at <= fresh.created_at {
                certificates::update_superseded(tx, &old.id, &fresh.id)?;
                revoke::revoke_in(tx, &old.id, RevocationReason::Superseded, &actor, origin, now)?;
            }
        }
    }
}
