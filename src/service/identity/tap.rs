//! Temporary Access Passes: making and checking.
//!
//! A pass is kept as HMAC-SHA-256 of user and text under the instance's pepper: a stolen database without the master key gives no way
//! to guess passes. Wrong tries are counted per person and address and, more slowly, per address: see [`throttle`].

use std::net::IpAddr;

use super::sign_in::Visit;
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::oauth::Failure;
use crate::domain::sign_in::SignIn;
use crate::domain::tap::{self, Policy, Tap};
use crate::domain::throttle;
use crate::domain::user::User;
use crate::ids::{SignInId, TapId, UserId};
use crate::secret::{Secret, hmac_sha256, random, same};
use crate::service::directory::By;
use crate::service::{Error, Result};
use crate::store::sealed::TAP_PEPPER;
use crate::store::{self, Tx, audit, break_glass, method_policies, sign_ins, taps, throttles, users};

/// How many open passes of a user are looked at: there is one, or none.
const OPEN_PASSES: i64 = 2;
/// Longest user name that is looked up.
const LONGEST_NAME: usize = 256;

/// A pass that was just made: the only moment at which its text is known.
#[derive(Debug)]
pub struct NewTap {
    /// Identifier.
    pub id: TapId,
    /// The text, in groups of four.
    pub text: Secret,
    /// From when it is good.
    pub starts_at: Time,
    /// Until when.
    pub expires_at: Time,
}

impl NewTap {
    /// The text, for showing it once.
    #[must_use]
    pub fn show(&self) -> &str {
        std::str::from_utf8(self.text.expose()).unwrap_or_default()
    }
}

/// Makes a pass for a user, good from `starts_at` (now when `None`), in the place of the open one that the user has: what began with that
/// one ends.
///
/// # Errors
/// [`Refusal::TapLength`], [`Refusal::TapLifetime`], [`Refusal::TapLifetimeForbidden`], [`Refusal::AccountDisabled`],
/// [`Refusal::TapForOneself`]; [`Error::NotFound`] without such a user.
pub async fn create(app: &App, user: &UserId, policy: Policy, starts_at: Option<Time>, actor: &str, origin: &str) -> Result<NewTap> {
    if actor == format!("user:{user}") {
        return Err(Refusal::TapForOneself.into());
    }
    let policy = super::policy::load_tap(app).await?.apply(policy)?;
    let pepper = super::instance_key(app, TAP_PEPPER).await?;
    let text = loop {
        if let Some(text) = tap::spell(&random::<96>()?, policy.length) {
            break text;
        }
    };
    let now = app.now();
    let starts_at = starts_at.unwrap_or(now);
    let made = Tap {
        id: TapId::new(),
        user_id: user.clone(),
        mac: mac(&pepper, user.as_str(), &text)?,
        one_time: policy.one_time,
        starts_at,
        expires_at: starts_at.plus(policy.lifetime),
        used_at: None,
    };
    let answer =
        NewTap { id: made.id.clone(), text: Secret::new(tap::grouped(&text).into_bytes()), starts_at, expires_at: made.expires_at };
    let (actor, origin) = (actor.to_owned(), origin.to_owned());
    app.store
        .write(move |tx| {
            // Locked, so that of two that are made at once one is left.
            if !users::lock_user(tx, &made.user_id)?.enabled {
                return Err(Refusal::AccountDisabled.into());
            }
            let ended = taps::delete_taps(tx, &made.user_id, now)?;
            if ended > 0 {
                let entry = Entry::new(&actor, "tap.delete", format!("user:{}", made.user_id), &origin);
                audit::append(tx, &entry.before(&serde_json::json!({ "open": ended })), now)?;
            }
            taps::insert_tap(tx, &made, now)?;
            let state = serde_json::json!({
                "tap": made.id, "one_time": made.one_time, "starts_at": made.starts_at.to_string(), "expires_at": made.expires_at.to_string(),
            });
            audit::append(tx, &Entry::new(&actor, "tap.create", format!("user:{}", made.user_id), &origin).after(&state), now)
        })
        .await?;
    Ok(answer)
}

/// Ends the open passes of a user, and says how many there were. What began with them, and with one that is used up, ends.
///
/// # Errors
/// [`Error::NotFound`] without such a user.
pub async fn end_open(app: &App, user: &UserId, actor: &str, origin: &str) -> Result<usize> {
    let (user, now) = (user.clone(), app.now());
    let entry = Entry::new(actor, "tap.delete", format!("user:{user}"), origin);
    let ended = app.store.write(move |tx| {
        users::lock_user(tx, &user)?;
        let ended = taps::delete_taps(tx, &user, now)?;
        if ended > 0 {
            audit::append(tx, &entry.clone().before(&serde_json::json!({ "open": ended })), now)?;
        }
        Ok(ended)
    });
    Ok(ended.await?)
}

/// The open passes of a user, newest first.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App, user: &UserId) -> Result<Vec<Tap>> {
    let (user, now) = (user.clone(), app.now());
    Ok(app.store.read(move |conn| taps::list_taps(conn, &user, now, OPEN_PASSES)).await?)
}

/// Ends one open pass of a user.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn end(app: &App, user: &UserId, id: &TapId, by: &By) -> Result<()> {
    let (user, id, by, now) = (user.clone(), id.clone(), by.clone(), app.now());
    app.store
        .write(move |tx| {
            users::lock_user(tx, &user)?;
            taps::delete_tap(tx, &user, &id)?;
            let entry = by.entry("tap.delete", format!("user:{user}")).before(&serde_json::json!({ "tap": id }));
            audit::append(tx, &entry, now)
        })
        .await?;
    Ok(())
}

/// A user whose pass is right.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The user, who is enabled.
    pub user: User,
    /// The pass.
    pub tap_id: TapId,
    /// Whether it is good for one sign-in only.
    pub one_time: bool,
    /// When it ends, and what began with it.
    pub expires_at: Time,
}

/// Checks user name and pass. The pass is not used up: whoever completes something with it calls
/// [`claim_tap`](crate::store::taps::claim_tap) in the same transaction.
///
/// # Errors
/// [`Refusal::SignInFailed`], the same for a wrong pass, an unknown and a disabled user; [`Error::Throttled`].
pub async fn check(app: &App, user_name: &str, typed: &str, address: IpAddr) -> Result<Checked> {
    let attempt = Attempt::prepare(app, user_name, typed, &Visit::new(address, "Windows enrolment")).await?;
    let now = app.now();
    let write = move |tx: &mut Tx<'_>| {
        let verdict = attempt.decide(tx, now)?;
        attempt.log(tx, &verdict, now)?;
        Ok(verdict)
    };
    let verdict = app.store.write(write).await?;
    verdict.into_result(now)
}

/// A try, with everything computed that does not belong into a transaction.
#[derive(Clone)]
pub(super) struct Attempt {
    matched: Option<Checked>,
    target: String,
    pair: String,
    address: String,
    origin: String,
    row: SignIn,
}

/// What became of a try.
pub(super) enum Verdict {
    /// Right.
    Good(Box<Checked>),
    /// Wrong.
    Wrong,
    /// Not even looked at; until when.
    Blocked(Time),
    /// Wrong, and not logged: the address has tried too often, and the log has it; until when.
    Shut(Time),
}

impl Verdict {
    pub(super) fn into_result(self, now: Time) -> Result<Checked> {
        match self {
            Self::Good(checked) => Ok(*checked),
            Self::Wrong => Err(Refusal::SignInFailed.into()),
            Self::Blocked(until) | Self::Shut(until) => Err(Error::Throttled(u64::try_from(until.since(now) / 1000 + 1).unwrap_or(1))),
        }
    }
}

impl Attempt {
    /// Does the same work for known and unknown users.
    pub(super) async fn prepare(app: &App, user_name: &str, typed: &str, visit: &Visit) -> Result<Self> {
        let address = visit.address;
        let pepper = super::instance_key(app, TAP_PEPPER).await?;
        let name = user_name.trim().to_lowercase();
        let name = if name.len() > LONGEST_NAME { String::new() } else { name };
        let now = app.now();
        let looked_up = name.clone();
        let (user, open, taken) = app
            .store
            .read(move |c| {
                let user = users::find_user_by_upn(c, &looked_up)?;
                let id = user.as_ref().map_or_else(|| UserId::from_store(String::new()), |user| user.id.clone());
                let rules: tap::Rules = method_policies::load_policy(c, super::policy::TAP)?;
                // No policy stands in the way of an account for emergencies.
                let taken = rules.enabled || break_glass::is_named(c, &id)?;
                Ok((user, taps::list_taps(c, &id, now, OPEN_PASSES)?, taken))
            })
            .await?;
        let id = user.as_ref().map(|user| user.id.to_string()).unwrap_or_default();
        let typed = tap::normalize(typed).unwrap_or_default();
        let shown = mac(&pepper, &id, &typed)?;
        let mut right = None;
        for known in &open {
            if same(&known.mac, &shown) && known.is_usable(now) && taken {
                right = Some(known.clone());
            }
        }
        let target = user.as_ref().map_or_else(|| "user:unknown".to_owned(), |user| format!("user:{}", user.id));
        let row = visit.row("tap", now).of(user.as_ref());
        let matched = user.filter(|user| user.enabled).zip(right).map(|(user, tap)| Checked {
            user,
            tap_id: tap.id,
            one_time: tap.one_time,
            expires_at: tap.expires_at,
        });
        let origin = address.to_string();
        let caller = throttle::subscriber(address);
        // A hash keeps what was typed as a name (perhaps a password by mistake) out of the table.
        let pair = hex::encode(openssl::sha::sha256(format!("{name}\n{caller}").as_bytes()));
        Ok(Self { matched, target, pair: format!("tap:{pair}"), address: format!("tap-address:{caller}"), origin, row })
    }

    /// Counts the try and says what became of it. The row of person and address is locked until the commit, so that a hundred tries at
    /// once are a hundred tries.
    pub(super) fn decide(&self, tx: &mut Tx<'_>, now: Time) -> store::Result<Verdict> {
        // An address that is shut is so for what is wrong only: many people may stand behind it, and one of them would lock out the others.
        // A guesser gains little. What is wrong is answered alike for everybody, and counted by the name at the address all the same: five
        // tries, then one in a quarter of an hour, against the 31^8 passes that there are at least. More names at once are more passes to
        // hit, but each try is at one of them, and how many there are in all is bounded by what an address may ask anonymously.
        let address = throttles::find_throttle(tx.conn(), &self.address)?.unwrap_or_default();
        let shut = address.wait(now).map(|_| Verdict::Shut(address.blocked_until));
        let pair = throttles::claim_throttle(tx, &self.pair, now)?;
        if pair.wait(now).is_some() {
            if let Some(shut) = shut {
                return Ok(shut);
            }
            throttles::update_after_failure(tx, &self.address, &throttle::ADDRESS, now)?;
            return Ok(Verdict::Blocked(pair.blocked_until));
        }
        if let Some(checked) = &self.matched {
            throttles::delete_throttle(tx, &self.pair)?;
            return Ok(Verdict::Good(Box::new(checked.clone())));
        }
        throttles::update_after_failure(tx, &self.pair, &throttle::PAIR, now)?;
        if let Some(shut) = shut {
            return Ok(shut);
        }
        throttles::update_after_failure(tx, &self.address, &throttle::ADDRESS, now)?;
        let state = serde_json::json!({ "code": Refusal::SignInFailed.code(), "method": "tap" });
        audit::append(tx, &Entry::new("anonymous", "signin.refused", &self.target, &self.origin).after(&state), now)?;
        Ok(Verdict::Wrong)
    }
}

impl Attempt {
    /// Decides, uses the pass up when it is right, and logs the try.
    pub(super) fn claim(&self, tx: &mut Tx<'_>, now: Time) -> store::Result<Verdict> {
        let verdict = match self.decide(tx, now)? {
            // Of two at once one was faster.
            Verdict::Good(checked) if !taps::claim_tap(tx, &checked.tap_id, now)? => Verdict::Wrong,
            other => other,
        };
        self.log(tx, &verdict, now)?;
        Ok(verdict)
    }

    /// Writes the row of the sign-in log.
    pub(super) fn log(&self, tx: &mut Tx<'_>, verdict: &Verdict, now: Time) -> store::Result<()> {
        let row = SignIn { id: SignInId::new(), created_at: now, ..self.row.clone() };
        let row = match verdict {
            Verdict::Good(checked) => {
                super::break_glass::note_use(tx, &checked.user.id, "tap", &self.origin, now)?;
                row
            }
            Verdict::Shut(_) => return Ok(()),
            Verdict::Wrong => row.failed(Failure::SignInWrong.number(), Refusal::SignInFailed.text()),
            Verdict::Blocked(_) => row.failed(Failure::SignInThrottled.number(), Failure::SignInThrottled.text()),
        };
        sign_ins::insert_sign_in(tx, &row)
    }
}

fn mac(pepper: &Secret, user: &str, text: &str) -> Result<Vec<u8>> {
    Ok(hmac_sha256(pepper.expose(), format!("{user}\n{text}").as_bytes())?.to_vec())
}
