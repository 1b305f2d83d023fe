//! What people call things by: names, as they are on the screen, beside identifiers. What is not found is named, with where to look.

use std::sync::Arc;

use crate::app::App;
use crate::domain::Refusal;
use crate::domain::access::Role;
use crate::domain::application::Application;
use crate::domain::certificate::Certificate;
use crate::domain::device::Device;
use crate::domain::group::Group;
use crate::domain::profile::{Kind, Profile};
use crate::domain::signal::Receiver;
use crate::domain::user::User;
use crate::ids::{ApplicationId, CertificateId, DeviceId, GroupId, ProfileId, UserId};
use crate::service::pki::authority::{self, Authority};
use crate::service::pki::{external, revoke};
use crate::service::signals::receiver as receivers;
use crate::service::{Error, Result};
use crate::store::certificates::{Search, load_certificate};
use crate::store::{self, applications, devices, groups, profiles, users};

/// Longest name that an error repeats, in letters.
const LONGEST: usize = 100;

/// Nothing of that kind is called so; `list` is the order that shows those that there are.
pub(super) fn missing(what: &str, name: &str, list: &str) -> Error {
    let short: String = name.chars().take(LONGEST).map(|c| if super::output::is_unseen(c) { ' ' } else { c }).collect();
    Error::Unknown(format!("{what} \"{short}\"; those that there are: muster {list}"))
}

/// Says what was not found instead of "row".
fn named<T>(found: store::Result<T>, what: &str, name: &str, list: &str) -> Result<T> {
    found.map_err(|error| match error {
        store::Error::NotFound => missing(what, name, list),
        other => other.into(),
    })
}

/// The user of that UPN or id.
pub(super) async fn user(app: &App, text: &str) -> Result<User> {
    let (id, upn) = (UserId::parse(text), text.to_owned());
    let found = app.store.read(move |conn| match &id {
        Some(id) => users::load_present_user(conn, id),
        None => users::find_user_by_upn(conn, &upn)?.ok_or(store::Error::NotFound),
    });
    named(found.await, "user", text, "user list")
}

/// The application of that client id, id or name, when one alone has the name.
pub(super) async fn application(app: &App, text: &str) -> Result<Application> {
    let (id, name) = (ApplicationId::parse(text), text.to_owned());
    let found = app.store.read(move |conn| {
        if let Some(id) = &id {
            return match applications::find_by_client_id(conn, id.as_str())? {
                Some(found) => Ok(found),
                None => applications::load_application(conn, id),
            };
        }
        match applications::find_by_name(conn, &name, 2)?.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err(store::Error::NotFound),
        }
    });
    named(found.await, "application", text, "app list")
}

/// The role of that word, name or id.
pub(super) async fn role(app: &App, text: &str) -> Result<Role> {
    let wanted = text.to_lowercase();
    let all = crate::service::role::list(app).await?;
    let known = Role::built_in(&wanted);
    let found = known.or_else(|| all.into_iter().find(|role| role.id.as_str() == wanted || role.display_name.to_lowercase() == wanted));
    found.ok_or_else(|| missing("role", text, "role list"))
}

/// The group of that name or id.
pub(super) async fn group(app: &App, text: &str) -> Result<Group> {
    let (id, name) = (GroupId::parse(text), text.to_owned());
    let found = app.store.read(move |conn| match &id {
        Some(id) => groups::load_group(conn, id),
        None => groups::find_group_by_name(conn, &name)?.ok_or(store::Error::NotFound),
    });
    named(found.await, "group", text, "group list")
}

/// The profile of that kind and name or id, or the one that came from the ready profile of that name.
pub(super) async fn profile(app: &App, text: &str, kind: Kind) -> Result<Profile> {
    let (id, name) = (ProfileId::parse(text), text.to_owned());
    let ready = super::profile::ready_name(text)?;
    let (is_ready, sealer) = (ready.is_some(), app.sealer());
    let found = app.store.read(move |conn| match (&id, &ready) {
        (Some(id), _) => profiles::load_profile(conn, &sealer, id),
        (None, ready) => {
            let by_name = profiles::find_profile_by_name(conn, &sealer, &name)?;
            let by_ready = || ready.as_ref().map_or(Ok(None), |name| profiles::find_profile_by_name(conn, &sealer, name));
            by_name.map_or_else(by_ready, |found| Ok(Some(found)))?.ok_or(store::Error::NotFound)
        }
    });
    let (what, order, other) = match kind {
        Kind::Compliance => ("compliance policy", "policy", "profile"),
        Kind::Configuration => ("configuration profile", "profile", "policy"),
    };
    match found.await {
        Ok(profile) if profile.kind == kind => Ok(profile),
        Ok(profile) => Err(Error::Unknown(format!("{what} \"{}\": it is a {other}, use muster {other}", profile.display_name))),
        Err(store::Error::NotFound) if is_ready => {
            Err(Error::Unknown(format!("{what} \"{text}\"; it comes with the program: muster {order} apply {text} makes it one of yours")))
        }
        found => named(found, what, text, &format!("{order} list")),
    }
}

/// How many devices of one name an error lists.
const MOST: i64 = 10;

/// The device of that id, or the only one of that name or serial number: devices say both of themselves, so that neither goes before the
/// other.
pub(super) async fn device(app: &App, text: &str) -> Result<Device> {
    let wanted = text.to_owned();
    let found = app.store.read(move |conn| {
        if let Some(id) = DeviceId::parse(&wanted) {
            return Ok(vec![devices::load_device(conn, &id)?]);
        }
        let by_name = devices::Filter { display_name: Some(wanted.clone()), ..Default::default() };
        let by_serial = devices::Filter { serial_number: Some(wanted), ..Default::default() };
        let mut found = devices::list_devices(conn, &by_name, "", MOST)?;
        for device in devices::list_devices(conn, &by_serial, "", MOST)? {
            if found.iter().all(|other| other.id != device.id) {
                found.push(device);
            }
        }
        Ok(found)
    });
    let mut found = named(found.await, "device", text, "device list")?;
    if found.len() > 1 {
        let ids: Vec<&str> = found.iter().map(|device| device.id.as_str()).collect();
        return Err(Error::Conflict(format!(
            "several devices are called \"{text}\" or have that serial number; name one by its id: {}",
            ids.join(" or ")
        )));
    }
    found.pop().ok_or_else(|| missing("device", text, "device list"))
}

/// The authority of that name.
pub(super) async fn authority(app: &App, name: &str) -> Result<Arc<Authority>> {
    match authority::by_name(app, name).await {
        Err(Error::NotFound(_)) if external::is_pending(app, name).await? => Err(Refusal::AuthorityRequested.into()),
        Err(Error::NotFound(_)) => Err(missing("authority", name, "ca list")),
        found => found,
    }
}

/// The certificate that is meant where the name of an authority was possible, too, and is none.
pub(super) async fn authority_or_certificate(app: &App, text: &str) -> Result<Certificate> {
    certificate(app, text).await.map_err(|error| match error {
        Error::Unknown(_) => missing("authority or certificate", text, "ca list and muster ca certificates"),
        other => other,
    })
}

/// The certificate of that id or serial number.
pub(super) async fn certificate(app: &App, text: &str) -> Result<Certificate> {
    if let Some(id) = CertificateId::parse(text) {
        match app.store.read(move |conn| load_certificate(conn, &id)).await {
            Err(store::Error::NotFound) => {}
            other => return Ok(other?),
        }
    }
    let missing = || missing("certificate", text, "ca certificates");
    let serial = revoke::read_serial(text).ok_or_else(missing)?;
    revoke::search(app, Search { serial: Some(serial), ..Search::default() }, 1).await?.pop().ok_or_else(missing)
}

/// The signal receiver of that name or id.
pub(super) async fn receiver(app: &App, text: &str) -> Result<Receiver> {
    receivers::load(app, text).await.map_err(|error| match error {
        Error::NotFound(_) => missing("receiver", text, "signals receiver list"),
        other => other,
    })
}
