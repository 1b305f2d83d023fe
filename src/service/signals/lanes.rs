//! Whom the rows of the outbox are for.

use super::{caep, receiver};
use crate::app::App;
use crate::ids::{DeviceId, EnrollmentId};
use crate::service::Result;
use crate::store::outbox::Row;
use crate::store::{self, devices, enrollments};

/// What the receiver and the device of each row are called, where it has them and they are still there.
///
/// # Errors
/// Only the database's own.
pub async fn names(app: &App, rows: &[Row]) -> Result<Vec<(Option<String>, Option<String>)>> {
    let all = receiver::list(app).await?;
    let lanes: Vec<String> = rows.iter().map(|row| row.order_key.clone()).collect();
    let read = app.store.read(move |conn| {
        let called = lanes.iter().map(|lane| {
            let (destination, subject) = lane.split_once('/').unwrap_or((lane, ""));
            let receiver = all.iter().find(|(_, receiver)| caep::destination(&receiver.id) == destination);
            let mut device = DeviceId::parse(subject).map(|id| devices::find_device(conn, &id)).transpose()?.flatten();
            if let (None, Some(id)) = (&device, subject.split('/').next().and_then(EnrollmentId::parse)) {
                // Wakes are of an enrolment, or of a user's channel in it.
                device = match enrollments::load_enrollment(conn, &id) {
                    Ok(enrollment) => devices::find_device(conn, &enrollment.device_id)?,
                    Err(store::Error::NotFound) => None,
                    Err(error) => return Err(error),
                };
            }
            Ok((receiver.map(|(_, receiver)| receiver.name.clone()), device.map(|device| device.display_name)))
        });
        called.collect()
    });
    Ok(read.await?)
}
