//! Scheduled jobs: one file each; leased, so that one node runs each. A run that was missed while nothing ran is made up once at start.
//!
//! A job is idempotent: when a lease ends before the job does, another node may run it too.

use std::future::Future;
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use cron::Schedule;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Error, Result};
use crate::app::App;
use crate::clock::{HOUR, Time};
use crate::store;

/// How often a node looks for due jobs.
const TICK: Duration = Duration::from_secs(5);
/// After that time another node may take a job over.
const LEASE: i64 = HOUR;

type Run = for<'a> fn(&'a App) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A job: its name, when it runs (cron with seconds, UTC), and what it does.
pub struct Job {
    /// Its name.
    pub name: &'static str,
    /// When it runs.
    pub schedule: &'static str,
    run: Run,
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
    audit = "audit",
    certificates = "certificates",
    compliance = "compliance",
    crl = "crl",
    desired = "desired",
    leaving = "leaving",
    outbox = "outbox",
    purge = "purge",
    signing_keys = "signing-keys",
    wake = "wake",
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
    let known = app.store.read(store::jobs::list_jobs).await?;
    let now = app.now();
    let mut due = Vec::new();
    for job in JOBS {
        let row = known.iter().find(|row| row.name == job.name);
        match row {
            Some(row) if row.schedule == job.schedule => {
                if row.next_at <= now.0 {
                    due.push(job);
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
    let (node, now) = (app.node.clone(), app.now());
    if !app.store.write(move |tx| store::jobs::claim_job(tx, job.name, &node, now, now.plus(LEASE))).await? {
        return Ok(None);
    }
    let began = tokio::time::Instant::now();
    let error = (job.run)(app).await.err().map(|e| e.to_string());
    let word = if error.is_some() { "failed" } else { "done" };
    metrics::counter!("muster_job_runs_total", "job" => job.name, "outcome" => word).increment(1);
    metrics::histogram!("muster_job_seconds", "job" => job.name).record(began.elapsed().as_secs_f64());
    match &error {
        Some(error) => tracing::error!(job = job.name, error, "a job failed"),
        None => tracing::debug!(job = job.name, "a job is done"),
    }
    let (node, now) = (app.node.clone(), app.now());
    let (next, why) = (next_run(job.schedule, now)?, error.clone());
    app.store.write(move |tx| store::jobs::update_finished(tx, job.name, &node, next, now, why.as_deref())).await?;
    Ok(Some(Ended { name: job.name, error }))
}

/// The node's job runner at work.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Lets the jobs that run finish, and ends.
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
        loop {
            if let Err(error) = run_due(&app).await {
                tracing::warn!(%error, "the jobs cannot be read");
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                _ = stopped.changed() => break,
            }
        }
    });
    Running { stop, task }
}

#[cfg(test)]
mod tests {
    use super::*;

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
