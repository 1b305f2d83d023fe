//! Check-in: a device enrols, says where to push to, leaves, and asks for what is its own.

use serde_json::json;

use super::enroll::begun;
use super::identity::{self, Presented, Speaker};
use super::{ade, declarations, returning};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::apple::escrow::Kind;
use crate::domain::audit::Entry;
use crate::domain::enrollment::{Enrollment, State};
use crate::ids::{DeviceId, EnrollmentId};
use crate::service::device::{Ending, checked_out_in};
use crate::service::push::apns::{Address, enqueue_wake};
use crate::service::repeats::Act;
use crate::service::{Result, compliance};
use crate::store::apple::channels::{self, Channel, DEVICE};
use crate::store::apple::{push, secrets};
use crate::store::enrollments::Identity;
use crate::store::sealed::APPLE_SECRET;
use crate::store::{self, Conn, Tx, audit, devices, enrollments};
use crate::wire::apple::checkin::{self as wire, CheckIn, DeclarativeManagement, Message, TokenUpdate};
use crate::wire::apple::{Channel as Speaking, UserKey};
use crate::wire::plist::Data;

/// Longest token or magic word of the push service; real ones have 32 bytes and 36 letters.
const LONGEST_ADDRESS: usize = 1024;
/// Longest token that a device entrusts to the server; real ones have a few thousand bytes.
const LONGEST_TOKEN: usize = 64 * 1024;
/// Longest name of a user.
const LONGEST_NAME: usize = 256;

/// Most users of one device whose channels are kept: as many as a Shared iPad may have.
const MOST_USERS: i64 = 100;

/// What a check-in message is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Yes, without a body.
    Empty,
    /// A property list.
    Plist(Vec<u8>),
    /// A document of declarative management.
    Json(Vec<u8>),
    /// The declaration that was asked for is not there.
    NotThere,
    /// The user is not managed: no user channel.
    Declined,
}

impl Reply {
    fn answer(answer: &wire::Answer) -> Result<Self> {
        Ok(Self::Plist(answer.encode()?))
    }
}

/// Takes a check-in message in.
///
/// # Errors
/// [`Malformed`](crate::service::Error::Malformed); a refusal of the certificate, the signature or the device that is named;
/// [`Refusal::EnrollmentSessionOver`], [`Refusal::DeviceOfAnother`], [`Refusal::DeviceKindUnsupported`] for a device that may not enrol;
/// [`Refusal::PushTopicForeign`]; [`Refusal::DeviceTokenTooLarge`]; [`Refusal::UserChannelRefused`], [`Refusal::UserChannelsOff`], [`Refusal::UserChannelsTooMany`] on the
/// channel of a user; [`Refusal::UserEnrollmentRefused`], [`Refusal::TokenServiceUnknown`].
pub async fn receive(app: &App, presented: &Presented<'_>, body: &[u8]) -> Result<Reply> {
    let speaker = identity::speaker(app, presented, body).await?;
    let CheckIn { who, message } = CheckIn::decode(body)?;
    let speaking = who.channel()?;
    metrics::counter!("muster_apple_checkins_total", "kind" => message.name()).increment(1);
    if let Message::Authenticate(request) = &message {
        let enrollment = match &speaker {
            Speaker::Enrolled(identity) | Speaker::Expired(identity) => Some(identity.enrollment.id.clone()),
            Speaker::Begun(_) => None,
        };
        let done = match check_topic(app, enrollment, &request.topic).await {
            Ok(()) => begun::authenticate(app, &speaker, &speaking, request, presented.origin).await,
            Err(error) => Err(error),
        };
        return match done {
            Ok(()) => Ok(Reply::Empty),
            Err(error) => Err(identity::refuse(app, error, presented, speaking.device.as_str()).await),
        };
    }
    let identity = identity::pinned(app, presented, speaker, &speaking.device).await?;
    let now = app.now();
    app.presence.seen(&identity.enrollment.id, now);
    let at = At { app, identity: &identity, speaking: &speaking, origin: presented.origin, now };
    match at.answer(message, who.user_short_name).await {
        Ok(reply) => Ok(reply),
        Err(error) => Err(identity::refuse(app, error, presented, speaking.device.as_str()).await),
    }
}

/// A device listens to the topic that it enrolled for: that of the push certificate, or of one that was replaced.
async fn check_topic(app: &App, enrollment: Option<EnrollmentId>, topic: &str) -> Result<()> {
    let topic = topic.to_owned();
    let known = app.store.read(move |conn| {
        if push::find_certificate(conn)?.is_some_and(|certificate| certificate.topic == topic) {
            return Ok(true);
        }
        let Some(enrollment) = enrollment else { return Ok(false) };
        Ok(channels::find_channel(conn, &enrollment, DEVICE)?.is_some_and(|channel| channel.topic == topic))
    });
    if known.await? { Ok(()) } else { Err(Refusal::PushTopicForeign.into()) }
}

/// A message of an enrolled device.
struct At<'a> {
    app: &'a App,
    identity: &'a Identity,
    speaking: &'a Speaking,
    origin: &'a str,
    now: Time,
}

impl At<'_> {
    fn user(&self) -> String {
        self.speaking.user.as_ref().map_or(DEVICE, UserKey::as_str).to_owned()
    }

    fn entry(&self, action: &'static str, after: &serde_json::Value) -> Entry {
        let enrollment = &self.identity.enrollment;
        Entry::new(format!("device:{}", enrollment.device_id), action, format!("enrollment:{}", enrollment.id), self.origin).after(after)
    }

    /// Writes something with its audit row, or without it when the same was written down in this hour: a device may say it as often as it
    /// likes.
    async fn write_hourly<T: Send + 'static>(
        &self,
        act: Act,
        entry: Entry,
        write: impl Fn(&mut Tx<'_>) -> store::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (news, now) = (self.app.repeats.is_news(&act, self.now), self.now);
        let written = self
            .app
            .store
            .write(move |tx| {
                let written = write(tx)?;
                if news {
                    audit::append(tx, &entry, now)?;
                }
                Ok(written)
            })
            .await?;
        if news {
            self.app.repeats.written(act, self.now);
        }
        Ok(written)
    }

    /// Writes an audit row and nothing else; nothing at all when the same was written down in this hour.
    async fn record_hourly(&self, act: Act, entry: Entry) -> Result<()> {
        if self.app.repeats.is_news(&act, self.now) {
            let now = self.now;
            self.app.store.write(move |tx| audit::append(tx, &entry, now)).await?;
            self.app.repeats.written(act, self.now);
        }
        Ok(())
    }

    fn act(&self, kind: &str, value: &[u8]) -> Act {
        Act::new(&self.identity.enrollment.id, kind, value)
    }

    /// What only the device itself may give or ask for.
    fn by_device(&self) -> Result<()> {
        if self.speaking.user.is_none() { Ok(()) } else { Err(Refusal::UserChannelRefused.into()) }
    }

    async fn answer(&self, message: Message, user_short_name: Option<String>) -> Result<Reply> {
        let user_channels = self.app.config.apple.user_channels;
        match message {
            Message::Authenticate(_) => Ok(Reply::Empty),
            Message::TokenUpdate(_) if self.speaking.user.is_some() && !user_channels => Err(Refusal::UserChannelsOff.into()),
            Message::TokenUpdate(update) => self.update_token(update, user_short_name).await,
            Message::CheckOut(_) => self.check_out().await,
            Message::UserAuthenticate(_) if !user_channels => Ok(Reply::Declined),
            // An empty challenge lets the user in with the next message, whose answer has no body.
            Message::UserAuthenticate(request) => match request.digest_response.filter(|response| !response.is_empty()) {
                None => Reply::answer(&wire::Answer::DigestChallenge(String::new())),
                Some(_) => Ok(Reply::Empty),
            },
            Message::SetBootstrapToken(set) => self.keep_bootstrap_token(set.bootstrap_token).await,
            Message::GetBootstrapToken(_) => self.give_bootstrap_token().await,
            Message::GetToken(request) => self.give_token(&request.token_service_type).await,
            Message::DeclarativeManagement(request) => self.declarations(request).await,
            Message::ReturnToService(_) => {
                self.by_device()?;
                let back = returning::asked(self.app, &self.identity.enrollment.id, self.origin).await?;
                Reply::answer(&wire::Answer::ReturnToService(back))
            }
        }
    }

    async fn update_token(&self, update: TokenUpdate, user_short_name: Option<String>) -> Result<Reply> {
        check_topic(self.app, Some(self.identity.enrollment.id.clone()), &update.topic).await?;
        bounded(update.token.0.len().max(update.push_magic.len()), LONGEST_ADDRESS)?;
        bounded(update.unlock_token.as_ref().map_or(0, |token| token.0.len()), LONGEST_TOKEN)?;
        let user_short_name = user_short_name.map(|name| name.chars().take(LONGEST_NAME).collect::<String>());
        let sealer = self.app.sealer();
        let sealed_push = Address::new(&update.token.0, &update.push_magic).seal(&sealer)?;
        // What opens a user's own device is not ours to keep.
        let own = self.identity.enrollment.is_user_enrollment();
        let unlock = update.unlock_token.as_ref().filter(|token| !token.0.is_empty() && !own);
        if unlock.is_some() {
            self.by_device()?;
        }
        let unlock = unlock.map(|token| sealer.seal(APPLE_SECRET, &token.0)).transpose()?;
        let (id, user, now) = (self.identity.enrollment.id.clone(), self.user(), self.now);
        let entry = self.entry("enrollment.token", &json!({ "user": user, "unlock_token": unlock.is_some() }));
        let said =
            [update.token.0.as_slice(), update.push_magic.as_bytes(), update.unlock_token.as_ref().map_or(&[], |token| token.0.as_slice())];
        let act = self.act(&format!("enrollment.token/{user}"), &said.concat());
        let (topic, awaiting, rules) = (update.topic, update.awaiting_configuration, compliance::rules(&self.app.config));
        let store = move |tx: &mut Tx<'_>| {
            let known = channels::find_channel(tx.conn(), &id, &user)?;
            let fresh = known.is_none();
            if fresh && user != DEVICE && channels::count_users(tx.conn(), &id)? >= MOST_USERS {
                return Err(Refusal::UserChannelsTooMany.into());
            }
            let old = known.unwrap_or_else(|| Channel::new(id.clone(), user.as_str(), topic.as_str()));
            let awaiting_since = match awaiting {
                Some(true) => old.awaiting_since.or(Some(now)),
                Some(false) => None,
                None => old.awaiting_since,
            };
            let channel = Channel {
                topic: topic.clone(),
                user_short_name: user_short_name.clone().or_else(|| old.user_short_name.clone()),
                sealed_push: Some(sealed_push.clone()),
                token_updated_at: Some(now),
                push_dead_at: None,
                push_dead_why: None,
                awaiting_since,
                ..old
            };
            if fresh {
                channels::insert_channel(tx, &channel)?
            } else {
                channels::claim_update(tx, &channel)?
            }
            if let Some(unlock) = &unlock {
                secrets::upsert_secret(tx, &id, Kind::Unlock, unlock, None, now)?;
            }
            let activated = activate(tx, &id, &user)?;
            if fresh && user != DEVICE {
                // Who has read the device as one without this user looks again before storing anything of it.
                let enrollment = enrollments::load_enrollment(tx.conn(), &id)?;
                enrollments::claim_update(tx, &enrollment)?;
            }
            enrollments::update_work_at(tx, &id, Some(now))?;
            enqueue_wake(tx, &id, &user, now)?;
            if let Some(device) = activated {
                compliance::enrolled_in(tx, &device, rules, now)?;
            }
            Ok(())
        };
        self.write_hourly(act, entry, store).await?;
        self.app.outbox.notify_waiters();
        Ok(Reply::Empty)
    }

    async fn check_out(&self) -> Result<Reply> {
        let (enrollment, user, now, origin) = (self.identity.enrollment.clone(), self.user(), self.now, self.origin.to_owned());
        let (rules, sealer) = (compliance::rules(&self.app.config), self.app.sealer());
        let entry = self.entry("enrollment.end-user-channel", &json!({ "user": user }));
        self.app
            .store
            .write(move |tx| {
                if user == DEVICE {
                    return checked_out_in(tx, &enrollment, &Ending { sealer: &sealer, rules, origin: &origin, now }).map(drop);
                }
                channels::delete_channel(tx, &enrollment.id, &user)?;
                // What was given to the user is to be forgotten.
                enrollments::update_work_at(tx, &enrollment.id, Some(now))?;
                audit::append(tx, &entry, now)
            })
            .await?;
        self.app.outbox.notify_waiters();
        Ok(Reply::Empty)
    }

    async fn keep_bootstrap_token(&self, token: Option<Data>) -> Result<Reply> {
        self.by_device()?;
        if self.identity.enrollment.is_user_enrollment() {
            return Err(Refusal::UserEnrollmentRefused.into());
        }
        let token = token.filter(|token| !token.0.is_empty());
        bounded(token.as_ref().map_or(0, |token| token.0.len()), LONGEST_TOKEN)?;
        let action = if token.is_some() { "escrow.keep" } else { "escrow.forget" };
        let act = self.act(action, token.as_ref().map_or(&[], |token| token.0.as_slice()));
        let sealed = token.map(|token| self.app.sealer().seal(APPLE_SECRET, &token.0)).transpose()?;
        let (id, now) = (self.identity.enrollment.id.clone(), self.now);
        let entry = self.entry(action, &json!({ "kind": Kind::Bootstrap }));
        let keep = move |tx: &mut Tx<'_>| match &sealed {
            Some(sealed) => secrets::upsert_secret(tx, &id, Kind::Bootstrap, sealed, None, now).map(drop),
            None => secrets::delete_secret(tx, &id, Kind::Bootstrap),
        };
        self.write_hourly(act, entry, keep).await?;
        Ok(Reply::Empty)
    }

    async fn give_bootstrap_token(&self) -> Result<Reply> {
        self.by_device()?;
        let id = self.identity.enrollment.id.clone();
        let find = move |conn: &mut Conn| secrets::find_secret(conn, &id, Kind::Bootstrap);
        let Some(found) = self.app.store.read(find).await? else { return Ok(Reply::Empty) };
        // Nothing leaves that is not written down.
        let entry = self.entry("escrow.read", &json!({ "kind": Kind::Bootstrap }));
        self.record_hourly(self.act("escrow.read", &[]), entry).await?;
        let token = self.app.sealer().open(APPLE_SECRET, &found.sealed)?;
        Reply::answer(&wire::Answer::BootstrapToken(Data(token.expose().to_vec())))
    }

    /// A token for a service of Apple's; there is one that this server can speak for.
    async fn give_token(&self, service: &str) -> Result<Reply> {
        if service != wire::TOKEN_MAID {
            return Err(Refusal::TokenServiceUnknown.into());
        }
        let device = self.identity.enrollment.device_id.clone();
        let serial = self.app.store.read(move |conn| Ok(devices::load_device(conn, &device)?.serial_number)).await?;
        let token = ade::account_token(self.app, serial).await?.ok_or(Refusal::TokenServiceUnknown)?;
        let entry = self.entry("enrollment.account-token", &json!({ "user": self.user() }));
        self.record_hourly(self.act("enrollment.account-token", self.user().as_bytes()), entry).await?;
        Reply::answer(&wire::Answer::Token(Data(token)))
    }

    async fn declarations(&self, request: DeclarativeManagement) -> Result<Reply> {
        if self.speaking.user.is_some() && !self.app.config.apple.user_channels {
            return Err(Refusal::UserChannelsOff.into());
        }
        let data = request.data.as_ref().map(|data| data.0.as_slice());
        let answer =
            declarations::receive(self.app, &self.identity.enrollment.id, &self.user(), &request.endpoint, data, self.origin).await?;
        Ok(match answer {
            None => Reply::NotThere,
            Some(body) if body.is_empty() => Reply::Empty,
            Some(body) => Reply::Json(body),
        })
    }
}

fn bounded(length: usize, most: usize) -> Result<()> {
    if length <= most { Ok(()) } else { Err(Refusal::DeviceTokenTooLarge.into()) }
}

/// The first token of a device's own channel completes its enrolment: the device that is judged from then on.
fn activate(tx: &mut Tx<'_>, id: &EnrollmentId, user: &str) -> store::Result<Option<DeviceId>> {
    let enrollment = enrollments::load_enrollment(tx.conn(), id)?;
    if user != DEVICE || enrollment.state != State::Provisioned {
        return Ok(None);
    }
    let device = enrollment.device_id.clone();
    enrollments::claim_update(tx, &Enrollment { state: State::Active, ..enrollment })?;
    Ok(Some(device))
}
