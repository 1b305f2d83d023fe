//! Enrolments whose devices are to be woken.

use diesel::prelude::*;

use super::super::schema::{apple_channels, enrollments};
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

/// A page of enrolments that can be woken, got something to do between `since` and `until` and did not come after it, after `after`.
/// Windows devices can be woken when they have a push channel; Apple's always have one, or will be given one. An Apple device has come
/// when it asked for commands: it checks in, and its users' channels speak, without taking anything with them.
///
/// # Errors
/// Only the database's own.
pub fn list_to_wake(conn: &mut Conn, since: Time, until: Time, after: &str, limit: i64) -> Result<Vec<ToWake>> {
    let apple = [Platform::MacOs, Platform::Ios].map(|platform| platform.to_string());
    // The device's own channel has the enrolment's id.
    let came =
        apple_channels::table.filter(apple_channels::id.eq(enrollments::id)).filter(apple_channels::last_seen_at.gt(enrollments::work_at));
    let not_heard = enrollments::last_seen_at.is_null().or(enrollments::last_seen_at.le(enrollments::work_at));
    let rows: Vec<(String, String, Option<i64>)> = enrollments::table
        .filter(enrollments::work_at.between(since.0, until.0))
        .filter(enrollments::ended_at.is_null())
        .filter(
            (enrollments::platform.eq_any(apple.clone()).and(diesel::dsl::not(diesel::dsl::exists(came))))
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
