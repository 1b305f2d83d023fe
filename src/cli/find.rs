//! What people call things by: names, as they are on the screen, beside identifiers.

use crate::app::App;
use crate::domain::device::Device;
use crate::domain::group::Group;
use crate::domain::profile::{Kind, Profile};
use crate::domain::user::User;
use crate::ids::{DeviceId, GroupId, ProfileId, UserId};
use crate::service::{Error, Result};
use crate::store::{self, devices, groups, profiles, users};

/// Says what was not found instead of "row".
fn named<T>(found: store::Result<T>, what: &'static str) -> Result<T> {
    found.map_err(|error| match error {
        store::Error::NotFound => Error::NotFound(what),
        other => other.into(),
    })
}

/// The user of that UPN or id.
pub(super) async fn user(app: &App, text: &str) -> Result<User> {
    let (id, upn) = (UserId::parse(text), text.to_owned());
    let found = app.store.read(move |conn| match &id {
        Some(id) => users::load_user(conn, id),
        None => users::find_user_by_upn(conn, &upn)?.ok_or(store::Error::NotFound),
    });
    named(found.await, "user")
}

/// The group of that name or id.
pub(super) async fn group(app: &App, text: &str) -> Result<Group> {
    let (id, name) = (GroupId::parse(text), text.to_owned());
    let found = app.store.read(move |conn| match &id {
        Some(id) => groups::load_group(conn, id),
        None => groups::find_group_by_name(conn, &name)?.ok_or(store::Error::NotFound),
    });
    named(found.await, "group")
}

/// The profile of that kind and name or id, or the one that came from the ready profile of that name.
pub(super) async fn profile(app: &App, text: &str, kind: Kind) -> Result<Profile> {
    let (id, name) = (ProfileId::parse(text), text.to_owned());
    let ready = super::profile::ready_name(text)?;
    let found = app.store.read(move |conn| match (&id, &ready) {
        (Some(id), _) => profiles::load_profile(conn, id),
        (None, ready) => {
            let by_name = profiles::find_profile_by_name(conn, &name)?;
            let by_ready = || ready.as_ref().map_or(Ok(None), |name| profiles::find_profile_by_name(conn, name));
            by_name.map_or_else(by_ready, |found| Ok(Some(found)))?.ok_or(store::Error::NotFound)
        }
    });
    let what = if kind == Kind::Compliance { "compliance policy" } else { "configuration profile" };
    named(found.await, what).and_then(|profile| if profile.kind == kind { Ok(profile) } else { Err(Error::NotFound(what)) })
}

/// The device of that id, name or serial number.
pub(super) async fn device(app: &App, text: &str) -> Result<Device> {
    let text = text.to_owned();
    let found = app
        .store
        .read(move |conn| {
            if let Some(id) = DeviceId::parse(&text) {
                return Ok(vec![devices::load_device(conn, &id)?]);
            }
            let by_name = devices::Filter { display_name: Some(text.clone()), ..Default::default() };
            let by_serial = devices::Filter { serial_number: Some(text), ..Default::default() };
            let named = devices::list_devices(conn, &by_name, "", 2)?;
            if named.is_empty() { devices::list_devices(conn, &by_serial, "", 2) } else { Ok(named) }
        })
        .await;
    let mut found = named(found, "device")?;
    if found.len() > 1 {
        return Err(Error::Conflict("several devices are called so; name one by its id".into()));
    }
    found.pop().ok_or(Error::NotFound("device"))
}
