//! `/api/jobs`: what the server does by itself, when, and how it last went.

use super::status::READ;
use crate::clock::Time;
use crate::http::api::page::Page;
use crate::http::api::problem::Result;
use crate::http::api::route::{Call, Reply, routes};
use crate::http::api::schema::{At, Nothing, shown};
use crate::service::jobs;

routes! {
    /// Lists what the server does by itself: when each job runs, and how it last ended.
    Get "jobs", READ, Nothing, Nothing => 200 Page<Job>, [], list;
}

shown! {
    /// A job.
    Job {
        /// Its name.
        name: String,
        /// When it runs, as a cron expression with seconds, in UTC.
        schedule: String,
        /// When it runs next.
        next_run: At,
        /// The node that runs it now.
        runs_on: Option<String>,
        /// When it last began.
        started: Option<At>,
        /// When it last ended.
        finished: Option<At>,
        /// Why it last failed; null when it did not.
        last_error: Option<String>,
    }
}

async fn list(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Page<Job>>> {
    call.of_all()?;
    let now = call.app.now();
    let rows = jobs::list(call.app).await?.into_iter().map(|row| Job {
        name: row.name,
        schedule: row.schedule,
        next_run: Time(row.next_at).into(),
        runs_on: row.lease_owner.filter(|_| row.lease_until.is_some_and(|until| until > now.0)),
        started: row.last_started_at.map(|at| Time(at).into()),
        finished: row.last_finished_at.map(|at| Time(at).into()),
        last_error: row.last_error,
    });
    Ok(Page::whole(rows.collect()).into())
}
