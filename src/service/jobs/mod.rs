//! Scheduled jobs: one file each; leased, so that one node runs each. A run that was missed while nothing ran is made up once at start.
//!
//! A job is idempotent: when a lease ends before the job does, another node may run it too. When a job is due and a lease over is told by
//! the clock that the nodes have in common, so that a node whose own clock is wrong takes nothing from the others.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use cron::Schedule;
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{Error, Result};
use crate::app::App;
use crate::clock::{MINUTE, Time};
use crate::store;

/// How often a node looks for due jobs.
const TICK: Duration = Duration::from_secs(5);
/// After that time without a word of the node that runs a job, another one may take it over.
const LEASE: i64 = 2 * MINUTE;
/// How often a node says that it still runs a job.
const BEAT: Duration = Duration::from_secs(30);
/// How long a stopping node waits for its jobs; another one, or the next start, does them again.
const STOP: Duration = Duration::from_secs(20);

/// What a job does.
pub type Run = for<'a> fn(&'a App) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A job: its name, when it runs (cron with seconds, UTC), and what it does.
pub struct Job {
    /// Its name.
    pub name: &'static str,
    /// When it runs.
    pub schedule: &'static str,
    /// What it does.
    pub run: Run,
}

/// Declares the jobs: module (which has `SCHEDULE` and `run(&App)`) and name.
macro_rules! jobs {
    ($($module:ident = $name:literal),+ $(,)?) => {
        $(mod $module;)+

        /// Every job.
        pub const JOBS: &[Job] = &[$(Job { name: $name, schedule: $module::SCHEDULE, run: |app| Box::pin($module::run(app)) }),+];
    };
}

jobs! {
    ade = "ade",
    audit = "audit",
    certificates = "certificates",
    compliance = "compliance",
    crl = "crl",
    desired = "desired",
    group_rules = "group-rules",
    leaving = "leaving",
    licences = "licences",
    outbox = "outbox",
    purge = "purge",
    signing_keys = "signing-keys",
    subscriptions = "subscriptions",
    wake = "wake",
}

/// What is known of each job: when it runs, and how it last ended. One that this version has not any more is left out, and one that never ran
/// yet has no row.
///
/// # Errors
/// When the database fails.
pub async fn list(app: &App) -> Result<Vec<store::jobs::Row>> {
    let mut rows = app.store.read(store::jobs::list_jobs).await?;
    rows.retain(|row| JOBS.iter().any(|job| job.name == row.name));
    Ok(rows)
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The job.
    pub name: &'static str,
    /// Its error.
    pub error: Option<String>,
}

/// The first moment after `now` that the schedule names.
///
/// # Errors
/// When the schedule does not parse.
pub fn next_run(schedule: &str, now: Time) -> Result<Time> {
    let schedule = Schedule::from_str(schedule).map_err(Error::internal)?;
    let from = DateTime::<Utc>::from_timestamp_millis(now.0).unwrap_or_default();
    // A schedule without a future moment never runs again.
    Ok(schedule.after(&from).next().map_or(Time(i64::MAX), |at| Time(at.timestamp_millis())))
}

/// Runs every job that is due, side by side, and says how they ended. A job that this database does not know yet is due at once.
///
/// # Errors
/// When the database fails.
pub async fn run_due(app: &App) -> Result<Vec<Ended>> {
    run_due_of(app, JOBS).await
}

/// The same with other jobs: for tests.
///
/// # Errors
/// When the database fails.
pub async fn run_due_of(app: &App, jobs: &'static [Job]) -> Result<Vec<Ended>> {
    let known = app.store.read(store::jobs::list_jobs).await?;
    let now = app.common_now().await?;
    let mut due = Vec::new();
    for job in jobs {
        let row = known.iter().find(|row| row.name == job.name);
        match row {
            Some(row) if row.schedule == job.schedule => {
                let next = next_run(job.schedule, now)?;
                if row.next_at <= now.0 {
                    due.push(job);
                } else if row.next_at > next.0 {
                    // Written while the clock was ahead of itself.
                    app.store.write(move |tx| store::jobs::upsert_job(tx, job.name, job.schedule, next)).await?;
                }
            }
            changed => {
                let at = if changed.is_some() { next_run(job.schedule, now)? } else { now };
                app.store.write(move |tx| store::jobs::upsert_job(tx, job.name, job.schedule, at)).await?;
                if at <= now {
                    due.push(job);
                }
            }
        }
    }
    let ended = futures_util::future::join_all(due.into_iter().map(|job| run_one(app, job))).await;
    Ok(ended.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

async fn run_one(app: &App, job: &'static Job) -> Result<Option<Ended>> {
    let (node, now) = (app.node.clone(), app.common_now().await?);
    if !app.store.write(move |tx| store::jobs::claim_job(tx, job.name, &node, now, now.plus(LEASE))).await? {
        return Ok(None);
    }
    let began = tokio::time::Instant::now();
    // A job that panics has failed: it runs again by its schedule, and the others go on.
    let run = AssertUnwindSafe((job.run)(app)).catch_unwind();
    let ended = tokio::select! {
        ended = run => ended,
        () = keep(app, job) => Ok(Ok(())),
    };
    let error = match ended {
        Ok(result) => result.err().map(|e| e.to_string()),
        Err(_) => {
            metrics::counter!("muster_panics_total").increment(1);
            Some("it panicked".to_owned())
        }
    };
    let word = if error.is_some() { "failed" } else { "done" };
    metrics::counter!("muster_job_runs_total", "job" => job.name, "outcome" => word).increment(1);
    metrics::histogram!("muster_job_seconds", "job" => job.name).record(began.elapsed().as_secs_f64());
    match &error {
        Some(error) => tracing::error!(job = job.name, error, "a job failed"),
        None => tracing::debug!(job = job.name, "a job is done"),
    }
    let (node, now) = (app.node.clone(), app.common_now().await?);
    let (next, why) = (next_run(job.schedule, now)?, error.clone());
    app.store.write(move |tx| store::jobs::update_finished(tx, job.name, &node, next, now, why.as_deref())).await?;
    Ok(Some(Ended { name: job.name, error }))
}

/// Keeps a job's lease while it runs; never ends.
async fn keep(app: &App, job: &'static Job) {
    loop {
        tokio::time::sleep(BEAT).await;
        let kept = async {
            let (node, until) = (app.node.clone(), app.common_now().await?.plus(LEASE));
            app.store.write(move |tx| store::jobs::update_lease(tx, job.name, &node, until)).await
        };
        if let Err(error) = kept.await {
            tracing::warn!(%error, job = job.name, "a job's lease cannot be kept");
        }
    }
}

/// The node's job runner at work.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Lets the jobs that run finish, for a while, and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Starts the node's job runner.
#[must_use]
pub fn start(app: Arc<App>) -> Running {
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        // A job that takes long holds up no other: each look is a task of its own, and leases keep a job from running twice.
        let mut looks = JoinSet::new();
        loop {
            let app = Arc::clone(&app);
            looks.spawn(async move {
                if let Err(error) = run_due(&app).await {
                    tracing::warn!(%error, "the jobs cannot be read");
                }
            });
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                _ = stopped.changed() => break,
            }
            while looks.try_join_next().is_some() {}
        }
        let finish = async { while looks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP, finish).await.is_err() {
            tracing::warn!("jobs that take long were left: they run again");
        }
    });
    Running { stop, task }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HOUR;

    #[test]
    fn every_schedule_has_a_next_moment_and_names_are_unique() {
        let now = Time::parse("2026-02-28T23:59:59Z").unwrap();
        for job in JOBS {
            let next = next_run(job.schedule, now).unwrap();
            assert!(next > now && next.since(now) <= 7 * 24 * HOUR, "{}", job.name);
            assert_eq!(JOBS.iter().filter(|j| j.name == job.name).count(), 1);
        }
        assert!(next_run("not a schedule", now).is_err());
    }
}
