//! SQLite's write path: one thread owns the only writing connection and commits what is waiting together (group commit at
//! `synchronous = FULL`). A job answers only after its commit; a job that fails is rolled back alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;

use super::{Conn, Error, Result, Tx};
use crate::domain::audit::HeadKey;

/// How many jobs share a commit at most, and how long the first of them waits at most.
const MAX_JOBS: usize = 256;
const MAX_WAIT: Duration = Duration::from_millis(5);
/// How many jobs may wait; a full queue refuses more, so that neither the memory nor anybody's wait grows.
const QUEUE: usize = 4096;

/// Says whether the commit of the job's group succeeded, to whoever waits for it.
pub(super) type Ack = Box<dyn FnOnce(std::result::Result<(), String>) + Send>;
/// Runs inside the open transaction; `None` when it failed, already answered and is to be rolled back.
pub(super) type Job = Box<dyn FnOnce(&mut Tx<'_>) -> (bool, Ack) + Send>;

/// The writer's handle; dropping it lets the last group commit and joins the thread.
pub(super) struct Writer {
    sender: Option<mpsc::SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(conn: Conn, head_key: Arc<OnceLock<HeadKey>>) -> Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(conn, &receiver, &head_key))
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    /// Queues a job.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many wait: callers of HTTP hear 503 with `Retry-After`.
    pub(super) fn submit(&self, job: Job) -> Result<()> {
        let gone = || Error::Unavailable("the writer has stopped".into());
        let sender = self.sender.as_ref().ok_or_else(gone)?;
        match sender.try_send(job) {
            Ok(()) => Ok(()),
            Err(mpsc::TrySendError::Full(_)) => Err(Error::Unavailable("too many writes are waiting".into())),
            Err(mpsc::TrySendError::Disconnected(_)) => Err(gone()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut conn: Conn, jobs: &mpsc::Receiver<Job>, head_key: &OnceLock<HeadKey>) {
    while let Ok(first) = jobs.recv() {
        let began = Instant::now();
        if let Err(error) = execute(&mut conn, "BEGIN IMMEDIATE") {
            refuse(first, &mut conn, &error.to_string());
            continue;
        }
        let mut acks = Vec::new();
        let mut whole = run_one(&mut conn, first, head_key, &mut acks);
        while whole.is_ok() && acks.len() < MAX_JOBS && began.elapsed() < MAX_WAIT {
            let Ok(next) = jobs.try_recv() else { break };
            whole = run_one(&mut conn, next, head_key, &mut acks);
        }
        let committed = whole.and_then(|()| execute(&mut conn, "COMMIT")).map_err(|e| e.to_string());
        if committed.is_err() {
            let _ = execute(&mut conn, "ROLLBACK");
        }
        metrics::counter!("muster_store_commits_total").increment(1);
        metrics::counter!("muster_store_writes_total").increment(acks.len() as u64);
        for ack in acks {
            ack(committed.clone());
        }
    }
}

/// Runs a job in its own savepoint, so that a failing one leaves the others alone.
///
/// # Errors
/// When the savepoint cannot be closed: SQLite has rolled the whole transaction back by itself (a full disk, no memory). A later savepoint
/// would then commit on its own, so that the group must end here and nobody in it may hear of success.
fn run_one(conn: &mut Conn, job: Job, head_key: &OnceLock<HeadKey>, acks: &mut Vec<Ack>) -> Result<()> {
    if execute(conn, "SAVEPOINT job").is_err() {
        refuse(job, conn, "no savepoint");
        return Ok(());
    }
    let keep = if let Ok((keep, ack)) = catch_unwind(AssertUnwindSafe(|| job(&mut Tx::new(conn, head_key.get())))) {
        acks.push(ack);
        keep
    } else {
        // The job's answer channel died with it: the caller sees an unavailable store.
        metrics::counter!("muster_store_panics_total").increment(1);
        false
    };
    if !keep {
        execute(conn, "ROLLBACK TO job")?;
    }
    execute(conn, "RELEASE job")
}

/// Answers a job whose transaction could not even begin.
fn refuse(job: Job, _conn: &mut Conn, why: &str) {
    tracing::error!(error = why, "the writer cannot begin a transaction");
    // Dropping the job drops its answer channel, which its caller reads as "unavailable".
    drop(job);
}

fn execute(conn: &mut Conn, sql: &str) -> Result<()> {
    match conn {
        Conn::Postgres(c) => c.batch_execute(sql),
        Conn::Sqlite(c) => c.batch_execute(sql),
    }
    .map_err(Error::from)
}
