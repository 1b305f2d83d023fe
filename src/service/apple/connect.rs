//! The command channel: an idle device is answered from one read; everything else is a turn.

use super::identity::{self, Presented, Speaker};
use super::turn;
use crate::app::App;
use crate::clock::Time;
use crate::domain::apple::enrollment::speaks_for;
use crate::domain::enrollment::State;
use crate::service::Result;
use crate::store::apple::channels::DEVICE;
use crate::store::enrollments::Identity;
use crate::wire::apple::UserKey;
use crate::wire::apple::command::{Answer, Status};

/// Takes what a device says on the command channel and gives the next command; empty: there is nothing to do.
///
/// # Errors
/// [`Malformed`](crate::service::Error::Malformed); a refusal of the certificate, the signature or the device that is named.
pub async fn receive(app: &App, presented: &Presented<'_>, body: &[u8]) -> Result<Vec<u8>> {
    let speaker = identity::speaker(app, presented, body).await?;
    let answer = Answer::decode(body)?;
    let who = answer.who.channel()?;
    if let Speaker::Expired(identity) = &speaker
        && speaks_for(&identity.enrollment, &who.device).is_ok()
        && who.user.is_none()
    {
        metrics::counter!("muster_apple_messages_total", "kind" => "expired").increment(1);
        return match answer.status {
            Status::Idle => turn::renew(app, &identity.enrollment.id, presented.origin).await,
            // What it answers changes nothing; the new identity speaks for itself.
            _ => Ok(Vec::new()),
        };
    }
    let identity = identity::pinned(app, presented, speaker, &who.device).await?;
    let now = app.now();
    app.presence.seen(&identity.enrollment.id, now);
    if who.user.is_none() && is_idle(&identity, &answer, now) {
        metrics::counter!("muster_apple_messages_total", "kind" => "idle").increment(1);
        return Ok(Vec::new());
    }
    metrics::counter!("muster_apple_messages_total", "kind" => "work").increment(1);
    // Users whose channels are not managed (any more) have nothing to do.
    if who.user.is_some() && !app.config.apple.user_channels {
        return Ok(Vec::new());
    }
    let user = who.user.as_ref().map_or(DEVICE, UserKey::as_str);
    turn::receive(app, &identity.enrollment.id, user, &answer, presented.origin).await
}

/// There is nothing for the device, nothing that it was given waits, and it says nothing new.
fn is_idle(identity: &Identity, answer: &Answer, now: Time) -> bool {
    let enrollment = &identity.enrollment;
    let due = enrollment.work_at.is_some_and(|at| at <= now);
    answer.status == Status::Idle && !due && enrollment.waiting_since.is_none() && enrollment.state == State::Active
}
