//! Whom certificates are for, by name.

use std::collections::{BTreeMap, BTreeSet};

use super::authority;
use crate::app::App;
use crate::domain::certificate::Certificate;
use crate::ids::{DeviceId, UserId};
use crate::service::Result;
use crate::store::{self, devices, users};

/// The names beside a certificate; of somebody who is gone there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The authority that issued it.
    pub authority: Option<String>,
    /// The device that it is for.
    pub device: Option<String>,
    /// The user that it is for.
    pub user: Option<String>,
}

/// The names of each.
///
/// # Errors
/// When the database fails.
pub async fn of(app: &App, certificates: &[Certificate]) -> Result<Vec<Names>> {
    let authorities = authority::list(app).await?;
    let (device_ids, user_ids): (BTreeSet<_>, BTreeSet<_>) =
        certificates.iter().map(|c| (c.grant.device_id.clone(), c.grant.user_id.clone())).unzip();
    let read = app.store.read(move |conn| {
        let device = |id: DeviceId| known(devices::load_device(conn, &id)).map(|found| (id, found.map(|d| d.display_name)));
        let devices = device_ids.into_iter().flatten().map(device).collect::<store::Result<BTreeMap<_, _>>>()?;
        let user = |id: UserId| known(users::load_user(conn, &id)).map(|found| (id, found.map(|u| u.upn)));
        let users = user_ids.into_iter().flatten().map(user).collect::<store::Result<BTreeMap<_, _>>>()?;
        Ok((devices, users))
    });
    let (devices, users) = read.await?;
    let names = |certificate: &Certificate| Names {
        authority: authorities.iter().find(|authority| authority.id == certificate.authority_id).map(|authority| authority.name.clone()),
        device: certificate.grant.device_id.as_ref().and_then(|id| devices.get(id).cloned().flatten()),
        user: certificate.grant.user_id.as_ref().and_then(|id| users.get(id).cloned().flatten()),
    };
    Ok(certificates.iter().map(names).collect())
}

fn known<T>(found: store::Result<T>) -> store::Result<Option<T>> {
    match found {
        Err(store::Error::NotFound) => Ok(None),
        found => found.map(Some),
    }
}
