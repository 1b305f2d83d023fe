//! The few statements that the two databases spell differently, each expanded once per database.

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
