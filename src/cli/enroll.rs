//! `muster enroll`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::find;
use super::output::{align, readable, wrap};
use super::who::Who;
use crate::app::App;
use crate::clock::MINUTE;
use crate::domain::Refusal;
use crate::domain::device::Platform;
use crate::domain::tap::Policy;
use crate::domain::user::User;
use crate::service::apple::enroll::{self as apple_enroll, account};
use crate::service::windows::enroll;
use crate::service::{self, Error};

/// What kind of device is to be enrolled.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Makes a Temporary Access Pass and shows what to type or open on a Windows PC
    Windows(Windows),
    /// Makes a one-time link to an enrolment profile for a Mac, iPhone or iPad
    Apple(Apple),
}

/// For whom.
#[derive(clap::Args, Debug, Deserialize, Serialize)]
pub struct Apple {
    /// User principal name, or id, of whoever will use the device
    #[arg(long, value_name = "UPN|ID")]
    user: String,
    /// `macos` or `ios` (iPadOS, too)
    #[arg(long, default_value = "macos", value_name = "PLATFORM", value_parser = ["macos", "ios"])]
    platform: String,
    /// How long the link or pass is good, in minutes
    #[arg(long, default_value_t = 1440, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=43_200))]
    minutes: u32,
    /// Enrol over the air: the device proves what it is before it gets its profile, which is for it alone
    #[arg(long)]
    #[serde(default)]
    ota: bool,
    /// Enrol by account: makes a pass, and says what to type on the device and what has to be so for the device to find this server
    #[arg(long, conflicts_with = "ota")]
    #[serde(default)]
    account: bool,
}

async fn apple(app: &App, arguments: Apple, who: &Who) -> service::Result<Value> {
    let platform = Platform::parse(&arguments.platform).filter(|platform| platform.is_apple());
    let platform = platform.ok_or_else(|| Error::Invalid(Refusal::OrderUnreadable, "platform: macos or ios".into()))?;
    let lifetime = i64::from(arguments.minutes).saturating_mul(MINUTE);
    let user = find::user(app, &arguments.user).await?;
    if arguments.account {
        who.check_giver_of_pass(app, &user.id).await?;
        return by_account(app, user, platform, lifetime, who).await;
    }
    who.check_helper(app, &user.id).await?;
    let invitation = apple_enroll::invite(app, &user.upn, platform, arguments.ota, lifetime, &who.by).await?;
    let before = before_apple(app, platform);
    Ok(json!({
        "user": invitation.user.upn,
        "platform": platform,
        "link": String::from_utf8_lossy(invitation.link.expose()),
        "good_until": invitation.expires_at.to_string(),
        "with_a_pass": invitation.page_url,
        "before": before,
    }))
}

/// What has to be so before an Apple device can enrol, as far as the configuration leaves it open.
fn before_apple(app: &App, platform: Platform) -> Vec<String> {
    let mut before = restrictions(app, platform);
    if app.config.web.url.is_none() || app.config.device.url.is_none() {
        before.push(format!("set web.url and device.url: a device is told {} and {}", app.config.web_url(), app.config.device_url()));
    }
    if app.config.tls.certificate_file.is_none() {
        before.push(format!(
            "the device must trust this server: install {}/aia/root.cer first, or set tls.certificate_file",
            app.config.pki_url()
        ));
    }
    before
}

/// What the organisation restricts of the platform, so that a device may be refused.
fn restrictions(app: &App, platform: Platform) -> Vec<String> {
    let enrollment = &app.config.enrollment;
    let rules = match platform {
        Platform::Windows => &enrollment.windows,
        Platform::MacOs => &enrollment.macos,
        Platform::Ios => &enrollment.ios,
        Platform::Android => return Vec::new(),
    };
    let key = format!("enrollment.{platform}");
    if !rules.allowed {
        let code = Refusal::PlatformRefused.code();
        return vec![format!("set {key}.allowed to true: as it is, every device of this platform is refused ({code})")];
    }
    let mut notes = Vec::new();
    if !rules.personal {
        let code = Refusal::PersonalDeviceRefused.code();
        let apple = if platform.is_apple() { ", or have it in Apple Business Manager" } else { "" };
        notes.push(format!(
            "put the device's serial number into enrollment.serial_numbers{apple}: {key}.personal is false, and others are refused ({code})"
        ));
    }
    let ends = [("minimum", &rules.minimum_os_version), ("maximum", &rules.maximum_os_version)];
    for (end, version) in ends.into_iter().filter(|(_, version)| !version.is_empty()) {
        notes.push(format!("the system's version must fit {key}.{end}_os_version = {version}; a device with another one is refused"));
    }
    notes
}

async fn by_account(app: &App, user: User, platform: Platform, lifetime: i64, who: &Who) -> service::Result<Value> {
    let policy = Policy { lifetime, ..Policy::default() };
    let invitation = account::invite(app, user, platform, policy, &who.by).await?;
    let domain = invitation.account.rsplit_once('@').map_or("", |(_, domain)| domain);
    let mut before = vec![
        format!(
            "the DNS must lead {domain} (A or AAAA) to a web server with a publicly trusted certificate, and that one must answer {} with the \
             document below, as application/json, or pass the question on to {} whole; a redirect must name user-identifier and \
             model-family again",
            invitation.asked_at, invitation.answered_at,
        ),
        format!("{} must be a Managed Apple Account in Apple Business Manager: the device signs in to it with Apple", invitation.account),
        "where the domain's web server cannot answer, tell Apple (muster apple ade-discovery): iOS 18.2 and macOS 15.2 ask there".into(),
    ];
    before.extend(before_apple(app, platform));
    Ok(json!({
        "user": invitation.user.upn,
        "platform": platform,
        "managed_apple_account": invitation.account,
        "mode": invitation.mode,
        "temporary_access_pass": invitation.tap.show(),
        "good_until": invitation.tap.expires_at.to_string(),
        "asked_at": invitation.asked_at,
        "document": invitation.document,
        "before": before,
    }))
}

fn render_account(answer: &Value) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let row = |name: &str, value: String| vec![format!("  {name}"), value];
    let (device, place) = if text("platform") == "ios" {
        ("an iPhone or iPad", "Settings, General, VPN & Device Management, Sign In to Work or School Account")
    } else {
        ("a Mac", "System Settings, General, Device Management, Sign In to Work or School Account")
    };
    let whose = if text("mode") == "BYOD" { "it stays its user's own" } else { "it is the organisation's" };
    let mut shown = format!("Enrol {device} for {} by account: {whose}\n\n", text("user"));
    shown.push_str(&align(vec![
        row("open on the device", place.into()),
        row("type", text("managed_apple_account")),
        row("then sign in as", text("user")),
        row("with the pass", text("temporary_access_pass")),
        row("good", format!("once, until {}", minute(&text("good_until")))),
        row("then", "sign in to the account with Apple, and allow the management".into()),
    ]));
    shown.push_str(&notes(answer));
    shown.push_str(&format!("\nThe document:\n  {}\n", answer.get("document").unwrap_or(&Value::Null)));
    shown
}

fn render_apple(answer: &Value) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let row = |name: &str, value: String| vec![format!("  {name}"), value];
    let device = if text("platform") == "ios" { "an iPhone or iPad" } else { "a Mac" };
    let install = if text("platform") == "ios" {
        "Settings, Profile Downloaded, Install"
    } else {
        "System Settings, General, Device Management, open the profile, Install"
    };
    let mut shown = format!("Enrol {device} for {}\n\n", text("user"));
    shown.push_str(&align(vec![
        row("open in Safari on the device", text("link")),
        row("good", format!("once, until {}", minute(&text("good_until")))),
        row("then", install.into()),
        row("or sign in with a pass at", text("with_a_pass")),
    ]));
    shown.push_str(&notes(answer));
    shown
}

/// What has to be done first.
fn notes(answer: &Value) -> String {
    let notes = answer.get("before").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let notes: String = notes.map(|note| wrap(&format!("- {note}"), readable(None), "  ")).collect();
    if notes.is_empty() { notes } else { format!("\nBefore that:\n{notes}") }
}

fn render_token(answer: &Value) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let row = |name: &str, value: String| vec![format!("  {name}"), value];
    let mut shown = format!("Enrol a Windows PC for {} by program\n\n", text("user"));
    shown.push_str(&align(vec![
        row("call", "RegisterDeviceWithManagement, as administrator".into()),
        row("with the user", text("user")),
        row("with the server", text("server")),
        row("with the token", text("token")),
        row("good", format!("once, until {}", minute(&text("good_until")))),
    ]));
    shown.push_str(&notes(answer));
    shown
}

/// For whom.
#[derive(clap::Args, Debug, Deserialize, Serialize)]
pub struct Windows {
    /// User principal name, or id, of whoever will use the PC
    #[arg(long, value_name = "UPN|ID")]
    user: String,
    /// How long the pass is good, in minutes
    #[arg(long, default_value_t = 60, value_name = "MINUTES")]
    minutes: u32,
    /// How many letters the pass has
    #[arg(long, default_value_t = 12, value_name = "LETTERS")]
    length: usize,
    /// The pass may enrol any number of PCs while it is good, as a provisioning package needs it
    #[arg(long)]
    reusable: bool,
    /// Make a one-time token for a program that calls `RegisterDeviceWithManagement`, in place of the pass
    #[arg(long, conflicts_with_all = ["length", "reusable"])]
    #[serde(default)]
    token: bool,
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> service::Result<Value> {
    let arguments = match command {
        Command::Windows(arguments) => arguments,
        Command::Apple(arguments) => return apple(app, arguments, who).await,
    };
    let lifetime = i64::from(arguments.minutes).saturating_mul(MINUTE);
    let user = find::user(app, &arguments.user).await?;
    if arguments.token {
        who.check_helper(app, &user.id).await?;
        let invitation = enroll::invite_with_token(app, &user.upn, lifetime, &who.by).await?;
        return Ok(json!({
            "user": invitation.user.upn,
            "token": String::from_utf8_lossy(invitation.token.expose()),
            "good_until": invitation.expires_at.to_string(),
            "server": invitation.discovery_url,
            "before": before(app, &invitation.user),
        }));
    }
    who.check_giver_of_pass(app, &user.id).await?;
    let policy = Policy { length: arguments.length, lifetime, one_time: !arguments.reusable };
    let invitation = enroll::invite(app, &user.upn, policy, &who.by.actor, &who.by.origin).await?;
    let package: Map<String, Value> = invitation.package.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    Ok(json!({
        "user": invitation.user.upn,
        "temporary_access_pass": invitation.tap.show(),
        "good_until": invitation.tap.expires_at.to_string(),
        "one_time": policy.one_time,
        "explained_at": invitation.page_url,
        "open_on_the_pc": invitation.deep_link,
        "server_to_type": invitation.discovery_url,
        "provisioning_package": package,
        "before": before(app, &invitation.user),
    }))
}

/// What has to be so before a PC can enrol, as far as the configuration leaves it open.
fn before(app: &App, user: &User) -> Vec<String> {
    let config = &app.config;
    let mut notes = restrictions(app, Platform::Windows);
    if config.web.url.is_none() || config.device.url.is_none() {
        notes.push(format!("set web.url and device.url: a PC is told {} and {}", config.web_url(), config.device_url()));
    }
    if config.tls.certificate_file.is_none() {
        let root = format!("{}/aia/root.cer", config.pki_url());
        notes.push(format!(
            "the PC must trust this server: set tls.certificate_file, or fetch {root} and run certutil -addstore Root root.cer there as \
             administrator"
        ));
    }
    if let Some((_, domain)) = user.upn.split_once('@') {
        let host = config.web_host();
        let kind = if host.parse::<std::net::IpAddr>().is_ok() { "A" } else { "CNAME" };
        notes.push(format!(
            "Windows asks for the server's address, unless the DNS has enterpriseenrollment.{domain} {kind} {host}, the server certificate \
             has that name as well, and port 443 leads to the web face"
        ));
    }
    notes
}

/// `2026-11-24T04:26:42.169Z` as people write it: to the minute.
fn minute(moment: &str) -> String {
    match moment.get(..16) {
        Some(short) => format!("{} UTC", short.replace('T', " ")),
        None => moment.to_owned(),
    }
}

/// The answer for people.
pub(super) fn render(answer: &Value) -> String {
    if answer.get("managed_apple_account").is_some() {
        return render_account(answer);
    }
    if answer.get("link").is_some() {
        return render_apple(answer);
    }
    if answer.get("token").is_some() {
        return render_token(answer);
    }
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let row = |name: &str, value: String| vec![format!("  {name}"), value];
    let once = answer.get("one_time").and_then(Value::as_bool).unwrap_or(true);
    let good = format!("for {} until {}", if once { "one PC," } else { "any number of PCs," }, minute(&text("good_until")));
    let mut shown = format!("Enrol a Windows PC for {}\n\n", text("user"));
    shown.push_str(&align(vec![row("Temporary Access Pass", text("temporary_access_pass")), row("good", good)]));
    shown.push_str("\nOn the PC, one of these:\n");
    shown.push_str(&align(vec![
        row("open in the browser", text("explained_at")),
        row("open by Win+R", text("open_on_the_pc")),
        row("by hand", "Settings, Accounts, Access work or school, Enroll only in device management".into()),
        row("  user name", text("user")),
        row("  server, if asked", text("server_to_type")),
        row("  then sign in with", "the user name and the pass".into()),
    ]));
    shown.push_str("\nOr in a provisioning package (Windows Configuration Designer: Runtime settings, Workplace, Enrollments):\n");
    let package = answer.get("provisioning_package").and_then(Value::as_object);
    let package = package.into_iter().flatten().map(|(name, value)| row(name, value.as_str().unwrap_or_default().to_owned()));
    shown.push_str(&align(package.collect()));
    if once {
        shown.push_str("  The pass is used up by the first PC: --reusable makes one for several.\n");
    }
    shown.push_str("\nOr by a program that calls RegisterDeviceWithManagement: --token prints what it needs instead.\n");
    shown.push_str(&notes(answer));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_is_on_lines_of_its_own() {
        let answer = json!({
            "user": "ana@example.org", "temporary_access_pass": "aaaa-bbbb", "good_until": "2026-11-24T04:10:00Z", "one_time": true,
            "explained_at": "https://m/enroll", "open_on_the_pc": "ms-device-enrollment:?x", "server_to_type": "https://m/D.svc",
            "provisioning_package": { "AuthPolicy": "OnPremise", "Secret": "aaaa-bbbb" }, "before": ["do this"],
        });
        let text = render(&answer);
        for part in [
            "aaaa-bbbb\n",
            "https://m/enroll\n",
            "https://m/D.svc\n",
            "AuthPolicy",
            "  - do this\n",
            "--reusable",
            "the user name and the pass\n",
            "--token",
            "one PC, until 2026-11-24 04:10 UTC\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text =
            render(&json!({ "user": "ana@example.org", "token": "abc", "good_until": "2026-11-24T04:10:00Z", "server": "https://m/D" }));
        for part in ["RegisterDeviceWithManagement", "abc\n", "https://m/D\n", "once, until 2026-11-24 04:10 UTC\n"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = render(&json!({
            "user": "ana@example.org", "platform": "ios", "managed_apple_account": "ana@apple.example.org", "mode": "BYOD",
            "temporary_access_pass": "aaaa-bbbb", "good_until": "2026-11-24T04:10:00Z", "document": { "Servers": [] }, "before": ["do this"],
        }));
        for part in ["ana@apple.example.org\n", "aaaa-bbbb\n", "its user's own", "Sign In to Work", "  - do this\n", "{\"Servers\":[]}\n"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = render(&json!({ "one_time": false }));
        assert!(!text.contains("--reusable") && !text.contains("Before"), "{text}");
    }
}
