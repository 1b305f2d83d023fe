//! Pages of the API's sets: where the next one begins is told to the caller as a token that only this server makes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::sha::sha256;
use serde::{Deserialize, Serialize};

use super::Result;
use super::identity::instance_key;
use crate::app::App;
use crate::domain::access::Reach;
use crate::secret::{hmac_sha256, same};
use crate::store::Conn;
use crate::store::odata::{self, Last, Page, Refused, Set, Within};
use crate::store::sealed::PAGE_KEY;
use crate::wire::odata::Wrong;
use crate::wire::odata::filter::Expr;
use crate::wire::odata::query::Query;

/// What comes of a query.
#[derive(Debug)]
pub struct Found<T> {
    /// The objects of the page.
    pub objects: Vec<T>,
    /// The token of the next page.
    pub next: Option<String>,
    /// How many there are in all, when that was asked.
    pub count: Option<i64>,
}

/// A query that is not taken, or a failure.
#[derive(Debug)]
pub enum Error {
    /// The query is wrong.
    Wrong(Wrong),
    /// What was asked goes on from a place that is not known any more.
    Resync,
    /// Something failed.
    Service(super::Error),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Wrong(wrong) => Self::Wrong(wrong),
            Refused::Store(error) => Self::Service(error.into()),
        }
    }
}

impl<E: Into<super::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

/// What a right is bound to, as a query has it.
#[must_use]
pub fn within(reach: &Reach) -> Vec<Within> {
    match reach {
        Reach::All => Vec::new(),
        Reach::Groups(groups) => vec![Within::Groups(groups.iter().cloned().collect())],
    }
}

#[derive(Serialize, Deserialize)]
struct Token {
    set: String,
    query: String,
    last: Last,
}

/// What a token belongs to: it leads on in the same question only.
fn fingerprint(query: &Query, within: &[Within]) -> String {
    let asked = format!("{:?} {:?} {:?} {within:?}", query.filter, query.order_by, query.search);
    hex::encode(sha256(asked.as_bytes()).get(..16).unwrap_or_default())
}

/// The objects of a page, at most `limit`, as `load` gives them for their keys (in any order; those that are gone meanwhile are left out).
///
/// # Errors
/// [`Error::Wrong`] when the query asks for what the set has not, or its token is not one of ours for it.
pub async fn find<T, F>(
    app: &App,
    set: &'static Set,
    query: &Query,
    within: Vec<Within>,
    limit: u32,
    load: F,
) -> std::result::Result<Found<T>, Error>
where
    T: Send + 'static,
    F: FnOnce(&mut Conn, &[String]) -> crate::store::Result<Vec<(String, T)>> + Send + 'static,
{
    find_meant(app, set, (query, query.filter.clone()), within, limit, load).await
}

/// [`find`], where the filter of the query means `meant` at this moment: the next page is that of the same question, though it may mean
/// something else by then.
///
/// # Errors
/// As [`find`].
pub async fn find_meant<T, F>(
    app: &App,
    set: &'static Set,
    (query, meant): (&Query, Option<Expr>),
    within: Vec<Within>,
    limit: u32,
    load: F,
) -> std::result::Result<Found<T>, Error>
where
    T: Send + 'static,
    F: FnOnce(&mut Conn, &[String]) -> crate::store::Result<Vec<(String, T)>> + Send + 'static,
{
    let key = instance_key(app, PAGE_KEY).await?;
    let print = fingerprint(query, &within);
    let last = match &query.skip_token {
        None => None,
        Some(text) => {
            Some(open(key.expose(), text, set.name, &print)?.ok_or_else(|| Error::Wrong(Wrong::new("The skip token is not valid.")))?)
        }
    };
    let asked = Query { filter: meant, ..query.clone() };
    let found = app.store.read(move |conn| {
        // One question each, so that a wrong one is told from a failure.
        let found = odata::page(conn, set, &asked, &within, last.as_ref(), limit).and_then(|page| {
            let count = if asked.count { Some(odata::count(conn, set, &asked, &within)?) } else { None };
            let objects = load(conn, &page.keys)?;
            Ok((page, count, objects))
        });
        Ok(found)
    });
    let (Page { keys, next }, count, objects) = found.await??;
    let mut by_key: std::collections::HashMap<String, T> = objects.into_iter().collect();
    let objects = keys.iter().filter_map(|key| by_key.remove(key)).collect();
    let next = next.map(|last| seal(key.expose(), &Token { set: set.name.into(), query: print, last })).transpose()?;
    Ok(Found { objects, next, count })
}

/// How many objects fit a query.
///
/// # Errors
/// As [`find`].
pub async fn count(app: &App, set: &'static Set, query: &Query, within: Vec<Within>) -> std::result::Result<i64, Error> {
    let asked = query.clone();
    Ok(app.store.read(move |conn| Ok(odata::count(conn, set, &asked, &within))).await??)
}

/// Whether an object is in a set and within bounds.
///
/// # Errors
/// Only the database's own.
pub async fn has(app: &App, set: &'static Set, key: &str, within: Vec<Within>) -> Result<bool> {
    let key = key.to_owned();
    match app.store.look_up(move |conn| Ok(odata::has(conn, set, &key, &within))).await? {
        Ok(has) => Ok(has),
        Err(Refused::Store(error)) => Err(error.into()),
        Err(Refused::Wrong(wrong)) => Err(super::Error::internal(wrong)),
    }
}

fn seal(key: &[u8], token: &Token) -> Result<String> {
    let body = serde_json::to_vec(token).map_err(super::Error::internal)?;
    let mark = hmac_sha256(key, &body)?;
    Ok(URL_SAFE_NO_PAD.encode([mark.as_slice(), &body].concat()))
}

fn open(key: &[u8], text: &str, set: &str, query: &str) -> Result<Option<Last>> {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { return Ok(None) };
    let Some((mark, body)) = bytes.split_at_checked(32) else { return Ok(None) };
    if !same(mark, &hmac_sha256(key, body)?) {
        return Ok(None);
    }
    let token = serde_json::from_slice::<Token>(body).ok();
    Ok(token.filter(|token| token.set == set && token.query == query).map(|token| token.last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_on_in_its_own_question_only() {
        let token = || Token { set: "users".into(), query: "q".into(), last: Last { values: Vec::new(), key: "k".into() } };
        let text = seal(b"key", &token()).unwrap();
        assert_eq!(open(b"key", &text, "users", "q").unwrap().map(|last| last.key).as_deref(), Some("k"));
        assert!(open(b"other", &text, "users", "q").unwrap().is_none());
        assert!(open(b"key", &text, "groups", "q").unwrap().is_none());
        assert!(open(b"key", &text, "users", "r").unwrap().is_none());
        for wrong in ["", "AAAA", "=", &text[1..], &format!("{text}AA")] {
            assert!(open(b"key", wrong, "users", "q").unwrap().is_none(), "{wrong}");
        }
    }
}
