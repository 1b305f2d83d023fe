//! `/api/signals/receivers`: who is told of changes of compliance.

use super::signals::{READ, WRITE};
use crate::clock::Time;
use crate::domain::signal::{Receiver, ReceiverStatus};
use crate::http::api::base;
use crate::http::api::page::Page;
use crate::http::api::problem::{ApiProblem, Result};
use crate::http::api::route::{Call, Reply, etag, routes};
use crate::http::api::schema::{At, Hidden, Nothing, Text, shown, taken};
use crate::secret::Secret;
use crate::service::signals::receiver::{self, Fortune, NewReceiver};

routes! {
    /// Lists those who get signals, and how each has fared.
    Get "signals/receivers", READ, Nothing, Nothing => 200 Page<SignalReceiver>, [], list;
    /// Adds one, which gets every change of compliance from now on.
    Post "signals/receivers", WRITE, Nothing, NewSignalReceiver => 201 SignalReceiver,
        [OutboundAddressPrivate, OutboundUrlNotAllowed, ReceiverNameTaken], add;
    /// Shows one by its id or name.
    Get "signals/receivers/{receiver}", READ, Nothing, Nothing => 200 SignalReceiver, [], show;
    /// Holds signals back, which then wait, or lets them go again.
    Patch "signals/receivers/{receiver}", WRITE, Nothing, ReceiverChange => 200 SignalReceiver, [], change;
    /// Removes one, and gives up what waits for it.
    Delete "signals/receivers/{receiver}", WRITE, Nothing, Nothing => 204 Nothing, [], remove;
    /// Sends one a verification event; what becomes of it is asked by its jti.
    Post "signals/receivers/{receiver}/verifications", WRITE, Nothing, Nothing => 202 Verification, [], verify;
    /// Says what became of a verification event.
    Get "signals/receivers/{receiver}/verifications/{jti}", READ, Nothing, Nothing => 200 VerificationFate, [], show_fate;
}

shown! {
    /// Somebody who gets signals by push (RFC 8935).
    SignalReceiver {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Whether it gets signals.
        status: ReceiverStatus,
        /// Why it does not.
        reason: Option<String>,
        /// Where signals are pushed to.
        url: String,
        /// The audience claim.
        audience: String,
        /// Whether an Authorization header is sent; its value is never shown.
        authorization: bool,
        /// Since when it is there.
        since: At,
        /// How many tries failed since something last reached it.
        failed_tries: i64,
        /// Why the last one failed.
        last_error: Option<String>,
        /// When something last reached it.
        last_success: Option<At>,
    }
}

taken! {
    /// A receiver to be.
    NewSignalReceiver {
        /// Its name.
        name: Text<1, 128>,
        /// Where signals are pushed to: HTTPS.
        url: Text<1, 2048>,
        /// The audience claim; the URL when it is left out.
        audience: Option<Text<1, 2048>>,
        /// The value of the Authorization header, such as Bearer and a token; kept sealed and never shown.
        authorization: Option<Hidden<1, 8192>>,
    }
}

taken! {
    /// A change of a receiver.
    ReceiverChange {
        /// Whether it gets signals.
        status: ReceiverStatus,
        /// Why it does not.
        reason: Option<Text<1, 500>>,
    }
}

shown! {
    /// A verification event that was put in.
    Verification {
        /// By which it is known at both ends.
        jti: String,
    }
}

shown! {
    /// What became of a verification event.
    VerificationFate {
        /// By which it is known at both ends.
        jti: String,
        /// queued: waits; done: taken; dead: given up.
        state: String,
        /// How many tries failed.
        attempts: i64,
        /// Why the last one failed.
        last_error: Option<String>,
    }
}

fn shown(fortune: Fortune, receiver: Receiver) -> SignalReceiver {
    SignalReceiver {
        id: receiver.id.to_string(),
        name: receiver.name,
        status: receiver.status,
        reason: receiver.status_reason,
        url: receiver.endpoint_url,
        audience: receiver.audience,
        authorization: receiver.sealed_authorization.is_some(),
        since: receiver.created_at.into(),
        failed_tries: fortune.failed,
        last_error: fortune.last_error,
        last_success: fortune.last_success.map(|at| Time(at).into()),
    }
}

async fn list(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Page<SignalReceiver>>> {
    call.of_all()?;
    let all = receiver::list(call.app).await?;
    Ok(Page::whole(all.into_iter().map(|(fortune, receiver)| shown(fortune, receiver)).collect()).into())
}

async fn named(call: &Call<'_>) -> Result<SignalReceiver> {
    call.of_all()?;
    let (fortune, receiver) = receiver::find(call.app, call.key(0)?).await?;
    Ok(shown(fortune, receiver))
}

/// What of a receiver a caller changes, and not how it has fared meanwhile.
fn tag(receiver: &SignalReceiver) -> Result<String> {
    etag(&(&receiver.id, &receiver.name, receiver.status, &receiver.reason, &receiver.url, &receiver.audience))
}

/// The receiver, when it is still as the caller saw it.
async fn seen(call: &Call<'_>) -> Result<SignalReceiver> {
    let found = named(call).await?;
    call.request.check_match(&tag(&found)?)?;
    Ok(found)
}

async fn add(call: Call<'_>, _: Nothing, body: NewSignalReceiver) -> Result<Reply<SignalReceiver>> {
    call.of_all()?;
    let new = NewReceiver {
        name: body.name.0,
        endpoint_url: body.url.0,
        audience: body.audience.map(|audience| audience.0),
        authorization: body.authorization.map(|value| Secret::new(value.0.into_bytes())),
    };
    let added = receiver::add(call.app, new, &call.by()).await?;
    let location = format!("{}/signals/receivers/{}", base(&call.app.config), added.id);
    Ok(Reply::from(shown(Fortune::default(), added)).at(location))
}

async fn show(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<SignalReceiver>> {
    let found = named(&call).await?;
    let tag = tag(&found)?;
    Ok(Reply::from(found).tagged(tag))
}

async fn change(call: Call<'_>, _: Nothing, body: ReceiverChange) -> Result<Reply<SignalReceiver>> {
    let found = seen(&call).await?;
    let id = crate::ids::ReceiverId::parse(&found.id).ok_or_else(|| ApiProblem::not_found("receiver"))?;
    let reason = body.reason.map(|reason| reason.0).filter(|_| body.status == ReceiverStatus::Paused);
    receiver::set_status(call.app, &id, body.status, reason, &call.by()).await?;
    let (fortune, receiver) = receiver::find(call.app, &found.id).await?;
    let now = shown(fortune, receiver);
    let tag = tag(&now)?;
    Ok(Reply::from(now).tagged(tag))
}

async fn remove(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Nothing>> {
    let found = seen(&call).await?;
    receiver::remove(call.app, &found.id, &call.by()).await?;
    Ok(Nothing {}.into())
}

async fn verify(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Verification>> {
    call.of_all()?;
    Ok(Verification { jti: receiver::test(call.app, call.key(0)?, &call.by()).await? }.into())
}

async fn show_fate(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<VerificationFate>> {
    call.of_all()?;
    let jti = call.key(1)?;
    let row = receiver::fate(call.app, call.key(0)?, jti).await?.ok_or_else(|| ApiProblem::not_found("verification event"))?;
    Ok(VerificationFate { jti: jti.to_owned(), state: row.state, attempts: row.attempts, last_error: row.last_error }.into())
}
