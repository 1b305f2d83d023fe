//! Connections: one enum over both databases, how one is opened, and how a pool checks it.

use diesel::connection::SimpleConnection as _;
use diesel::r2d2::{ManageConnection, R2D2Connection as _};
use diesel::{Connection as _, MultiConnection, PgConnection, SqliteConnection};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{Error, Result};
use crate::clock::Time;
use crate::domain::audit::{Entry, HeadKey};

/// A connection to either database. Queries are written once; see `store::dialect` for the few that differ.
#[derive(MultiConnection)]
pub enum Conn {
    /// PostgreSQL, for more than one node.
    Postgres(PgConnection),
    /// SQLite, the default.
    Sqlite(SqliteConnection),
}

/// A connection inside a write transaction: only the writer makes one, so writing outside a transaction does not compile.
pub struct Tx<'a> {
    conn: &'a mut Conn,
    head_key: Option<&'a HeadKey>,
    /// What is written into the audit log at the end.
    entries: Vec<(Entry, Time)>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(conn: &'a mut Conn, head_key: Option<&'a HeadKey>) -> Self {
        Self { conn, head_key, entries: Vec::new() }
    }

    /// The key that marks the head of the audit log.
    pub(super) fn head_key(&self) -> Option<&'a HeadKey> {
        self.head_key
    }

    /// Keeps a row of the audit log until the end of the transaction.
    pub(super) fn keep_entry(&mut self, entry: Entry, at: Time) {
        self.entries.push((entry, at));
    }

    /// Takes the rows that were kept.
    pub(super) fn take_entries(&mut self) -> Vec<(Entry, Time)> {
        std::mem::take(&mut self.entries)
    }

    /// The connection, for reads inside the transaction and for the store's own statements.
    pub fn conn(&mut self) -> &mut Conn {
        self.conn
    }
}

/// Caches are small, as the system's own stands behind them: a reader's is void after each commit of the writer, and the writer's is looked
/// through from end to end by SQLite after each commit that balanced a tree.
const SQLITE_COMMON: &str = "PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;";

/// What means something else in a URI than in a path (RFC 3986, section 3.3; SQLite reads the path up to `?` or `#` and undoes `%XX`).
const NOT_IN_PATHS: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#');

/// Opens a connection to the database that this process holds. No other process can open it, and so its connections keep the index of the
/// log in the memory of the process: reading begins and ends without a call of the system (`unix-excl` in "The OS Backend (VFS) To SQLite").
pub(super) fn open_sqlite(path: &str) -> diesel::ConnectionResult<SqliteConnection> {
    SqliteConnection::establish(&format!("file:{}?vfs=unix-excl", utf8_percent_encode(path, NOT_IN_PATHS)))
}

/// Opens the one connection that writes.
pub(super) fn open_sqlite_writer(path: &str) -> Result<Conn> {
    let mut conn = open_sqlite(path).map_err(|e| Error::Unavailable(e.to_string()))?;
    // First how long to wait: whoever opened the file before may still be closing its last connection, which locks all of it.
    conn.batch_execute(SQLITE_COMMON)?;
    conn.batch_execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    Ok(Conn::Sqlite(conn))
}

/// Whoever needs a connection and gets none says so; the pool's tries in between are for those who look closer.
#[derive(Debug)]
pub(super) struct Quiet;

impl diesel::r2d2::HandleError<diesel::r2d2::Error> for Quiet {
    fn handle_error(&self, error: diesel::r2d2::Error) {
        tracing::debug!(%error, "no connection to the database");
    }
}

/// Makes pooled connections: read-only on SQLite, full on PostgreSQL.
#[derive(Clone, Debug)]
pub(super) enum Manager {
    Postgres(String),
    SqliteReader(String),
}

impl ManageConnection for Manager {
    type Connection = Conn;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> std::result::Result<Conn, Self::Error> {
        match self {
            Self::Postgres(url) => {
                let mut conn = PgConnection::establish(url).map_err(diesel::r2d2::Error::ConnectionError)?;
                conn.batch_execute("SET TIME ZONE 'UTC'; SET lock_timeout = '30s';").map_err(diesel::r2d2::Error::QueryError)?;
                Ok(Conn::Postgres(conn))
            }
            Self::SqliteReader(path) => {
                let mut conn = open_sqlite(path).map_err(diesel::r2d2::Error::ConnectionError)?;
                conn.batch_execute(SQLITE_COMMON).map_err(diesel::r2d2::Error::QueryError)?;
                conn.batch_execute("PRAGMA query_only = ON;").map_err(diesel::r2d2::Error::QueryError)?;
                Ok(Conn::Sqlite(conn))
            }
        }
    }

    fn is_valid(&self, conn: &mut Conn) -> std::result::Result<(), Self::Error> {
        match conn {
            Conn::Postgres(c) => c.ping(),
            Conn::Sqlite(c) => c.ping(),
        }
        .map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        match conn {
            Conn::Postgres(c) => c.is_broken(),
            Conn::Sqlite(c) => c.is_broken(),
        }
    }
}
