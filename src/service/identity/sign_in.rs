//! People sign in at a browser, and the sign-in log says so.

use std::net::IpAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::session::{self, Beginning, Signed};
use super::tap::{Attempt, Verdict};
use crate::app::App;
use crate::clock::Time;
use crate::domain::access::Reach;
use crate::domain::audit::Entry;
use crate::domain::session::Method;
use crate::domain::sign_in::SignIn;
use crate::secret::Secret;
use crate::service::Result;
use crate::service::page::{self, Found};
use crate::store::{self, Tx, audit, sign_ins, web_sessions};
use crate::wire::odata::query::Query;

/// What our own pages are called in the sign-in log.
pub const PAGES: &str = "Account pages";
/// Where the sign-in page is.
pub const PATH: &str = "/signin";
/// How much is kept of what a browser calls itself.
const LONGEST_AGENT: usize = 256;

/// From where, with what, and for what somebody signs in.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The address.
    pub address: IpAddr,
    /// How the browser calls itself.
    pub user_agent: String,
    /// For what.
    pub app: String,
}

impl Visit {
    /// A visit of somebody whose program does not matter.
    #[must_use]
    pub fn new(address: IpAddr, app: &str) -> Self {
        Self { address, user_agent: String::new(), app: app.to_owned() }
    }

    /// A visit of our pages.
    #[must_use]
    pub fn of_pages(address: IpAddr, user_agent: &str) -> Self {
        let user_agent = user_agent.chars().filter(|c| !c.is_control()).take(LONGEST_AGENT).collect();
        Self { address, user_agent, app: PAGES.into() }
    }

    pub(super) fn row(&self, method: &str, now: Time) -> SignIn {
        SignIn { user_agent: self.user_agent.clone(), ..SignIn::new(method, &self.app, &self.address.to_string(), now) }
    }
}

/// A person who has just signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// The token for the cookie.
    pub token: Secret,
    /// Who.
    pub signed: Signed,
}

impl SignedIn {
    /// The token as text.
    #[must_use]
    pub fn token(&self) -> &str {
        std::str::from_utf8(self.token.expose()).unwrap_or_default()
    }
}

/// Signs a person in with user name and pass. A one-time pass is used up by it; the session ends with the pass. The session that the
/// browser had before ends.
///
/// # Errors
/// [`Refusal::SignInFailed`](crate::domain::Refusal::SignInFailed), [`Error::Throttled`](crate::service::Error::Throttled).
pub async fn with_tap(app: &App, user_name: &str, typed: &str, visit: &Visit, before: Option<&str>) -> Result<SignedIn> {
    let attempt = Attempt::prepare(app, user_name, typed, visit).await?;
    let (token, hash) = session::new_token()?;
    let (now, origin, before) = (app.now(), visit.address.to_string(), before.map(session::hash));
    let (verdict, session) = app
        .store
        .write(move |tx| {
            let verdict = attempt.claim(tx, now)?;
            let Verdict::Good(checked) = &verdict else { return Ok((verdict, None)) };
            end_before(tx, before.as_deref())?;
            let beginning = Beginning {
                user: &checked.user.id,
                method: Method::Tap,
                method_id: checked.tap_id.as_str(),
                one_time: checked.one_time,
                until: Some(checked.expires_at),
            };
            let session = session::begin(tx, &hash, &beginning, now)?;
            let actor = format!("user:{}", checked.user.id);
            let state = json!({ "method": "tap", "tap": checked.tap_id, "for": PAGES });
            audit::append(tx, &Entry::new(&actor, "signin.success", &actor, &origin).after(&state), now)?;
            Ok((verdict, Some(session)))
        })
        .await?;
    let checked = verdict.into_result(now)?;
    let session = session.ok_or_else(|| crate::service::Error::internal(anyhow::anyhow!("a sign-in without a session")))?;
    Ok(SignedIn { token, signed: Signed { user: checked.user, session } })
}

/// Ends the session that the browser had before it signed in anew.
pub(super) fn end_before(tx: &mut Tx<'_>, before: Option<&str>) -> store::Result<()> {
    if let Some(hash) = before {
        web_sessions::delete_session(tx, hash)?;
    }
    Ok(())
}

/// The address of the sign-in page that fills in name and pass by itself. The pass is in the fragment, which browsers send to nobody, so
/// that no log has it.
#[must_use]
pub fn link(app: &App, upn: &str, pass: &str) -> String {
    format!("{}{PATH}?login_hint={}#pass={pass}", app.config.web_url(), utf8_percent_encode(upn, NON_ALPHANUMERIC))
}

/// The newest rows of the sign-in log, newest first.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App, limit: i64) -> Result<Vec<SignIn>> {
    Ok(app.store.read(move |conn| sign_ins::list_sign_ins(conn, limit.clamp(1, 1000))).await?)
}

/// A page of the sign-in log as the API asks for it.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what the log has not.
pub async fn page_rows(app: &App, query: &Query, reach: &Reach, limit: u32) -> std::result::Result<Found<SignIn>, page::Error> {
    let load = |conn: &mut store::Conn, ids: &[String]| {
        Ok(sign_ins::list_by_ids(conn, ids)?.into_iter().map(|row| (row.id.to_string(), row)).collect())
    };
    page::find(app, &sign_ins::SET, query, page::within(reach), limit, load).await
}
