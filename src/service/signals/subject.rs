//! What receivers were told of a device.

use super::{caep, receiver};
use crate::app::App;
use crate::ids::DeviceId;
use crate::service::Result;
use crate::store::outbox::missed::find_missed;
use crate::store::outbox::{self, Row};
use crate::store::receivers;

/// What one receiver was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// The receiver's name.
    pub receiver: String,
    /// How many signals wait.
    pub waiting: i64,
    /// The last signal that is still known.
    pub last: Option<Row>,
    /// Whether signals about the device were given up since it last heard of it.
    pub missed: bool,
}

/// The user whom signals about a device name, and what each receiver was told of it.
///
/// # Errors
/// [`crate::service::Error::NotFound`].
pub async fn told(app: &App, device: &DeviceId) -> Result<(Option<String>, Vec<Told>)> {
    let (all, device) = (receiver::list(app).await?, device.clone());
    let read = app.store.read(move |conn| {
        let subject = receivers::load_subject(conn, &device)?;
        let told = all.into_iter().map(|(_, receiver)| {
            let lane = caep::lane(&receiver.id, Some(&subject));
            Ok(Told {
                waiting: outbox::count_queued(conn, &lane, None)?,
                last: outbox::find_newest(conn, &lane)?,
                missed: find_missed(conn, &lane)?.is_some(),
                receiver: receiver.name,
            })
        });
        let told = told.collect::<crate::store::Result<Vec<_>>>()?;
        Ok((subject.user, told))
    });
    Ok(read.await?)
}
