//! Windows Push Notification Services: wakes a device so that it comes for its work now and not at its next poll. Polling suffices
//! without it; a wake that is lost costs time, nothing else.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::app::App;
use crate::clock::{HOUR, MINUTE, SECOND, Time};
use crate::config::Config;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::ids::EnrollmentId;
use crate::secret::Secret;
use crate::service::outbound::{check_url, read_bounded, retry_after, unanswered};
use crate::service::outbox::{Deliverer, Delivery, Outcome};
use crate::service::{Error, Result};
use crate::store::outbox::{Claim, Lease, Message, enqueue};
use crate::store::{self, Tx, enrollments};

/// The outbox topic of wakes.
pub const TOPIC: &str = "wns.wake";
const MAX_ANSWER: usize = 16 * 1024;
/// A token is renewed that long before its end.
const TOKEN_MARGIN: i64 = 5 * MINUTE;

#[derive(Serialize, Deserialize)]
struct Payload {
    enrollment: EnrollmentId,
}

/// Whether push is configured.
#[must_use]
pub fn enabled(config: &Config) -> bool {
    !config.windows.wns.client_id.is_empty()
}

/// Puts a wake into the outbox, in the transaction of the change that gives the device work. While one waits, another is not put in.
/// Call it only when [`enabled`]; ring `app.outbox` after the commit.
///
/// # Errors
/// Only the database's own.
pub fn enqueue_wake(tx: &mut Tx<'_>, enrollment: &EnrollmentId, now: Time) -> store::Result<()> {
    let key = format!("wns/{enrollment}");
    let payload = serde_json::to_string(&Payload { enrollment: enrollment.clone() })?;
    enqueue(tx, &Message { topic: TOPIC, order_key: key.clone(), dedup_key: key, payload }, now)
}

/// Checks the channel URI that a device reports: HTTPS on one of Microsoft's (the configured) hosts and nowhere else.
///
/// # Errors
/// [`Refusal::ChannelNotAllowed`].
pub fn check_channel(config: &Config, uri: &str) -> Result<Url, Refusal> {
    let url = check_url(config, uri).map_err(|_| Refusal::ChannelNotAllowed)?;
    let host = url.host_str().unwrap_or_default();
    let ours = |ending: &String| match ending.strip_prefix('.') {
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1),
        None => host == ending,
    };
    // Another port than the scheme's would reach another service of the host.
    let loopback = url.scheme() == "http";
    if !config.windows.wns.channel_hosts.iter().any(ours) || (url.port().is_some() && !loopback) {
        return Err(Refusal::ChannelNotAllowed);
    }
    Ok(url)
}

/// Wakes devices.
pub struct WnsWake {
    client: Client,
    /// The access token and its end: derived, each process has its own.
    token: Mutex<Option<(Secret, Time)>>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: i64,
}

impl WnsWake {
    /// With a client that cannot be led elsewhere.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, token: Mutex::default() }
    }

    /// The token at hand, or a new one. The lock is held over the request, so that many wakes ask for one token.
    async fn bearer(&self, app: &App) -> Result<Secret> {
        let mut held = self.token.lock().await;
        if let Some((token, end)) = held.as_ref().filter(|(_, end)| *end > app.now()) {
            tracing::trace!(until = %end, "the access token is still good");
            return Ok(token.clone());
        }
        let wns = &app.config.windows.wns;
        let url = check_url(&app.config, &wns.token_url)?;
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope=notify.windows.com",
            encode(&wns.client_id),
            encode(wns.client_secret.expose())
        );
        let request = self.client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let mut response = request.send().await.map_err(|e| Error::Unavailable(format!("WNS token: {}", unanswered(&e))))?;
        let status = response.status();
        let body = read_bounded(&mut response, MAX_ANSWER).await;
        if status != StatusCode::OK {
            return Err(Error::Unavailable(format!("WNS token: {status}; check windows.wns.client_id and client_secret")));
        }
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| Error::Unavailable("WNS token: not the expected JSON".into()))?;
        let life = granted.expires_in.clamp(0, 7 * 24 * 3600).saturating_mul(SECOND);
        let token = Secret::new(format!("Bearer {}", granted.access_token).into_bytes());
        *held = Some((token.clone(), app.now().plus((life - TOKEN_MARGIN).max(life / 2))));
        Ok(token)
    }

    async fn knock(&self, app: &App, channel: &Url) -> Result<Response> {
        let mut bearer = HeaderValue::from_bytes(self.bearer(app).await?.expose()).map_err(Error::internal)?;
        bearer.set_sensitive(true);
        let request = self
            .client
            .post(channel.clone())
            .header(AUTHORIZATION, bearer)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("X-WNS-Type", "wns/raw")
            .header("X-WNS-Cache-Policy", "cache")
            .body("wake");
        request.send().await.map_err(|e| Error::Unavailable(format!("WNS: {}", unanswered(&e))))
    }

    async fn try_once(&self, app: &App, claim: &Claim) -> Result<Outcome> {
        let payload: Payload = serde_json::from_str(&claim.payload).map_err(Error::internal)?;
        let id = payload.enrollment.clone();
        let Some(uri) = app.store.read(move |c| enrollments::find_channel(c, &id)).await?.filter(|_| enabled(&app.config)) else {
            // Gone, or never had a channel: the device polls.
            return Ok(Outcome::Skipped);
        };
        let Ok(channel) = check_channel(&app.config, &uri) else {
            drop_channel(app, &payload.enrollment, uri, "the URI is not on a host of WNS").await?;
            return Ok(Outcome::Skipped);
        };
        let mut response = self.knock(app, &channel).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            *self.token.lock().await = None;
            response = self.knock(app, &channel).await?;
        }
        let status = response.status();
        let after = retry_after(response.headers(), app.now());
        Ok(match status {
            s if s.is_success() => Outcome::Done,
            StatusCode::GONE | StatusCode::NOT_FOUND => {
                drop_channel(app, &payload.enrollment, uri, "WNS says that the channel is gone").await?;
                Outcome::Done
            }
            StatusCode::FORBIDDEN => {
                drop_channel(app, &payload.enrollment, uri, "the channel belongs to another app registration").await?;
                Outcome::Done
            }
            // Throttled (406), our token, or their trouble: everybody waits.
            StatusCode::UNAUTHORIZED | StatusCode::NOT_ACCEPTABLE | StatusCode::TOO_MANY_REQUESTS => {
                Outcome::Retry { reason: status.to_string(), after, destination: true }
            }
            s if s.is_server_error() => Outcome::Retry { reason: status.to_string(), after, destination: true },
            _ => Outcome::Rejected(status.to_string()),
        })
    }
}

/// Forgets a channel, unless the device has reported another one meanwhile.
async fn drop_channel(app: &App, enrollment: &EnrollmentId, uri: String, why: &'static str) -> Result<()> {
    let (id, now) = (enrollment.clone(), app.now());
    app.store
        .write(move |tx| {
            if enrollments::update_channel_dropped(tx, &id, &uri)? {
                let after = serde_json::json!({ "reason": why });
                store::audit::append(
                    tx,
                    &Entry::new("system", "enrollment.channel_drop", format!("enrollment:{id}"), "wns").after(&after),
                    now,
                )?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

impl Deliverer for WnsWake {
    fn topic(&self) -> &'static str {
        TOPIC
    }

    fn coalesces(&self) -> bool {
        true
    }

    /// A wake is of no use once the device has polled anyway.
    fn retention(&self, app: &App) -> i64 {
        MINUTE.saturating_mul(i64::from(app.config.windows.poll_minutes)).max(HOUR)
    }

    fn deliver<'a>(&'a self, app: &'a App, _lease: &'a Lease, claim: &'a Claim) -> Delivery<'a> {
        Box::pin(async move {
            self.try_once(app, claim).await.unwrap_or_else(|error| Outcome::Retry {
                reason: error.to_string(),
                after: None,
                destination: true,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_taken_only_on_the_configured_hosts() {
        let mut config = Config::default();
        assert!(check_channel(&config, "https://db5p.notify.windows.com/?token=AwYAAAB").is_ok());
        for uri in [
            "http://db5p.notify.windows.com/",
            "http://169.254.169.254/",
            "https://notify.windows.com.evil.example/",
            "https://evilnotify.windows.com/",
            "https://.notify.windows.com/",
            "https://db5p.notify.windows.com:8443/",
            "https://x@db5p.notify.windows.com/",
        ] {
            assert_eq!(check_channel(&config, uri).unwrap_err(), Refusal::ChannelNotAllowed, "{uri}");
        }
        config.windows.wns.channel_hosts = vec!["127.0.0.1".into()];
        assert!(check_channel(&config, "http://127.0.0.1:9/").is_err());
        config.signals.allow_private_receivers = true;
        assert!(check_channel(&config, "http://127.0.0.1:9/").is_ok());
    }
}
