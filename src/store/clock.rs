//! The database's own clock.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::{Conn, Result};
use crate::clock::Time;

#[derive(QueryableByName)]
struct Now {
    #[diesel(sql_type = BigInt)]
    millis: i64,
}

/// The present moment by the database's clock; `own` where the database has none but ours.
///
/// # Errors
/// Only the database's own.
pub fn now(conn: &mut Conn, own: Time) -> Result<Time> {
    match conn {
        Conn::Postgres(c) => {
            let now: Now = diesel::sql_query("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS millis").get_result(c)?;
            Ok(Time(now.millis))
        }
        Conn::Sqlite(_) => Ok(own),
    }
}
