//! The few statements that the two databases spell differently, each expanded once per database, and those that neither has.

/// Runs the same expression with the connection's own type: for upserts (`on_conflict`), which the common type does not offer.
///
/// ```ignore
/// each_backend!(tx.conn(), c => diesel::insert_into(t).values(row).on_conflict(t::id).do_update().set(change).execute(c))
/// ```
macro_rules! each_backend {
    ($conn:expr, $c:ident => $body:expr) => {
        match $conn {
            $crate::store::Conn::Postgres($c) => $body,
            $crate::store::Conn::Sqlite($c) => $body,
        }
    };
}
pub(crate) use each_backend;

/// Deletes at most `limit` of the rows that the filter leaves, by their key, and says how many: who purges repeats it, and others get to
/// write in between.
///
/// ```ignore
/// delete_some!(tx, t, id: String, t::expires_at.lt(before.0), limit)
/// ```
macro_rules! delete_some {
    ($tx:expr, $table:ident, $key:ident: $kind:ty, $filter:expr, $limit:expr) => {{
        let keys: Vec<$kind> = $table::table.filter($filter).limit($limit).select($table::$key).load($tx.conn())?;
        diesel::delete($table::table.filter($table::$key.eq_any(keys))).execute($tx.conn())?
    }};
}
pub(crate) use delete_some;
