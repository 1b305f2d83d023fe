//! Managed devices as the API has them, and what an administrator does to one there.

use std::collections::{BTreeMap, HashMap};

use crate::app::App;
use crate::clock::Time;
use crate::config::Config;
use crate::domain::Refusal;
use crate::domain::access::{Action, Reach};
use crate::domain::command::{Command, State};
use crate::domain::device::{Ownership, Platform};
use crate::domain::subscription::Kind;
use crate::ids::{CommandId, EnrollmentId};
use crate::service::changes::{Followed, Told, follow};
use crate::service::directory::By;
use crate::service::page::{self, Found, find};
use crate::service::{Error, Result};
use crate::store;
use crate::store::enrollments::managed::{MANAGED, find_managed, list_managed};
use crate::wire::apple::enroll::Mode;
use crate::wire::odata::query::Query;

use super::{Order, command, give_up_device, orders, retire, sync};

pub use crate::store::enrollments::managed::Managed;

/// The facts that a managed device is shown with.
pub const FACTS: &[&str] = &[
    "apple.capacity",
    "apple.capacity-free",
    "apple.supervised",
    "bitlocker.device-encryption-status",
    "dev-detail.free-storage",
    "dev-detail.total-ram",
    "dev-detail.total-storage",
    "dev-detail.wlan-mac-address",
    "macos.filevault",
];
/// How many of its orders a managed device is shown with.
const ORDERS: i64 = 50;

/// A page of managed devices.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what they have not.
pub async fn page_managed(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<Managed>, page::Error> {
    let load = |conn: &mut store::Conn, ids: &[String]| {
        Ok(list_managed(conn, ids, FACTS)?.into_iter().map(|found| (found.enrollment.id.to_string(), found)).collect())
    };
    find(app, &MANAGED, query, page::within(reach), limit, load).await
}

/// What changed among the managed devices: by whom they are used, what they are called and run, and how they are judged; not when they were last
/// heard of, nor what changes with each report.
///
/// # Errors
/// As [`follow`].
pub async fn follow_managed(app: &App, query: &Query, limit: u32) -> std::result::Result<Told<Managed>, page::Error> {
    let followed = Followed { kind: Kind::ManagedDevice, set: &MANAGED, members: false };
    let load = |conn: &mut store::Conn, ids: &[String]| {
        Ok(list_managed(conn, ids, FACTS)?.into_iter().map(|found| (found.enrollment.id.to_string(), found)).collect())
    };
    follow(app, followed, query, limit, load).await
}

/// The managed device of that id (or whose device has it), which the caller may see.
///
/// # Errors
/// [`Error::NotFound`] also for those beyond the caller's reach.
pub async fn find_one(app: &App, id: &str, reach: &Reach) -> Result<Managed> {
    let wanted = EnrollmentId::parse(id).ok_or(Error::NotFound("managed device"))?;
    let found = app.store.look_up(move |conn| match find_managed(conn, wanted.as_str())? {
        Some(id) => Ok(list_managed(conn, &[id.to_string()], FACTS)?.pop()),
        None => Ok(None),
    });
    let found = found.await?.ok_or(Error::NotFound("managed device"))?;
    if reach.is_all() || page::has(app, &MANAGED, found.enrollment.id.as_str(), page::within(reach)).await? {
        return Ok(found);
    }
    Err(Error::NotFound("managed device"))
}

/// Whose a managed device is.
#[must_use]
pub fn ownership(config: &Config, managed: &Managed) -> Ownership {
    let configured = |serial: &String| config.enrollment.serial_numbers.iter().any(|listed| listed.eq_ignore_ascii_case(serial));
    let company = match managed.mode {
        Some(mode) => mode == Mode::Device,
        None => managed.listed || managed.device.serial_number.as_ref().is_some_and(configured),
    };
    if company { Ownership::Company } else { Ownership::Personal }
}

/// An order with when it was given and when it last moved.
#[derive(Clone, Debug)]
pub struct Given {
    /// The order.
    pub order: Command,
    /// When it was given.
    pub created_at: Time,
    /// When it last moved.
    pub updated_at: Time,
}

/// The newest orders that a managed device was given.
///
/// # Errors
/// When the database fails.
pub async fn orders_of(app: &App, managed: &Managed) -> Result<Vec<Given>> {
    let given = orders(app, &managed.device.id, ORDERS).await?;
    let ids: Vec<CommandId> = given.iter().map(|order| order.id.clone()).collect();
    let times = app.store.read(move |conn| store::commands::list_times(conn, &ids)).await?;
    let with = |order: Command| times.get(&order.id).map(|(created, updated)| Given { created_at: *created, updated_at: *updated, order });
    Ok(given.into_iter().filter_map(with).collect())
}

/// The names of the policies by which a device is judged, by what verdicts call them.
///
/// # Errors
/// When the database fails.
pub async fn policy_names(app: &App, managed: &Managed) -> Result<HashMap<String, String>> {
    let reasons = super::explain(app, &managed.device.id).await?;
    Ok(reasons.into_iter().map(|reason| (reason.policy, reason.policy_name)).collect())
}

/// What a wipe keeps, in the words of the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wipe<'a> {
    /// Stay enrolled.
    pub keep_enrollment: bool,
    /// Keep what people have stored.
    pub keep_user_data: bool,
    /// Go on after the power was cut.
    pub protected: bool,
    /// Keep the plan of an embedded SIM.
    pub keep_data_plan: bool,
    /// The code with which a Mac opens again, six digits.
    pub unlock_code: Option<&'a str>,
}

/// Something that is done to a managed device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task<'a> {
    /// Comes now.
    Sync,
    /// Leaves.
    Retire,
    /// Is erased.
    Wipe(Wipe<'a>),
    /// Is taken out of the list without waiting for it.
    Delete,
    /// An order of the catalogue, with its values.
    Order(&'static str, BTreeMap<String, String>),
}

impl Task<'_> {
    /// What a role has to allow for it.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::Sync => Action::RemoteSync,
            Self::Retire => Action::RemoteRetire,
            Self::Wipe(_) => Action::RemoteWipe,
            Self::Delete => Action::ManagedDevicesDelete,
            Self::Order("reboot" | "shut-down", _) => Action::RemoteReboot,
            Self::Order("lock", _) => Action::RemoteLock,
            Self::Order("clear-passcode", _) => Action::RemoteResetPasscode,
            Self::Order("enable-lost-mode" | "disable-lost-mode" | "locate" | "play-sound", _) => Action::RemoteLocate,
            Self::Order("rotate-bitlocker-keys" | "rotate-filevault-key", _) => Action::RemoteRotateKeys,
            Self::Order(..) => Action::RemoteOther,
        }
    }
}

/// Does it: an order waits for the device; the same one that waits already is not given again.
///
/// # Errors
/// Those of the orders.
pub async fn do_task(app: &App, managed: &Managed, task: Task<'_>, by: &By) -> Result<()> {
    let device = &managed.device.id;
    let (id, values) = match task {
        Task::Sync => return sync(app, device, by).await.map(drop),
        Task::Retire => return retire(app, device, &by.actor, &by.origin).await,
        Task::Delete => return give_up_device(app, device, by).await,
        Task::Wipe(wipe) => wipe_order(managed.device.platform, wipe)?,
        Task::Order(id, values) => (id, values),
    };
    let given = orders(app, device, ORDERS).await?;
    let waits = given.iter().any(|known| known.kind == id && known.state == State::Queued);
    if waits {
        return Ok(());
    }
    let order = if values.is_empty() { Order::Known(id.to_owned()) } else { Order::With(id.to_owned(), values) };
    command(app, device, order, true, by).await.map(drop)
}

fn wipe_order(platform: Platform, wipe: Wipe<'_>) -> Result<(&'static str, BTreeMap<String, String>)> {
    let unsupported = |what: &str| Error::Invalid(Refusal::OrderUnknown, format!("{what} is not for {platform}"));
    if platform.is_apple() {
        if wipe.keep_enrollment || wipe.keep_user_data {
            return Err(unsupported("a wipe that keeps something"));
        }
        let code = wipe.unlock_code.filter(|_| platform == Platform::MacOs).map(|code| ("pin".to_owned(), code.to_owned()));
        let plan = (platform == Platform::Ios && wipe.keep_data_plan).then(|| ("keep-data-plan".to_owned(), "yes".to_owned()));
        return Ok(("wipe", code.into_iter().chain(plan).collect()));
    }
    let id = match (wipe.keep_user_data, wipe.keep_enrollment, wipe.protected) {
        (true, ..) => "wipe-keep-user-data",
        (false, true, _) => "wipe-keep-provisioning",
        (false, false, true) => "wipe-protected",
        (false, false, false) => "wipe",
    };
    Ok((id, BTreeMap::new()))
}
