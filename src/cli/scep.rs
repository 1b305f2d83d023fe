//! `muster ca scep`: challenges for those whom no profile gives one, and requests that wait for an administrator.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::find::missing;
use super::wanted::Wanted;
use super::who::Who;
use super::{output, page};
use crate::app::App;
use crate::clock::MINUTE;
use crate::domain::Refusal;
use crate::domain::authority::Status;
use crate::domain::certificate::{Renewal, show_name};
use crate::service::pki::authorize::scep_challenge::{self, NewChallenge};
use crate::service::pki::{authority, scep};
use crate::service::{Error, Result};

/// Longest life of a challenge, in minutes: 30 days.
const LONGEST: i64 = 30 * 24 * 60;

/// What is done to those who ask by SCEP, and to their requests.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Makes a challenge: the password with which a client asks once for one certificate as it is described here
    Challenge(Box<Challenge>),
    /// Shows the requests that wait, oldest first
    Pending {
        /// How many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Grants a request: its certificate is issued now
    Approve(Which),
    /// Refuses a request
    Refuse(Which),
}

/// A challenge to be made.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct Challenge {
    #[command(flatten)]
    #[serde(flatten)]
    wanted: Wanted,
    /// How long it is good, in minutes; default: `scep.challenge_minutes`
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=LONGEST))]
    minutes: Option<i64>,
    /// Lets the request wait until an administrator approves it
    #[arg(long)]
    needs_approval: bool,
    /// Lets the client renew the certificate near its end, with approval where that is needed
    #[arg(long)]
    #[serde(default)]
    renewable: bool,
}

/// One request.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct Which {
    /// The client's transaction id
    transaction: String,
    /// The authority that was asked; needed only when two were asked under one id
    #[arg(long)]
    authority: Option<String>,
}

/// Most waiting requests that are searched for an id.
const MANY: i64 = 10_000;

impl Which {
    /// The authority's name.
    async fn authority(&self, app: &App) -> Result<String> {
        if let Some(name) = &self.authority {
            return Ok(name.clone());
        }
        let pending = scep::list_pending(app, MANY).await?;
        let mut asked = pending.iter().filter(|t| t.transaction_id == self.transaction).map(|t| &t.authority_id);
        let first = asked.next().ok_or_else(|| self.missing())?;
        if asked.next().is_some() {
            return Err(Error::Conflict("several authorities were asked under this id: name one with --authority".into()));
        }
        name_of(app, first).await
    }

    fn missing(&self) -> Error {
        missing("SCEP request that waits", &self.transaction, "ca scep pending")
    }

    /// Names what was sought where a decision did not find it.
    fn sought<T>(&self, decided: Result<T>) -> Result<T> {
        decided.map_err(|error| match error {
            Error::NotFound("authority") => missing("authority", self.authority.as_deref().unwrap_or_default(), "ca list"),
            Error::NotFound(_) => self.missing(),
            other => other,
        })
    }
}

async fn name_of(app: &App, id: &crate::ids::AuthorityId) -> Result<String> {
    let all = authority::list(app).await?;
    all.iter().find(|a| a.id == *id).map(|a| a.name.clone()).ok_or(Error::NotFound("authority"))
}

/// The text is in the answer to this order, and nowhere else.
async fn challenge(app: &App, order: Challenge, who: &Who) -> Result<Value> {
    let authority = scep::resolve(app, order.wanted.authority.as_deref().unwrap_or(scep::DEFAULT)).await?;
    if authority.status != Status::Active {
        return Err(Refusal::AuthorityNotActive.into());
    }
    let mut grant = order.wanted.grant(app).await?;
    grant.renewal = match (order.renewable, order.needs_approval) {
        (false, _) => None,
        (true, true) => Some(Renewal::Approved),
        (true, false) => Some(Renewal::Free),
    };
    let minutes = order.minutes.unwrap_or_else(|| i64::from(app.config.scep.challenge_minutes)).clamp(1, LONGEST);
    let expires = app.now().plus(minutes.saturating_mul(MINUTE));
    let new = NewChallenge {
        authority: authority.id.clone(),
        device: grant.device_id.clone(),
        user: grant.user_id.clone(),
        enrollment: None,
        profile: None,
        needs_approval: order.needs_approval,
        expires: Some(expires),
        grant,
    };
    let subject = show_name(&new.grant.subject);
    let text = scep_challenge::mint_for(app, new, who.giver(), &who.by).await?;
    Ok(json!({
        "challenge": std::str::from_utf8(text.expose()).map_err(Error::internal)?,
        "url": format!("{}/scep/{}", app.config.web_url(), authority.name),
        "subject": subject,
        "expires": expires.to_string(),
    }))
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    match command {
        Command::Challenge(order) => challenge(app, *order, who).await,
        Command::Pending { limit } => {
            let mut rows = Vec::new();
            for waiting in scep::list_waiting(app, page::probe(limit)).await? {
                let transaction = &waiting.transaction;
                let grant = &transaction.grant;
                let names: Vec<String> = grant.sans.iter().map(|san| format!("{}:{}", san.kind(), san.text())).collect();
                // A profile's challenge nobody made by hand.
                let challenge = transaction.challenge_id.as_ref().filter(|_| grant.profile_id.is_none());
                rows.push(json!({
                    "transaction": transaction.transaction_id,
                    "subject": show_name(&grant.subject),
                    "names": names.join(", "),
                    "profile": waiting.profile,
                    "device": waiting.device,
                    "user": waiting.user,
                    "renews": transaction.renews.is_some(),
                    "since": transaction.created_at.to_string(),
                    "authority": name_of(app, &transaction.authority_id).await?,
                    "challenged_by": waiting.challenged_by,
                    "challenge": challenge,
                    "renews_serial": waiting.renews,
                    "device_id": grant.device_id,
                    "user_id": grant.user_id,
                    "key_sha256": transaction.signer_hash,
                }));
            }
            Ok(page::cut(rows, limit, |_| None))
        }
        Command::Approve(which) => {
            let id = which.sought(scep::approve_for(app, &which.authority(app).await?, &which.transaction, who.giver(), &who.by).await)?;
            Ok(json!({ "transaction": which.transaction, "certificate": id }))
        }
        Command::Refuse(which) => {
            which.sought(scep::refuse(app, &which.authority(app).await?, &which.transaction, &who.by.actor, &who.by.origin).await)?;
            Ok(json!({ "transaction": which.transaction, "refused": true }))
        }
    }
}

/// Requests one below the other, each whole: who decides has to see all that is asked for.
pub(super) fn render_pending(answer: &Value, width: Option<usize>) -> String {
    let mut answer = answer.clone();
    let rest = page::rest(&mut answer);
    let rows: Vec<_> = answer.as_array().into_iter().flatten().filter_map(Value::as_object).collect();
    if rows.is_empty() { output::render(&answer, width) } else { output::blocks(&rows, width) + &rest }
}
