//! `/api/signals`: the keys that sign, and what receivers were told of a device.

use crate::clock::Time;
use crate::domain::access::{Action, Need, Scope};
use crate::http::api::page::Page;
use crate::http::api::problem::Result;
use crate::http::api::route::{Call, Reply, routes};
use crate::http::api::schema::{At, Nothing, shown};
use crate::service::signals::subject;
use crate::service::{directory, signing_keys};

/// To see signals.
pub(super) const READ: Need = Need { scopes: &[Scope::SignalsReadAll, Scope::SignalsReadWriteAll], action: Some(Action::SignalsRead) };
/// To change who gets them.
pub(super) const WRITE: Need = Need { scopes: &[Scope::SignalsReadWriteAll], action: Some(Action::SignalsUpdate) };

routes! {
    /// Lists the keys that sign tokens and signals, and are published.
    Get "signals/keys", READ, Nothing, Nothing => 200 Page<SigningKey>, [], list_keys;
    /// For an emergency: a new key signs at once, and all others are no longer published.
    Post "signals/keys/replace", WRITE, Nothing, Nothing => 200 NewSigningKey, [], replace_keys;
    /// Shows whom signals about a device name, and what each receiver was told of it.
    Get "signals/subjects/{device}", READ, Nothing, Nothing => 200 SignalSubject, [], show_subject;
}

shown! {
    /// A key that signs.
    SigningKey {
        /// Its id in the published set.
        kid: String,
        /// The algorithm of its signatures.
        algorithm: String,
        /// From when it signs.
        signs_from: At,
        /// When it signed last.
        retired: Option<At>,
        /// Whether it signs now.
        signs_now: bool,
    }
}

shown! {
    /// The key that signs from now on.
    NewSigningKey {
        /// Its id in the published set.
        kid: String,
    }
}

shown! {
    /// A device as signals name it.
    SignalSubject {
        /// The device.
        device: String,
        /// The name of its user.
        user: Option<String>,
        /// Whether it is compliant now; null when it was never judged.
        compliant: Option<bool>,
        /// What each receiver was told.
        receivers: Vec<Told>,
    }
}

shown! {
    /// What a receiver was told of a device.
    Told {
        /// The receiver's name.
        receiver: String,
        /// How many signals wait.
        waiting: i64,
        /// The last signal that is still known: queued, done or dead.
        last_state: Option<String>,
        /// When that was put in.
        last_since: Option<At>,
        /// When that was sent or given up.
        last_settled: Option<At>,
        /// Why its last try failed.
        last_error: Option<String>,
        /// Whether signals about the device were given up since it last heard of it.
        missed: bool,
    }
}

async fn list_keys(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Page<SigningKey>>> {
    call.of_all()?;
    let all = signing_keys::list(call.app).await?.into_iter().map(|key| SigningKey {
        kid: key.kid,
        algorithm: key.algorithm,
        signs_from: key.signs_from.into(),
        retired: key.retired_at.map(Into::into),
        signs_now: key.signs_now,
    });
    Ok(Page::whole(all.collect()).into())
}

async fn replace_keys(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<NewSigningKey>> {
    call.of_all()?;
    Ok(NewSigningKey { kid: signing_keys::replace_all(call.app, &call.by()).await? }.into())
}

async fn show_subject(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<SignalSubject>> {
    let found = directory::find_device(call.app, call.key(0)?, &call.reach).await?;
    let (user, told) = subject::told(call.app, &found.device.id).await?;
    let show = |one: subject::Told| Told {
        receiver: one.receiver,
        waiting: one.waiting,
        last_state: one.last.as_ref().map(|row| row.state.clone()),
        last_since: one.last.as_ref().map(|row| Time(row.queued_at).into()),
        last_settled: one.last.as_ref().and_then(|row| row.settled_at).map(|at| Time(at).into()),
        last_error: one.last.and_then(|row| row.last_error),
        missed: one.missed,
    };
    let shown = SignalSubject {
        device: found.device.id.to_string(),
        user,
        compliant: found.verdict.map(|verdict| verdict.compliant),
        receivers: told.into_iter().map(show).collect(),
    };
    Ok(shown.into())
}
