//! Enrolments whose devices are to be woken.

use diesel::prelude::*;

use super::super::schema::enrollments;
use super::super::{Conn, Error, Result};
use crate::clock::Time;
use crate::domain::device::Platform;
use crate::ids::EnrollmentId;

/// An enrolment whose device is to be woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToWake {
    /// The enrolment.
    pub id: EnrollmentId,
    /// By which service its device is woken.
    pub platform: Platform,
    /// Since when there is something new for it.
    pub work_at: Option<Time>,
    /// Since when what it was given waits.
    pub waiting_since: Option<Time>,
}

/// A page of enrolments that can be woken and have had something to do since a moment between `since` and `until`, after `after`.
/// Windows devices can be woken when they have a push channel, and did not come since; Apple's always have one, or will be given one. An
/// Apple device that comes is given what there is, and then has none of that to do any more: what it puts off is [`list_waiting`]'s.
///
/// # Errors
/// Only the database's own.
pub fn list_to_wake(conn: &mut Conn, since: Time, until: Time, after: &str, limit: i64) -> Result<Vec<ToWake>> {
    let apple = [Platform::MacOs, Platform::Ios].map(|platform| platform.to_string());
    let not_heard = enrollments::last_seen_at.is_null().or(enrollments::last_seen_at.le(enrollments::work_at));
    let rows: Vec<Row> = enrollments::table
        .filter(enrollments::work_at.between(since.0, until.0))
        .filter(enrollments::ended_at.is_null())
        .filter(
            enrollments::platform
                .eq_any(apple.clone())
                .or(enrollments::platform.ne_all(apple).and(enrollments::channel_uri.is_not_null()).and(not_heard.assume_not_null())),
        )
        .filter(enrollments::id.gt(after))
        .order(enrollments::id)
        .limit(limit)
        .select(COLUMNS)
        .load(conn)?;
    rows.into_iter().map(read).collect()
}

/// A page of enrolments of Apple devices for which something that they were given has waited since a moment between `since` and `until`,
/// after `after`.
///
/// # Errors
/// Only the database's own.
pub fn list_waiting(conn: &mut Conn, since: Time, until: Time, after: &str, limit: i64) -> Result<Vec<ToWake>> {
    let rows: Vec<Row> = enrollments::table
        .filter(enrollments::waiting_since.between(since.0, until.0))
        .filter(enrollments::ended_at.is_null())
        .filter(enrollments::id.gt(after))
        .order(enrollments::id)
        .limit(limit)
        .select(COLUMNS)
        .load(conn)?;
    rows.into_iter().map(read).collect()
}

type Row = (String, String, Option<i64>, Option<i64>);
const COLUMNS: (enrollments::id, enrollments::platform, enrollments::work_at, enrollments::waiting_since) =
    (enrollments::id, enrollments::platform, enrollments::work_at, enrollments::waiting_since);

fn read((id, platform, work_at, waiting_since): Row) -> Result<ToWake> {
    let platform = Platform::parse(&platform).ok_or_else(|| Error::corrupt("enrollments.platform"))?;
    Ok(ToWake { id: EnrollmentId::from_store(id), platform, work_at: work_at.map(Time), waiting_since: waiting_since.map(Time) })
}
