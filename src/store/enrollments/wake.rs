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
    /// Since when it has something to do.
    pub work_at: Time,
}

/// A page of enrolments that can be woken and have had something to do since a moment between `since` and `until`, after `after`.
/// Windows devices can be woken when they have a push channel, and did not come since; Apple's always have one, or will be given one. Of an
/// Apple device that comes and puts off what it has to do, that moment stays.
///
/// # Errors
/// Only the database's own.
pub fn list_to_wake(conn: &mut Conn, since: Time, until: Time, after: &str, limit: i64) -> Result<Vec<ToWake>> {
    let apple = [Platform::MacOs, Platform::Ios].map(|platform| platform.to_string());
    let not_heard = enrollments::last_seen_at.is_null().or(enrollments::last_seen_at.le(enrollments::work_at));
    let rows: Vec<(String, String, Option<i64>)> = enrollments::table
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
        .select((enrollments::id, enrollments::platform, enrollments::work_at))
        .load(conn)?;
    let read = |(id, platform, work_at): (String, String, Option<i64>)| {
        let platform = Platform::parse(&platform).ok_or_else(|| Error::corrupt("enrollments.platform"))?;
        Ok(ToWake { id: EnrollmentId::from_store(id), platform, work_at: work_at.map_or(until, Time) })
    };
    rows.into_iter().map(read).collect()
}
