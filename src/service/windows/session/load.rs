//! Everything about a device, as it is at one moment.

use std::sync::Arc;

use crate::app::App;
use crate::domain::certificate::Certificate;
use crate::domain::command::Command;
use crate::domain::desired;
use crate::domain::device::Device;
use crate::domain::enrollment::Enrollment;
use crate::domain::fact::Facts;
use crate::domain::user::User;
use crate::ids::CommandId;
use crate::service::Result;
use crate::service::pki::authority::{self, Authority};
use crate::store::dm_sessions::{self, Stored};
use crate::store::enrollments::{Digest, Identity};
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
    /// Orders that nobody can read any more.
    pub(super) corrupt_orders: Vec<CommandId>,
    /// The MD5 credentials, where they are asked for.
    pub(super) digest: Option<Digest>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) authority: Arc<Authority>,
}

impl Loaded {
    pub(super) async fn read(app: &App, identity: &Identity) -> Result<Self> {
        let authority = authority::told_of(app).await?;
        let (id, now) = (identity.enrollment.id.clone(), app.now());
        let (sealer, md5) = (app.sealer(), app.config.windows.md5_authentication);
        let loaded = app.store.snapshot(move |conn| {
            let enrollment = enrollments::load_enrollment(conn, &id)?;
            let items = desired_items::list_for_device(conn, &sealer, &enrollment.device_id)?;
            // Certificates matter to devices with a payload only.
            let with_payload = |item: &desired::Loaded| item.item.detail.records.keys().any(|key| key.starts_with("payload:"));
            let certificates = if items.iter().any(with_payload) {
                certificates::list_newest(conn, &enrollment.device_id, now, CERTIFICATES)?
            } else {
                Vec::new()
            };
            let orders = commands::list_open(conn, &sealer, &id, ORDERS)?;
            Ok(Self {
                session: dm_sessions::find_session(conn, &id)?,
                device: devices::load_device(conn, &enrollment.device_id)?,
                user: enrollment.user_id.as_ref().map(|user| users::load_user(conn, user)).transpose()?,
                facts: facts::list_for_device(conn, &enrollment.device_id)?,
                orders: orders.readable,
                corrupt_orders: orders.corrupt,
                digest: if md5 { enrollments::find_digest(conn, &id)? } else { None },
                enrollment,
                items,
                certificates,
                authority,
            })
        });
        Ok(loaded.await?)
    }
}
