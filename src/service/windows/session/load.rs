//! Everything about a device, as it is at one moment.

use crate::app::App;
use crate::service::Result;
use crate::service::round::Known;
use crate::store::dm_sessions::{self, Stored};
use crate::store::enrollments::{self, Digest, Identity};

/// How `service::Error` names a lost compare-and-set.
pub(super) const BUSY: &str = "the database is busy";

/// A device and its session as the store knows them.
pub(super) struct Loaded {
    pub(super) known: Known,
    pub(super) session: Option<Stored>,
    /// The MD5 credentials, where they are asked for.
    pub(super) digest: Option<Digest>,
}

impl Loaded {
    pub(super) async fn read(app: &App, identity: &Identity) -> Result<Self> {
        let (id, clock) = (identity.enrollment.id.clone(), app.clock());
        let (sealer, md5) = (app.sealer(), app.config.windows.md5_authentication);
        let loaded = app.store.snapshot(move |conn| {
            Ok(Self {
                known: Known::read(conn, &sealer, &id, clock.now())?,
                session: dm_sessions::find_session(conn, &id)?,
                digest: if md5 { enrollments::find_digest(conn, &id)? } else { None },
            })
        });
        Ok(loaded.await?)
    }
}
