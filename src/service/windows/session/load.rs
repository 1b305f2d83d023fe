//! Everything about a device, in one read.

use std::sync::Arc;

use crate::app::App;
use crate::domain::certificate::Certificate;
use crate::domain::command::Command;
use crate::domain::desired;
use crate::domain::device::Device;
use crate::domain::dm_session::Session;
use crate::domain::enrollment::Enrollment;
use crate::domain::fact::Facts;
use crate::domain::user::User;
use crate::service::Result;
use crate::service::pki::authority::{self, Authority};
use crate::store::dm_sessions::{self, Stored};
use crate::store::enrollments::Identity;
use crate::store::{certificates, commands, desired_items, devices, enrollments, facts, users};

/// How `service::Error` names a lost compare-and-set.
pub(super) const BUSY: &str = "the database is busy";
/// Orders that one session looks at.
const ORDERS: i64 = 1000;
/// Good certificates of one device that are looked at, the newest first.
const CERTIFICATES: i64 = 200;

/// A device as the store knows it.
pub(super) struct Loaded {
    pub(super) session: Option<Stored>,
    pub(super) enrollment: Enrollment,
    pub(super) device: Device,
    pub(super) user: Option<User>,
    pub(super) items: Vec<desired::Loaded>,
    pub(super) facts: Facts,
    pub(super) orders: Vec<Command>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) authority: Arc<Authority>,
}

impl Loaded {
    pub(super) async fn read(app: &App, identity: &Identity) -> Result<Self> {
        let authority = authority::issuing(app).await?;
        let (id, now) = (identity.enrollment.id.clone(), app.now());
        let loaded = app.store.read(move |conn| {
            let enrollment = enrollments::load_enrollment(conn, &id)?;
            let items = desired_items::list_for_device(conn, &enrollment.device_id)?;
            // Certificates matter to devices with a payload only.
            let with_payload = |item: &desired::Loaded| item.item.detail.records.keys().any(|key| key.starts_with("payload:"));
            let certificates = if items.iter().any(with_payload) {
                certificates::list_newest(conn, &enrollment.device_id, now, CERTIFICATES)?
            } else {
                Vec::new()
            };
            Ok(Self {
                session: dm_sessions::find_session(conn, &id)?,
                device: devices::load_device(conn, &enrollment.device_id)?,
                user: enrollment.user_id.as_ref().map(|user| users::load_user(conn, user)).transpose()?,
                facts: facts::list_for_device(conn, &enrollment.device_id)?,
                orders: commands::list_open(conn, &id, ORDERS)?,
                enrollment,
                items,
                certificates,
                authority,
            })
        });
        Ok(loaded.await?)
    }

    /// The stored session, when it has not ended. One that this version of the program cannot read counts as lost.
    pub(super) fn open_session(&self) -> Option<Session> {
        let stored = self.session.as_ref().filter(|stored| !stored.state.is_empty())?;
        serde_json::from_str(&stored.state).ok()
    }
}
