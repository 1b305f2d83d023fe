//! Following what changes in the directory.

use super::{Listed, listed};
use crate::app::App;
use crate::clock::Time;
use crate::domain::group::Group;
use crate::domain::subscription::Kind;
use crate::domain::user::User;
use crate::service::changes::{Followed, Told, follow};
use crate::service::page;
use crate::store::{devices, groups, users};
use crate::wire::odata::query::Query;

/// What changed among the users.
///
/// # Errors
/// As [`follow`].
pub async fn follow_users(app: &App, query: &Query, limit: u32) -> Result<Told<(User, Time)>, page::Error> {
    let followed = Followed { kind: Kind::User, set: &users::SET, members: false };
    follow(app, followed, query, limit, |conn, ids| {
        Ok(users::list_by_ids(conn, ids)?.into_iter().map(|found| (found.0.id.to_string(), found)).collect())
    })
    .await
}

/// What changed among the groups, and with `members` who came and left.
///
/// # Errors
/// As [`follow`].
pub async fn follow_groups(app: &App, query: &Query, members: bool, limit: u32) -> Result<Told<(Group, Time)>, page::Error> {
    let followed = Followed { kind: Kind::Group, set: &groups::SET, members };
    follow(app, followed, query, limit, |conn, ids| {
        Ok(groups::list_by_ids(conn, ids)?.into_iter().map(|found| (found.0.id.to_string(), found)).collect())
    })
    .await
}

/// What changed among the devices of the directory.
///
/// # Errors
/// As [`follow`].
pub async fn follow_devices(app: &App, query: &Query, limit: u32) -> Result<Told<Listed>, page::Error> {
    let followed = Followed { kind: Kind::Device, set: &devices::SET, members: false };
    follow(app, followed, query, limit, |conn, ids| {
        Ok(listed(conn, ids)?.into_iter().map(|found| (found.device.id.to_string(), found)).collect())
    })
    .await
}
