//! Sessions of people at a browser: rows, so that any node knows them and they end when somebody says so. The browser holds a random
//! token, the database only its hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::sha::sha256;

use crate::app::App;
use crate::clock::{MINUTE, Time};
use crate::domain::session::{FRESH, FRESH_ONE_TIME, LONGEST, Method, Session};
use crate::domain::user::User;
use crate::ids::UserId;
use crate::secret::{Secret, random};
use crate::service::Result;
use crate::store::{self, Tx, audit, users, web_sessions};

use crate::service::directory::By;

/// How exact the moment of last use is.
const SEEN_EVERY: i64 = 5 * MINUTE;

/// A token for a cookie or a page, and the hash by which it is known.
pub(super) fn new_token() -> Result<(Secret, String)> {
    let text = URL_SAFE_NO_PAD.encode(random::<32>()?);
    let hash = hash(&text);
    Ok((Secret::new(text.into_bytes()), hash))
}

/// 256 random bits need no more than a plain hash, and looking it up tells nothing by its time.
pub(super) fn hash(token: &str) -> String {
    hex::encode(sha256(token.as_bytes()))
}

/// With what a session begins.
pub(super) struct Beginning<'a> {
    pub(super) user: &'a UserId,
    pub(super) method: Method,
    pub(super) method_id: &'a str,
    pub(super) one_time: bool,
    /// When the method itself ends.
    pub(super) until: Option<Time>,
}

/// Begins a session in the transaction of the sign-in.
pub(super) fn begin(tx: &mut Tx<'_>, hash: &str, beginning: &Beginning<'_>, now: Time) -> store::Result<Session> {
    let session = Session {
        hash: hash.to_owned(),
        user_id: beginning.user.clone(),
        method: beginning.method,
        method_id: beginning.method_id.to_owned(),
        authenticated_at: now,
        last_seen_at: now,
        fresh_until: now.plus(if beginning.one_time { FRESH_ONE_TIME } else { FRESH }),
        ends_at: beginning.until.map_or(now.plus(LONGEST), |until| until.min(now.plus(LONGEST))),
    };
    web_sessions::insert_session(tx, &session)?;
    Ok(session)
}

/// A person who is signed in.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Who, and enabled.
    pub user: User,
    /// Since when, and how.
    pub session: Session,
}

/// Who holds that token; `None` when the session is unknown or over, or the account is disabled.
///
/// # Errors
/// Only the database's own.
pub async fn find(app: &App, token: &str) -> Result<Option<Signed>> {
    let (hash, now) = (hash(token), app.now());
    let found = app
        .store
        .read(move |conn| {
            let Some(session) = web_sessions::find_session(conn, &hash)?.filter(|session| session.is_good(now)) else { return Ok(None) };
            let user = users::load_user(conn, &session.user_id)?;
            Ok(Some(Signed { user, session }).filter(|signed| signed.user.enabled))
        })
        .await;
    let found = match found {
        Err(store::Error::NotFound) => None,
        other => other?,
    };
    if let Some(signed) = &found
        && now.since(signed.session.last_seen_at) >= SEEN_EVERY
    {
        let hash = signed.session.hash.clone();
        app.store.write(move |tx| web_sessions::update_seen(tx, &hash, now)).await?;
    }
    Ok(found)
}

/// Whether the person is still signed in, in a transaction that gives something away for it: whoever ends sessions takes the user first, so
/// that nothing is given after it was ended.
pub(super) fn holds(tx: &mut Tx<'_>, signed: &Signed, now: Time) -> store::Result<bool> {
    let user = match users::lock_user(tx, &signed.user.id) {
        Err(store::Error::NotFound) => return Ok(false),
        other => other?,
    };
    Ok(user.enabled && web_sessions::find_session(tx.conn(), &signed.session.hash)?.is_some_and(|session| session.is_good(now)))
}

/// Ends a session.
///
/// # Errors
/// Only the database's own.
pub async fn end(app: &App, signed: &Signed, origin: &str) -> Result<()> {
    let (hash, now) = (signed.session.hash.clone(), app.now());
    let actor = format!("user:{}", signed.user.id);
    let entry = By { actor: actor.clone(), origin: origin.to_owned() }.entry("session.end", actor);
    app.store
        .write(move |tx| {
            if web_sessions::delete_session(tx, &hash)? {
                audit::append(tx, &entry, now)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// Ends all sessions of a user, and says how many there were.
///
/// # Errors
/// [`Error::NotFound`](crate::service::Error::NotFound) without such a user.
pub async fn end_all(app: &App, user: &UserId, by: &By) -> Result<usize> {
    let (user, by, now) = (user.clone(), by.clone(), app.now());
    let ended = app.store.write(move |tx| {
        users::lock_user(tx, &user)?;
        let ended = web_sessions::delete_of_user(tx, &user)?;
        audit::append(tx, &by.entry("session.end-all", format!("user:{user}")).before(&serde_json::json!({ "sessions": ended })), now)?;
        Ok(ended)
    });
    Ok(ended.await?)
}
