//! What the demo has before any device comes: people, profiles, the push certificate, and who hears of compliance.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use openssl::x509::{X509, X509Req};
use serde_json::json;

use crate::app::App;
use crate::clock::{DAY, SystemClock};
use crate::config::Config;
use crate::domain::apple::package::XAR;
use crate::domain::assignment::{Mode, Target};
use crate::domain::device::Platform;
use crate::domain::group::Member;
use crate::domain::profile::Document;
use crate::domain::user::{Details, User};
use crate::ids::{GroupId, UserId};
use crate::secret::Secret;
use crate::service::apple::packages::{self, New};
use crate::service::apple::push_certificate::{self, Import};
use crate::service::directory::{self, By};
use crate::service::signals::receiver::{self, NewReceiver};
use crate::service::{profile, signals};
use crate::sim::apns::{Apns, Authority};
use crate::sim::receiver::{Expect, Receiver};

/// The profiles of the demo, by file name.
const BASELINES: [&str; 12] = [
    "trusted-root",
    "windows-hello-for-business",
    "scep-device-certificate",
    "windows-compliance",
    "macos-trusted-root",
    "macos-passcode",
    "macos-scep-device-certificate",
    "macos-compliance",
    "ios-trusted-root",
    "ios-passcode",
    "ios-scep-device-certificate",
    "ios-compliance",
];
/// The organisation's own application.
pub(super) const BUNDLE: &str = "example.demo.portal";
/// Its version.
pub(super) const VERSION: &str = "1.0";
/// What Apple's devices enrol for.
const TOPIC: &str = "com.apple.mgmt.External.demo";

/// On loopback, with the stand-in for Apple's push service.
pub(super) fn settings(folder: &std::path::Path, apns: &Apns) -> anyhow::Result<Config> {
    let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let mut config = Config { data_dir: folder.to_owned(), organisation: "Demo Organisation".into(), ..Config::default() };
    config.web.listen = loopback;
    config.device.listen = loopback;
    config.pki.listen = loopback;
    config.signals.allow_private_receivers = true;
    // All devices of the demo come from one address.
    config.limits.anonymous_per_second = 0;
    let root = folder.join("apns.pem");
    std::fs::write(&root, &apns.root_pem)?;
    config.apple.apns.url = apns.url();
    config.apple.apns.root_file = Some(root);
    Ok(config)
}

/// A push certificate as Apple would make it.
pub(super) async fn push_certificate(app: &App, apple: &Authority, by: &By) -> anyhow::Result<()> {
    let request = push_certificate::request(app, false, &by.actor, &by.origin).await?;
    let key = X509Req::from_der(&request)?.public_key()?;
    let now = app.now();
    let certificate = apple.push_certificate(&key, TOPIC, now.seconds(), now.plus(365 * DAY).seconds())?;
    let import =
        Import { certificate: String::from_utf8(certificate.to_pem()?)?, key: None, replace_topic: false, confirmed: false, account: None };
    push_certificate::import(app, import, &by.actor, &by.origin).await?;
    Ok(())
}

/// People with a group, named by number.
pub(super) async fn people(app: &App, count: u32, by: &By) -> anyhow::Result<(Vec<(UserId, String)>, GroupId)> {
    let names = ["Ana", "Ben", "Chloé", "Dmitri", "Eva", "Farid", "Grace", "Hiro"];
    let mut users = Vec::new();
    for number in 0..count {
        let first = names.iter().cycle().nth(number as usize).copied().unwrap_or("Ana");
        let plain: String = first.to_lowercase().chars().map(|c| if c == 'é' { 'e' } else { c }).collect();
        let upn = format!("{plain}{number}@demo.example");
        let user = User {
            id: UserId::new(),
            upn: upn.clone(),
            display_name: format!("{first} {number}"),
            mail: Some(upn.clone()),
            sam_account_name: None,
            security_identifier: None,
            distinguished_name: None,
            enabled: true,
            details: Details::default(),
        };
        users.push((directory::create_user(app, user, by).await?.id, upn));
    }
    let group = directory::create_group(app, "Everyone with a device", "Gets the demo's profiles", by).await?.id;
    let members = users.iter().map(|(id, _)| Member::User(id.clone())).collect();
    directory::add_members(app, &group, members, by).await?;
    Ok((users, group))
}

/// The profiles, assigned to that group.
pub(super) async fn profiles(app: &App, group: &GroupId, by: &By) -> anyhow::Result<()> {
    let ready = profile::ready()?;
    for name in BASELINES {
        let mut draft = ready.iter().find(|(file, _)| file == name).map(|(_, draft)| draft.clone()).context("a baseline is missing")?;
        if let Some(rules) = &mut draft.document.compliance {
            // Nobody watches for a day.
            rules.grace_hours = 0;
        }
        let applied = profile::apply(app, draft, by).await?;
        profile::assign(app, &applied.profile.id, Mode::Include, Target::Group(group.clone()), by).await?;
    }
    Ok(())
}

/// An application of the organisation's own on Macs and iPhones, as packages that simulated devices take: they judge size and hashes.
pub(super) async fn application(app: &App, group: &GroupId, by: &By) -> anyhow::Result<()> {
    for (platform, head) in [(Platform::MacOs, &XAR[..]), (Platform::Ios, b"PK\x03\x04")] {
        let name = format!("portal-{platform}");
        let file = app.config.data_dir.join(&name);
        std::fs::write(&file, [head, &[0; 4096]].concat())?;
        let new =
            New { name: name.clone(), bundle_id: BUNDLE.into(), version: VERSION.into(), title: "Demo Portal".into(), replace: false };
        packages::add(app, &file, new, &by.actor, &by.origin).await?;
        let payload = json!({ "type": "enterprise-app", "name": "portal", "bundle-id": BUNDLE, "package": name });
        let draft = json!({ "display_name": format!("Portal ({platform})"), "kind": "configuration", "platform": platform,
            "document": { "description": "The organisation's own application.", "payloads": [payload] } });
        let applied = profile::apply(app, serde_json::from_value(draft)?, by).await?;
        profile::assign(app, &applied.profile.id, Mode::Include, Target::Group(group.clone()), by).await?;
    }
    Ok(())
}

/// What the configuration profiles of a platform hold.
pub(super) fn configurations(platform: Platform) -> anyhow::Result<Vec<Document>> {
    let ready = profile::ready()?.into_iter().filter(|(file, draft)| BASELINES.contains(&file.as_str()) && draft.platform == platform);
    Ok(ready.map(|(_, draft)| draft.document).filter(|document| document.compliance.is_none()).collect())
}

/// Who hears of compliance.
pub(super) async fn listen(app: &App, root: &X509, by: &By) -> anyhow::Result<Receiver> {
    let token: [u8; 16] = crate::secret::random()?;
    let authorization = format!("Bearer {}", hex::encode(token));
    let audience = "urn:demo:identity-service".to_owned();
    let expect = Expect {
        issuer: signals::issuer(&app.config),
        audience: audience.clone(),
        authorization: Some(authorization.clone()),
        roots: vec![root.clone()],
        clock: Arc::new(SystemClock),
    };
    let heard = Receiver::start(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), None, expect).await?;
    let new = NewReceiver {
        name: "demo identity service".into(),
        endpoint_url: heard.url.clone(),
        audience: Some(audience),
        authorization: Some(Secret::new(authorization.into_bytes())),
    };
    receiver::add(app, new, by).await?;
    Ok(heard)
}
