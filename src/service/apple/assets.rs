//! Assets that devices fetch: what the configurations that are declared to them refer to.
//!
//! Who fetches shows its identity as with any message, over an empty body. Nothing but what is declared to that channel of that device is
//! there; what is good once is made anew at each fetch, and takes the place of what was made before and not used.

use serde_json::json;

use super::ground::Ground;
use super::identity::{self, Presented};
use super::turn::{self, Turn};
use super::{declarations, enroll};
use crate::app::App;
use crate::config::Config;
use crate::domain::apple::content::asset::{self, Asset};
use crate::domain::profile::Payload;
use crate::ids::ProfileId;
use crate::secret::Secret;
use crate::service::{Error, Result};
use crate::store::apple::channels::DEVICE;

/// The path below which the assets of a device's own channel are, by their identifiers.
pub const DEVICE_PATH: &str = "/apple/asset/device";
/// The path below which those of users are: by the user's key in hexadecimal digits, and the identifier.
pub const USER_PATH: &str = "/apple/asset/user";

/// What was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// Its media type.
    pub media: String,
    /// It.
    pub content: Secret,
}

/// Where the assets of a channel are fetched.
pub(super) fn url(config: &Config, user: &str) -> String {
    let base = enroll::base(config);
    if user == DEVICE { format!("{base}{DEVICE_PATH}") } else { format!("{base}{USER_PATH}/{}", hex::encode(user)) }
}

/// Gives a device an asset that is declared to it, on its own channel or that of a user (by the key in hexadecimal digits). `None`: there
/// is no such asset for it.
///
/// # Errors
/// As for any message: [`Refusal::CertificateNotOurs`](crate::domain::Refusal::CertificateNotOurs) and the like;
/// [`Refusal::ManagementSourceMismatch`](crate::domain::Refusal::ManagementSourceMismatch) for an identity that no device is enrolled with.
pub async fn fetch(app: &App, presented: &Presented<'_>, user: Option<&str>, identifier: &str) -> Result<Option<Fetched>> {
    let speaker = identity::speaker(app, presented, b"").await?;
    let enrollment = identity::enrolled(app, presented, speaker).await?.enrollment.id;
    app.presence.seen(&enrollment, app.now());
    metrics::counter!("muster_apple_assets_total").increment(1);
    let user = match user.map(|user| hex::decode(user).ok().and_then(|key| String::from_utf8(key).ok())) {
        None => DEVICE.to_owned(),
        Some(Some(user)) if user != DEVICE && app.config.apple.user_channels => user,
        Some(_) => return Ok(None),
    };
    turn::retried(async || {
        let Some(mut turn) = Turn::read(app, &enrollment, &user, presented.origin).await? else { return Ok(None) };
        let Some((key, profile, payload)) = find(&turn, identifier) else { return Ok(None) };
        let fetched = make(&mut turn, &key, &profile, &payload).await?;
        turn.commit().await?;
        Ok(Some(fetched))
    })
    .await
}

/// The record that an asset is declared with, its profile, and its payload there.
fn find(turn: &Turn<'_>, identifier: &str) -> Option<(String, ProfileId, Payload)> {
    let ground = Ground::of(turn)?;
    turn.wanted().find_map(|(key, winner)| {
        let (payloads, made) = declarations::made(turn, &ground, key, winner)?.ok()?;
        let (payload, _) = payloads.into_iter().zip(made).find(|(_, (name, _))| name == identifier)?;
        asset::type_of(&payload.kind).map(|_| (key.clone(), winner.profile.clone(), payload))
    })
}

async fn make(turn: &mut Turn<'_>, key: &str, profile: &ProfileId, payload: &Payload) -> Result<Fetched> {
    let ground = Ground::of(turn).ok_or_else(|| Error::Unavailable("the version of the device is not known".into()))?;
    let made = asset::make(payload, &ground.target("", &|_| String::new(), &[]), turn.catalogue);
    let made = made.map_err(|why| Error::Unavailable(format!("{}: {why}", payload.name)))?;
    if !matches!(made, Asset::Fixed { .. }) && !turn.authority.issues(turn.now) {
        return Err(Error::Unavailable("no authority issues at the moment".into()));
    }
    let media = made.media().to_owned();
    let content = match made {
        Asset::Fixed { bytes, secret, .. } => {
            if secret {
                turn.audit("asset.read", format!("profile:{profile}"), &json!({ "payload": payload.name }));
            }
            bytes
        }
        Asset::Scep(body, asked) => asset::document(body, "Challenge", &turn.new_challenge(key, profile, *asked).await?),
        Asset::Acme(body, asked) => asset::document(body, "ClientIdentifier", &turn.new_client(key, profile, *asked)?),
        Asset::Identity(wanted) => {
            let file = turn.identity_file(key, profile, *wanted, (ground.system(), ground.version())).await?;
            let password = std::str::from_utf8(file.password.expose()).map_err(Error::internal)?;
            asset::identity_document(file.content.expose(), password)
        }
    };
    Ok(Fetched { media, content: Secret::new(content) })
}
