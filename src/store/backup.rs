//! Copies of a SQLite database, and the way back.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query, sql_types};

use super::conn::open_sqlite;
use super::{Error, Result, hold, lock_file, private_file, real_path, unavailable};

/// Where a restored database says so in `meta`, until the first start after it.
pub const RESTORED: &str = "restored";

/// What is known of a restoration.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
pub struct Note {
    /// Who restored: `cli:<user>`.
    pub by: String,
    /// The copy, or `postgresql` when it was restored by other means.
    pub from: String,
    /// When, RFC 3339.
    pub at: String,
}

#[derive(QueryableByName)]
struct Said {
    #[diesel(sql_type = sql_types::Text)]
    text: String,
}

/// Copies the database while it is in use, on a connection of its own (the pool's may only read, and the writer's is in a transaction).
pub(super) fn copy(source: &str, target: &Path) -> Result<()> {
    let text = target.to_str().ok_or_else(|| Error::Unavailable("the path is not UTF-8".into()))?;
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Conflict(format!("{} exists already: name a file that does not", target.display())),
        _ => Error::Unavailable(format!("{}: {e}", target.display())),
    };
    // SQLite writes into a file that is there if it is empty; so it never exists with wider rights.
    drop(std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).map_err(failed)?);
    let copied = open_sqlite(source).map_err(unavailable).and_then(|mut conn| {
        conn.batch_execute("PRAGMA busy_timeout = 10000")?;
        sql_query("VACUUM INTO $1").bind::<sql_types::Text, _>(text).execute(&mut conn)?;
        Ok(())
    });
    if copied.is_err() {
        drop(std::fs::remove_file(target));
    }
    copied
}

/// Puts a copy in the place of a database that no process has open, with a note that it is a copy. What was there is kept beside it; the
/// answer is where.
///
/// # Errors
/// [`Error::Unavailable`] when the copy is damaged or no database of ours, when a process has the database open, or when a file cannot be
/// written.
pub fn restore(copy: &Path, target: &Path, stamp: &str, note: &Note) -> Result<Option<PathBuf>> {
    let target = &real_path(target)?;
    let _lock = lock_file(target)?;
    let _held = if target.is_file() { Some(hold(private_file(target)?, target)?) } else { None };
    check(copy)?;
    let failed = |e: std::io::Error| Error::Unavailable(format!("{}: {e}", target.display()));
    let draft = target.with_extension("restoring");
    // A draft that a crash left behind would keep the mode it has: the file is always a new one.
    match std::fs::remove_file(&draft) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    std::io::copy(&mut std::fs::File::open(copy).map_err(failed)?, &mut file).map_err(failed)?;
    write_note(&draft, note)?;
    file.sync_all().map_err(failed)?;
    // Whatever was kept before stays.
    let name = |n: u32| target.with_extension(if n == 0 { format!("before-{stamp}") } else { format!("before-{stamp}-{n}") });
    let kept = (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
    let had_one = target.is_file();
    if had_one {
        // What stands in the log belongs into the file before the file moves.
        let text = target.to_str().ok_or_else(|| Error::Unavailable("the path is not UTF-8".into()))?;
        let mut old = SqliteConnection::establish(text).map_err(unavailable)?;
        old.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA wal_checkpoint(TRUNCATE)")?;
        std::fs::rename(target, &kept).map_err(failed)?;
    }
    for ending in ["-wal", "-shm"] {
        let mut name = target.as_os_str().to_owned();
        name.push(ending);
        drop(std::fs::remove_file(PathBuf::from(name)));
    }
    std::fs::rename(&draft, target).map_err(failed)?;
    // The new name survives a power cut only once its directory is on the disk.
    let directory = target.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::File::open(directory).and_then(|d| d.sync_all()).map_err(failed)?;
    Ok(had_one.then_some(kept))
}

/// A value that a copy has in `meta`; `None` where it has none or cannot be read.
#[must_use]
pub fn find_value_in(copy: &Path, key: &str) -> Option<String> {
    let mut conn = SqliteConnection::establish(copy.to_str().filter(|_| copy.is_file())?).ok()?;
    let found: Vec<Said> =
        sql_query("SELECT value AS text FROM meta WHERE key = $1").bind::<sql_types::Text, _>(key).load(&mut conn).ok()?;
    found.into_iter().next().map(|said| said.text)
}

/// Says in a copy that it was restored.
fn write_note(draft: &Path, note: &Note) -> Result<()> {
    let text = draft.to_str().ok_or_else(|| Error::Unavailable("the path is not UTF-8".into()))?;
    let mut conn = SqliteConnection::establish(text).map_err(unavailable)?;
    // Nothing stays in a log beside the file, which is to be moved alone.
    conn.batch_execute("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL")?;
    sql_query("INSERT OR REPLACE INTO meta (key, value) VALUES ($1, $2)")
        .bind::<sql_types::Text, _>(RESTORED)
        .bind::<sql_types::Text, _>(serde_json::to_string(note)?)
        .execute(&mut conn)?;
    Ok(())
}

/// The file is a whole database of ours.
fn check(copy: &Path) -> Result<()> {
    let shown = copy.display();
    let text = copy.to_str().filter(|_| copy.is_file()).ok_or_else(|| Error::Unavailable(format!("{shown}: no such file")))?;
    let mut conn = SqliteConnection::establish(text).map_err(unavailable)?;
    let wrong = |why: String| Error::Unavailable(format!("{shown} is not a whole copy of a muster database: {why}"));
    let said: Vec<Said> =
        sql_query("SELECT integrity_check AS text FROM pragma_integrity_check").load(&mut conn).map_err(|e| wrong(e.to_string()))?;
    if said.first().is_none_or(|s| s.text != "ok") {
        return Err(wrong(said.into_iter().map(|s| s.text).collect()));
    }
    let tenant: Vec<Said> =
        sql_query("SELECT value AS text FROM meta WHERE key = 'tenant'").load(&mut conn).map_err(|e| wrong(e.to_string()))?;
    if tenant.is_empty() { Err(wrong("no organisation in it".into())) } else { Ok(()) }
}
