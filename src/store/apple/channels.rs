//! Channels: the device's, and one for each managed user of a Mac or Shared iPad.

use diesel::prelude::*;

use super::super::schema::apple_channels;
use super::super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::apple::declared::Declared;
use crate::domain::apple::queue::Queue;
use crate::ids::EnrollmentId;

/// The user's key on the device channel.
pub const DEVICE: &str = "";

/// A channel. An Apple device is enrolled once its device channel exists: its first `TokenUpdate` makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Whose.
    pub enrollment_id: EnrollmentId,
    /// The user; [`DEVICE`] on the device channel.
    pub user_key: String,
    /// The user's short name.
    pub user_short_name: Option<String>,
    /// The topic that the device listens to.
    pub topic: String,
    /// Token and magic as JSON, sealed; `None`: it cannot be pushed.
    pub sealed_push: Option<Vec<u8>>,
    /// When the device last said where to push.
    pub token_updated_at: Option<Time>,
    /// Since when the push service says that the token is of no use.
    pub push_dead_at: Option<Time>,
    /// What it said.
    pub push_dead_why: Option<String>,
    /// What waits.
    pub queue: Queue,
    /// The token of the declarations that the device was told of.
    pub ddm_token: Option<String>,
    /// When the declarations changed.
    pub ddm_changed_at: Option<Time>,
    /// What the device says that it can do with declarations, as JSON; `None`: it does not do declarative management.
    pub capabilities: Option<String>,
    /// What the device last said of its declarations.
    pub declared: Declared,
    /// When the device was last told to renew its identity.
    pub renewal_asked_at: Option<Time>,
    /// Since when Setup Assistant waits for `DeviceConfigured`.
    pub awaiting_since: Option<Time>,
    /// When it last asked for commands or answered one. Check-ins do not count: nothing is delivered with them.
    pub last_seen_at: Option<Time>,
    /// Compare-and-set counter.
    pub version: i64,
}

impl Channel {
    /// A new channel with nothing to do.
    #[must_use]
    pub fn new(enrollment_id: EnrollmentId, user_key: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            enrollment_id,
            user_key: user_key.into(),
            user_short_name: None,
            topic: topic.into(),
            sealed_push: None,
            token_updated_at: None,
            push_dead_at: None,
            push_dead_why: None,
            queue: Queue::default(),
            ddm_token: None,
            ddm_changed_at: None,
            capabilities: None,
            declared: Declared::default(),
            renewal_asked_at: None,
            awaiting_since: None,
            last_seen_at: None,
            version: 1,
        }
    }
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = apple_channels, treat_none_as_null = true)]
struct Row {
    id: String,
    enrollment_id: String,
    user_key: String,
    user_short_name: Option<String>,
    topic: String,
    sealed_push: Option<Vec<u8>>,
    token_updated_at: Option<i64>,
    push_dead_at: Option<i64>,
    push_dead_why: Option<String>,
    queue: String,
    ddm_token: Option<String>,
    ddm_changed_at: Option<i64>,
    capabilities: Option<String>,
    declared: Option<String>,
    renewal_asked_at: Option<i64>,
    awaiting_since: Option<i64>,
    last_seen_at: Option<i64>,
    version: i64,
}

fn key(enrollment: &EnrollmentId, user_key: &str) -> String {
    if user_key == DEVICE { enrollment.to_string() } else { format!("{enrollment}/{user_key}") }
}

impl Row {
    fn of(channel: &Channel, version: i64) -> Result<Self> {
        Ok(Self {
            id: key(&channel.enrollment_id, &channel.user_key),
            enrollment_id: channel.enrollment_id.to_string(),
            user_key: channel.user_key.clone(),
            user_short_name: channel.user_short_name.clone(),
            topic: channel.topic.clone(),
            sealed_push: channel.sealed_push.clone(),
            token_updated_at: channel.token_updated_at.map(|t| t.0),
            push_dead_at: channel.push_dead_at.map(|t| t.0),
            push_dead_why: channel.push_dead_why.clone(),
            queue: serde_json::to_string(&channel.queue)?,
            ddm_token: channel.ddm_token.clone(),
            ddm_changed_at: channel.ddm_changed_at.map(|t| t.0),
            capabilities: channel.capabilities.clone(),
            declared: (!channel.declared.is_empty()).then(|| serde_json::to_string(&channel.declared)).transpose()?,
            renewal_asked_at: channel.renewal_asked_at.map(|t| t.0),
            awaiting_since: channel.awaiting_since.map(|t| t.0),
            last_seen_at: channel.last_seen_at.map(|t| t.0),
            version,
        })
    }
}

impl TryFrom<Row> for Channel {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            enrollment_id: EnrollmentId::from_store(row.enrollment_id),
            user_key: row.user_key,
            user_short_name: row.user_short_name,
            topic: row.topic,
            sealed_push: row.sealed_push,
            token_updated_at: row.token_updated_at.map(Time),
            push_dead_at: row.push_dead_at.map(Time),
            push_dead_why: row.push_dead_why,
            queue: serde_json::from_str(&row.queue).map_err(|_| Error::corrupt("apple_channels.queue"))?,
            ddm_token: row.ddm_token,
            ddm_changed_at: row.ddm_changed_at.map(Time),
            capabilities: row.capabilities,
            declared: match row.declared {
                Some(text) => serde_json::from_str(&text).map_err(|_| Error::corrupt("apple_channels.declared"))?,
                None => Declared::default(),
            },
            renewal_asked_at: row.renewal_asked_at.map(Time),
            awaiting_since: row.awaiting_since.map(Time),
            last_seen_at: row.last_seen_at.map(Time),
            version: row.version,
        })
    }
}

/// A channel of an enrolment; `user_key` is [`DEVICE`] for the device's.
///
/// # Errors
/// Only the database's own.
pub fn find_channel(conn: &mut Conn, enrollment: &EnrollmentId, user_key: &str) -> Result<Option<Channel>> {
    let row: Option<Row> = apple_channels::table.find(key(enrollment, user_key)).select(Row::as_select()).first(conn).optional()?;
    row.map(Channel::try_from).transpose()
}

/// All channels of an enrolment, the device's first.
///
/// # Errors
/// Only the database's own.
pub fn list_channels(conn: &mut Conn, enrollment: &EnrollmentId) -> Result<Vec<Channel>> {
    let of = apple_channels::table.filter(apple_channels::enrollment_id.eq(enrollment.as_str()));
    let rows: Vec<Row> = of.order(apple_channels::user_key).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Channel::try_from).collect()
}

/// How many users of a device have channels.
///
/// # Errors
/// Only the database's own.
pub fn count_users(conn: &mut Conn, enrollment: &EnrollmentId) -> Result<i64> {
    let of = apple_channels::table.filter(apple_channels::enrollment_id.eq(enrollment.as_str()));
    Ok(of.filter(apple_channels::user_key.ne(DEVICE)).count().get_result(conn)?)
}

/// Inserts a channel.
///
/// # Errors
/// [`Error::Conflict`] when it is there.
pub fn insert_channel(tx: &mut Tx<'_>, channel: &Channel) -> Result<()> {
    diesel::insert_into(apple_channels::table).values(Row::of(channel, channel.version)?).execute(tx.conn())?;
    Ok(())
}

/// Writes the channel if nobody changed it since it was read, and counts its version up.
///
/// # Errors
/// [`Error::Busy`] when somebody did: read it again.
pub fn claim_update(tx: &mut Tx<'_>, channel: &Channel) -> Result<()> {
    let row = Row::of(channel, channel.version.saturating_add(1))?;
    let target = apple_channels::table.find(row.id.clone()).filter(apple_channels::version.eq(channel.version));
    let changed = diesel::update(target).set(&row).execute(tx.conn())?;
    if changed == 1 { Ok(()) } else { Err(Error::Busy) }
}

/// Notes that the push service says a channel's token is of no use, unless the device has sent another since `token_updated_at`.
///
/// # Errors
/// Only the database's own.
pub fn update_push_dead(tx: &mut Tx<'_>, channel: &Channel, why: &str, now: Time) -> Result<bool> {
    let row = apple_channels::table
        .find(key(&channel.enrollment_id, &channel.user_key))
        .filter(apple_channels::token_updated_at.eq(channel.token_updated_at.map(|t| t.0)));
    let change = (apple_channels::push_dead_at.eq(Some(now.0)), apple_channels::push_dead_why.eq(Some(why)));
    Ok(diesel::update(row).set(change).execute(tx.conn())? == 1)
}

/// How many channels' tokens are of no use for one of these reasons.
///
/// # Errors
/// Only the database's own.
pub fn count_push_dead(conn: &mut Conn, why: &[&str]) -> Result<i64> {
    Ok(apple_channels::table.filter(apple_channels::push_dead_why.eq_any(why)).count().get_result(conn)?)
}

/// How many devices listen to a topic.
///
/// # Errors
/// Only the database's own.
pub fn count_listening(conn: &mut Conn, topic: &str) -> Result<i64> {
    let devices = apple_channels::table.filter(apple_channels::user_key.eq(DEVICE));
    Ok(devices.filter(apple_channels::topic.eq(topic)).count().get_result(conn)?)
}

/// Forgets a channel.
///
/// # Errors
/// Only the database's own.
pub fn delete_channel(tx: &mut Tx<'_>, enrollment: &EnrollmentId, user_key: &str) -> Result<()> {
    diesel::delete(apple_channels::table.find(key(enrollment, user_key))).execute(tx.conn())?;
    Ok(())
}

/// Ends the channels of an enrolment: nothing that waits there is ever delivered.
///
/// # Errors
/// Only the database's own.
pub fn delete_channels(tx: &mut Tx<'_>, enrollment: &EnrollmentId) -> Result<()> {
    diesel::delete(apple_channels::table.filter(apple_channels::enrollment_id.eq(enrollment.as_str()))).execute(tx.conn())?;
    Ok(())
}
