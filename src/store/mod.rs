//! All SQL, on SQLite and PostgreSQL; the writer; the read pool.
//!
//! Use cases choose the transaction: [`Store::read`] and [`Store::write`]. A function that writes takes a [`Tx`], which only a write
//! transaction has. One file per aggregate; rows are private to it, domain types come in and go out.

pub mod acme_clients;
pub mod apple;
pub mod applications;
pub mod assignments;
pub mod audit;
pub mod authorities;
pub mod autopilot;
pub mod backup;
pub mod break_glass;
pub mod ceremonies;
pub mod certificates;
pub mod changes;
pub mod clock;
pub mod commands;
pub mod compliance;
pub mod conn;
pub mod crls;
pub mod deleted_members;
pub mod desired_items;
pub mod device_codes;
pub mod devices;
pub(crate) mod dialect;
pub mod dm_sessions;
pub mod enrollment_tokens;
pub mod enrollments;
mod error;
pub mod facts;
pub mod grants;
pub mod group_rules;
pub mod groups;
pub mod inventory;
pub mod issued_keys;
pub mod jobs;
pub mod location;
pub mod message_signatures;
pub mod meta;
pub mod method_policies;
pub mod ocsp_responses;
pub mod odata;
pub mod outbox;
pub mod passkeys;
pub mod pfx;
pub mod profiles;
pub mod provision;
pub mod receivers;
pub mod registration_tokens;
pub mod roles;
pub mod scep;
pub mod schema;
pub mod sealed;
pub mod sign_ins;
pub mod signing_keys;
pub mod standings;
pub mod subscriptions;
pub mod taps;
pub mod targets;
pub mod throttles;
pub mod users;
pub mod web_sessions;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use diesel::r2d2::Pool;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use tokio::sync::oneshot;

pub use conn::{Conn, Tx};
pub use error::{Error, Result};
pub use location::Location;

use crate::domain::audit::HeadKey;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
/// How long to wait for a connection where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a PostgreSQL transaction that lost against another is run again.
/// How long a server has to turn us away; one that is slower is waited for like one that is not there.
const ANSWER: Duration = Duration::from_secs(5);
const RETRIES: usize = 8;

/// The database: cheap to clone, shared by all.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    pool: Pool<conn::Manager>,
    writer: Option<writer::Writer>,
    /// The SQLite file.
    path: Option<String>,
    /// The key that marks the head of the audit log, once the instance is opened.
    head_key: Arc<OnceLock<HeadKey>>,
    /// Why the last write failed, if it did so for the database's sake.
    trouble: Mutex<Option<String>>,
    /// Held as long as the process writes: one process owns a SQLite file.
    _locks: Vec<Lock>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.writer.is_some() { "Store(sqlite)" } else { "Store(postgres)" })
    }
}

impl Store {
    /// Opens the database, migrates it, and starts the writer.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it cannot be reached, or when another process has the SQLite file open (the text says so).
    pub fn open(location: &Location, pool_size: u32) -> Result<Self> {
        Self::open_within(location, pool_size, PATIENCE)
    }

    /// The same with another patience: how long to wait for a connection, now and whenever one is needed.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn open_within(location: &Location, pool_size: u32, patience: Duration) -> Result<Self> {
        let builder = Pool::builder()
            .max_size(pool_size.max(1))
            .min_idle(Some(1))
            .test_on_check_out(false)
            .connection_timeout(patience)
            .error_handler(Box::new(conn::Quiet));
        match location {
            Location::Postgres(url) => {
                turned_away(url, patience)?;
                let pool = builder.build(conn::Manager::Postgres(url.clone())).map_err(|error| unreachable(url, patience, &error))?;
                let mut first = pool.get().map_err(unavailable)?;
                if let Conn::Postgres(c) = &mut *first {
                    // Two nodes may start at once: the advisory lock lets one of them migrate.
                    use diesel::connection::SimpleConnection as _;
                    c.batch_execute("SELECT pg_advisory_lock(7709512300)")?;
                    let done = c.run_pending_migrations(POSTGRES).map(|_| ()).map_err(|e| Error::Unavailable(format!("migration: {e}")));
                    c.batch_execute("SELECT pg_advisory_unlock(7709512300)")?;
                    done?;
                }
                drop(first);
                Ok(Self(Arc::new(Inner {
                    pool,
                    writer: None,
                    path: None,
                    head_key: Arc::default(),
                    trouble: Mutex::default(),
                    _locks: Vec::new(),
                })))
            }
            Location::Sqlite(path) => {
                let path = real_path(path)?;
                let lock = lock_file(&path)?;
                let text = path.to_str().ok_or_else(|| Error::Unavailable("the database path is not UTF-8".into()))?;
                // SQLite gives its other files the rights of this one. The file itself is held, too: another name of it has a lock file of
                // its own.
                let held = hold(private_file(&path)?, &path)?;
                let mut conn = conn::open_sqlite_writer(text)?;
                if let Conn::Sqlite(c) = &mut conn {
                    c.run_pending_migrations(SQLITE).map_err(|e| Error::Unavailable(format!("migration: {e}")))?;
                }
                let pool = builder.build(conn::Manager::SqliteReader(text.to_owned())).map_err(unavailable)?;
                let head_key = Arc::<OnceLock<HeadKey>>::default();
                let writer = writer::Writer::start(conn, Arc::clone(&head_key))?;
                Ok(Self(Arc::new(Inner {
                    pool,
                    writer: Some(writer),
                    path: Some(text.to_owned()),
                    head_key,
                    trouble: Mutex::default(),
                    _locks: vec![lock, held],
                })))
            }
        }
    }

    /// From now on the head of the audit log is marked with this key; the first one stays.
    pub fn mark_heads(&self, key: HeadKey) {
        drop(self.0.head_key.set(key));
    }

    /// The key that marks the head of the audit log; `None` before the instance is opened.
    #[must_use]
    pub fn head_key(&self) -> Option<&HeadKey> {
        self.0.head_key.get()
    }

    /// Whether other processes may work on this database at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.writer.is_none()
    }

    /// Runs `job` on a reading connection, off the async threads.
    ///
    /// # Errors
    /// The job's, or [`Error::Unavailable`] when no connection is to be had.
    pub async fn read<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.read_here(job)).await.map_err(unavailable)?
    }

    /// [`Store::read`] for callers that are off the async threads already.
    ///
    /// # Errors
    /// As for [`Store::read`].
    pub fn read_here<T>(&self, job: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        job(&mut *self.0.pool.get().map_err(unavailable)?)
    }

    /// Looks something up by an index: like [`Store::read`], but where the database is a file of our own the lookup runs on the calling
    /// thread, because changing threads costs several times the lookup. For jobs of a few rows only: everybody on the thread waits.
    ///
    /// # Errors
    /// The job's, or [`Error::Unavailable`] when no connection is to be had.
    pub async fn look_up<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    {
        if self.0.writer.is_some()
            && let Some(mut conn) = self.0.pool.try_get()
        {
            return job(&mut conn);
        }
        self.read(job).await
    }

    /// Runs `job` on a reading connection where all of its reads see the database at one moment, off the async threads.
    ///
    /// # Errors
    /// As for [`Store::read`].
    pub async fn snapshot<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    {
        use diesel::Connection as _;
        self.read(|conn| {
            conn.transaction(|conn| {
                // A transaction of SQLite's sees one moment as it is.
                if let Conn::Postgres(c) = conn {
                    use diesel::connection::SimpleConnection as _;
                    c.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
                }
                job(conn)
            })
        })
        .await
    }

    /// Runs `job` in a write transaction and returns after it is durable. Any error rolls it back.
    ///
    /// The job may run more than once (a PostgreSQL transaction that lost is repeated), so it changes nothing but the database. Keep
    /// network, crypto and file work out of it: on SQLite everybody waits for it.
    ///
    /// # Errors
    /// The job's, or [`Error::Unavailable`] when it could not be committed.
    pub async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let outcome = self.write_now(job).await;
        let trouble = match &outcome {
            Ok(_) => None,
            Err(Error::Database(_) | Error::Unavailable(_)) => outcome.as_ref().err().map(ToString::to_string),
            // Says nothing of the database.
            Err(_) => return outcome,
        };
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        outcome
    }

    /// Why the last write failed; `None` when it was done, or was refused for its own sake.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn write_now<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let Some(writer) = &self.0.writer else {
            let inner = Arc::clone(&self.0);
            return tokio::task::spawn_blocking(move || postgres_write(&inner, &job)).await.map_err(unavailable)?;
        };
        let (answer, answered) = oneshot::channel::<Result<T>>();
        writer.submit(Box::new(move |tx| {
            let outcome = whole(tx, &job);
            let keep = outcome.is_ok();
            let ack: writer::Ack = Box::new(move |committed| {
                let _ = answer.send(outcome.and_then(|value| committed.map(|()| value).map_err(Error::Unavailable)));
            });
            (keep, ack)
        }))?;
        answered.await.map_err(|_| Error::Unavailable("the write did not finish".into()))?
    }

    /// Writes a consistent copy of a SQLite database to `target`, which must not exist; only its owner can read it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] on PostgreSQL (use `pg_dump`) or when the copy fails.
    pub async fn backup(&self, target: &Path) -> Result<()> {
        let Some(source) = self.0.path.clone() else {
            return Err(Error::Unavailable("this database is PostgreSQL: back it up with pg_dump".into()));
        };
        let target = target.to_owned();
        tokio::task::spawn_blocking(move || backup::copy(&source, &target)).await.map_err(unavailable)?
    }
}

/// A transaction's work, and then its rows in the audit log.
fn whole<T>(tx: &mut Tx<'_>, job: &impl Fn(&mut Tx<'_>) -> Result<T>) -> Result<T> {
    let done = job(tx)?;
    audit::write_kept(tx)?;
    Ok(done)
}

fn postgres_write<T>(inner: &Inner, job: &(impl Fn(&mut Tx<'_>) -> Result<T> + Send)) -> Result<T> {
    use diesel::Connection as _;
    let mut conn = inner.pool.get().map_err(unavailable)?;
    let mut tries = 0;
    loop {
        match conn.transaction(|c| whole(&mut Tx::new(c, inner.head_key.get()), job)) {
            Err(Error::Busy) if tries < RETRIES => tries += 1,
            other => return other,
        }
    }
}

/// Does not wait for a server that is there and says that it never will let us in.
fn turned_away(url: &str, patience: Duration) -> Result<()> {
    let (asked, answered) = std::sync::mpsc::channel();
    let own = url.to_owned();
    // A server that says nothing holds up this thread alone.
    std::thread::spawn(move || {
        use diesel::Connection as _;
        let _ = asked.send(diesel::PgConnection::establish(&own).err());
    });
    let Ok(Some(diesel::ConnectionError::BadConnection(said))) = answered.recv_timeout(patience.min(ANSWER)) else { return Ok(()) };
    let lasting = ["does not exist", "authentication failed", "no pg_hba.conf entry", "is not permitted to log in"];
    // Of several servers each has its line; one that may still come is waited for.
    let lines = || said.lines().filter(|line| !line.trim().is_empty());
    let whys: Vec<&str> = lines().filter_map(|line| Some(line.split_once("FATAL:")?.1.trim())).collect();
    let all = whys.len() == lines().count() && whys.iter().all(|why| lasting.iter().any(|known| why.contains(known)));
    match (whys.first().filter(|_| all), location::place(url)) {
        (Some(why), Ok(place)) => Err(Error::Unavailable(format!("PostgreSQL at {place} turns us away ({why}); see `database`"))),
        _ => Ok(()),
    }
}

/// In one line which server cannot be reached and why, without the password.
fn unreachable(url: &str, patience: Duration, error: &diesel::r2d2::PoolError) -> Error {
    let said = error.to_string();
    let why = said.lines().next().unwrap_or_default().trim_start_matches("timed out waiting for connection: ");
    let (place, why) = match location::place(url) {
        // A URL that the database's own library does not understand is in its words.
        Ok(place) if why.contains("://") || why.contains("URI") => (place, "the URL cannot be read"),
        Ok(place) => (place, why),
        // What it says may repeat a part of the password.
        Err(place) => (place, "the URL is not clear: write special characters of user and password as %XX"),
    };
    Error::Unavailable(format!(
        "PostgreSQL at {place} cannot be reached within {} s ({why}); see `database` and `database_wait_seconds`",
        patience.as_secs()
    ))
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(error.to_string())
}

/// A held advisory lock. It is given back by name: a child that this process is just starting has a handle of it, too, and closing ours
/// would leave it locked until the child has begun.
struct Lock(std::fs::File);

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

/// The same file by the name that every process finds it under, whatever links lead to it.
///
/// # Errors
/// [`Error::Unavailable`] when its folder does not exist.
fn real_path(path: &Path) -> Result<PathBuf> {
    let failed = |e: std::io::Error| Error::Unavailable(format!("{}: {e}", path.display()));
    match path.canonicalize() {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            let name = path.file_name().ok_or_else(|| failed(error))?;
            Ok(folder.canonicalize().map_err(failed)?.join(name))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Opens a file for writing; one that is made now is its owner's only.
fn private_file(path: &Path) -> Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let opened = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    opened.map_err(|e| Error::Unavailable(format!("{}: {e}", path.display())))
}

/// Takes the advisory lock that says "this process writes this file", by its [`real_path`].
fn lock_file(path: &Path) -> Result<Lock> {
    let lock_path = path.with_extension("lock");
    hold(private_file(&lock_path)?, path)
}

/// Locks an open file of the database at `path`. SQLite's own locks are of another kind (POSIX), which these do not touch while the file
/// stays open.
fn hold(file: std::fs::File, path: &Path) -> Result<Lock> {
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Unavailable(format!(
            "another muster process has {} open; stop it first, or use PostgreSQL for more than one node",
            path.display()
        ))),
        Err(std::fs::TryLockError::Error(e)) => Err(Error::Unavailable(format!("{}: {e}", path.display()))),
    }
}
