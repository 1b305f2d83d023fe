//! Where devices are sent whose account's domain says nothing: Apple asks Apple Business Manager (iOS 18.2, macOS 15.2).

use reqwest::Method;
use serde::de::IgnoredAny;
use serde_json::json;

use super::client::{Client, Failure};
use super::{load, target};
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::device::Platform;
use crate::service::Result;
use crate::service::apple::enroll::account::DISCOVERY_PATH;
use crate::store::audit;
use crate::wire::apple::ade::{DISCOVERY, ServiceDiscovery};

/// Tells Apple where this server says how accounts enrol; what Apple says of it afterwards. Anybody can ask Apple for it.
///
/// # Errors
/// [`Refusal::AccountEnrollmentOff`] while no device enrols by account, [`Refusal::AdeServerUnknown`], [`Refusal::AdeTokenMissing`];
/// [`Unavailable`](crate::service::Error::Unavailable) when Apple cannot be reached or refuses.
pub async fn set_discovery(app: &App, name: &str, actor: &str, origin: &str) -> Result<String> {
    let account = &app.config.apple.account;
    if account.mode(Platform::MacOs).or(account.mode(Platform::Ios)).is_none() {
        return Err(Refusal::AccountEnrollmentOff.into());
    }
    let wanted = ServiceDiscovery { url: format!("{}{DISCOVERY_PATH}", app.config.web_url()) };
    let link = load(app, name).await?.link.ok_or(Refusal::AdeTokenMissing)?;
    let _: IgnoredAny = Client::of(app, &link)?.send(Method::POST, DISCOVERY, &wanted).await.map_err(Failure::into_error)?;
    let (now, entry) = (app.now(), Entry::new(actor, "apple.ade_discovery", target(name), origin).after(&json!(wanted)));
    app.store.write(move |tx| audit::append(tx, &entry, now)).await?;
    discovery(app, name).await
}

/// Where Apple sends devices.
///
/// # Errors
/// [`Refusal::AdeServerUnknown`], [`Refusal::AdeTokenMissing`]; [`Unavailable`](crate::service::Error::Unavailable) as for
/// [`set_discovery`].
pub async fn discovery(app: &App, name: &str) -> Result<String> {
    let link = load(app, name).await?.link.ok_or(Refusal::AdeTokenMissing)?;
    let known: ServiceDiscovery = Client::of(app, &link)?.get(DISCOVERY).await.map_err(Failure::into_error)?;
    Ok(known.url)
}
