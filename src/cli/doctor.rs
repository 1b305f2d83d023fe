//! `muster doctor`: what is wrong with this instance, and what to do about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use serde::Serialize;

use super::{Order, Way, control, output};
use crate::app::{has_keys_in_environment, read_master_keys};
use crate::clock::{Clock as _, DAY, MINUTE, SystemClock, Time};
use crate::config::Config;
use crate::store::Location;

/// How long a name server or a face may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A server certificate with less life than this asks for attention.
const RENEW_DAYS: u32 = 14;

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Wrong,
}

#[derive(Serialize)]
struct Finding {
    check: String,
    state: State,
    finding: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: impl Into<String>, state: State, finding: impl Into<String>) {
        self.0.push(Finding { check: check.into(), state, finding: finding.into() });
    }
}

/// Checks, prints the findings, and fails when something is wrong.
pub(super) async fn run(config: Config, json: bool) -> anyhow::Result<ExitCode> {
    let mut found = Findings::default();
    let runs = check_configuration(&config, &mut found).await;
    check_files(&config, &mut found);
    check_instance(&config, &mut found).await;
    check_names(&config, &mut found).await;
    let device = if config.single_port { config.web.listen } else { config.device.listen };
    for (key, host, address) in [("web", config.web_host(), config.web.listen), ("device", config.device_host(), device)] {
        check_certificate(key, host, address, runs, &mut found).await;
    }
    output::print(&serde_json::to_value(&found.0)?, Some(render as output::View).filter(|_| !json))?;
    Ok(if found.0.iter().any(|f| f.state == State::Wrong) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The findings, each whole: what is cut off is the advice.
fn render(answer: &serde_json::Value, width: Option<usize>) -> String {
    let findings = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |finding: &serde_json::Value| {
        let text = |name: &str| finding.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        let indent = " ".repeat(9);
        let lines = output::wrap(&format!("{}: {}", text("check"), text("finding")), output::readable(width), &indent);
        format!("{:<9}{}", text("state"), lines.trim_start())
    };
    findings.iter().map(line).collect()
}

/// Whose configuration is judged here, and where that of the server that runs differs from it; whether one runs and tells its own.
async fn check_configuration(config: &Config, found: &mut Findings) -> bool {
    const CHECK: &str = "configuration";
    let judged = "judged is the configuration of this command line (file, environment, flags)";
    let theirs: BTreeMap<String, Option<String>> = match control::send(&config.control_path(), &Order::Settings).await {
        Ok(None) => {
            found.add(CHECK, State::Ok, format!("{judged}; no server runs in this data folder"));
            return false;
        }
        Err(error) => {
            found.add(CHECK, State::Warning, format!("{judged}; the server that runs does not tell its own: {error:#}"));
            return false;
        }
        Ok(Some(settings)) => serde_json::from_value(settings).unwrap_or_default(),
    };
    let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
    let differs = |(key, own): (String, Option<String>)| {
        let other = theirs.get(&key).cloned().flatten();
        // A port of 0 became a true one, and the folder is the one where the server was found.
        let any_port = key.ends_with(".listen") && own.as_deref().is_some_and(|own| own.ends_with(":0\""));
        let unused = key == "data_dir" || key == "device.listen" && config.single_port;
        (own != other && !unused && !any_port).then(|| format!("{key} is {} here and {} there", show(&own), show(&other)))
    };
    let differences: Vec<String> = config.settings().into_iter().filter_map(differs).collect();
    if differences.is_empty() {
        found.add(CHECK, State::Ok, format!("{judged}; the server that runs has the same"));
    } else {
        let advice = "give this command what the server was given, or restart the server";
        found.add(CHECK, State::Warning, format!("{judged}; the server that runs has another: {}; {advice}", differences.join(", ")));
    }
    true
}

fn check_files(config: &Config, found: &mut Findings) {
    let folder = &config.data_dir;
    match std::fs::metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            found.add("data folder", State::Wrong, format!("{} is not made yet: run `muster init`", folder.display()));
        }
        Err(error) => found.add("data folder", State::Wrong, format!("{}: {error}", folder.display())),
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
            found.add("data folder", State::Warning, format!("{0} can be entered by others: run chmod 700 {0}", folder.display()));
        }
        Ok(_) => found.add("data folder", State::Ok, folder.display().to_string()),
    }
    let unmade = |path: &std::path::Path| matches!(path.try_exists(), Ok(false));
    let nothing_yet = matches!(config.location(), Location::Sqlite(path) if unmade(&path)) && unmade(&config.master_key_path());
    match read_master_keys(config) {
        // There is none to bring back.
        Err(_) if nothing_yet && !has_keys_in_environment() => {
            found.add("master key", State::Wrong, "not made yet: run `muster init`");
        }
        Err(error) => found.add("master key", State::Wrong, error.to_string()),
        Ok(keys) => {
            let place = if has_keys_in_environment() { "environment".to_owned() } else { config.master_key_path().display().to_string() };
            found.add("master key", State::Ok, format!("{} in {place}; keep a copy elsewhere", keys.key_ids().join(", ")));
        }
    }
    if let Location::Sqlite(path) = config.location()
        && let Ok(written) = std::fs::metadata(&path).and_then(|m| m.modified())
    {
        let written = written.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        if Time(written).since(SystemClock.now()) > MINUTE {
            found.add("clock", State::Wrong, "the clock is behind the last write to the database: set it, and keep it by NTP");
        }
    }
}

async fn check_instance(config: &Config, found: &mut Findings) {
    match Way::Local(Box::new(config.clone())).give(Order::Status).await {
        Err(error) => found.add("instance", State::Wrong, format!("{error:#}")),
        Ok(status) => {
            let text = |key: &str| status.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
            found.add("instance", State::Ok, format!("{}, {}, tenant {}", text("organisation"), text("database"), text("tenant")));
            for contested in status.get("contested_hardware").and_then(|v| v.as_array()).into_iter().flatten() {
                let ids = contested.get("devices").and_then(|v| v.as_array()).into_iter().flatten().filter_map(|id| id.as_str());
                let ids: Vec<_> = ids.collect();
                let text = format!("{} say they are the same PC: find out which one is, and retire the others", ids.join(" and "));
                found.add("same hardware", State::Warning, text);
            }
            check_serials(&status, found);
            check_receivers(&status, found);
            check_push(&status, found);
            check_business_manager(&status, found);
            check_content(&status, found);
            check_authority(&status, found);
            check_issuing(&status, found);
            check_break_glass(&status, found);
            if text("version") != env!("CARGO_PKG_VERSION") {
                found.add("version", State::Warning, format!("the running server is {}: restart it", text("version")));
            }
            let drift = Time::parse(&text("time")).map_or(0, |at| SystemClock.now().since(at).abs());
            let state = if drift > MINUTE { State::Wrong } else { State::Ok };
            found.add("clock", state, format!("{}, {} s from the server's", SystemClock.now(), drift / 1000));
        }
    }
}

/// Accounts that are kept for emergencies: too few, or one was used.
fn check_break_glass(status: &serde_json::Value, found: &mut Findings) {
    let Some(said) = status.get("break_glass").filter(|said| !said.is_null()) else {
        let text = "no account is kept for emergencies: muster user break-glass add USER";
        return found.add("break-glass", State::Warning, text);
    };
    let worries = ["alarm", "advice"].into_iter().filter_map(|key| said.get(key)?.as_str());
    let worries: Vec<_> = worries.collect();
    if worries.is_empty() {
        found.add("break-glass", State::Ok, format!("{} accounts", said.get("accounts").cloned().unwrap_or_default()));
    } else {
        found.add("break-glass", State::Warning, worries.join("; "));
    }
}

/// Devices that say they have another serial number than they enrolled with.
fn check_serials(status: &serde_json::Value, found: &mut Findings) {
    for contested in status.get("contested_serials").and_then(|v| v.as_array()).into_iter().flatten() {
        let of = |key: &str| contested.get(key).and_then(|v| v.as_str()).unwrap_or_default();
        let text = format!(
            "{} enrolled as {} and says it is {}: look at it, and retire it when nobody can tell why",
            of("device"),
            of("serial_number"),
            of("says")
        );
        found.add("serial number", State::Warning, text);
    }
}

/// Whether what the CA's certificates say of itself is still what is configured.
fn check_authority(status: &serde_json::Value, found: &mut Findings) {
    let of = |key: &str| status.get("authority").and_then(|a| a.get(key)).and_then(|v| v.as_str());
    let (Some(said), Some(now)) = (of("crl_in_certificate"), of("crl")) else { return };
    if said != now {
        let advice = format!(
            "the issuing CA's certificate says that the root's list is at {said}, and this server publishes it at {now}: set pki.url to what \
             the certificate says, or let that address lead here, too"
        );
        found.add("ca address", State::Warning, advice);
    } else {
        found.add("ca address", State::Ok, said);
    }
    let (Some(name), Some(expected)) = (of("name"), of("name_by_configuration")) else { return };
    if name != expected {
        let advice = format!("the root is called {name}, and by the configuration it would be {expected}: set organisation as it was");
        found.add("ca name", State::Warning, advice);
    }
}

/// Whether devices can be issued certificates.
fn check_issuing(status: &serde_json::Value, found: &mut Findings) {
    let of = |key: &str| status.get("issuing").and_then(|issuing| issuing.get(key)).and_then(|v| v.as_str());
    match (of("alarm"), of("advice")) {
        (Some(alarm), _) => found.add("issuing ca", State::Wrong, alarm),
        (None, Some(advice)) => found.add("issuing ca", State::Warning, advice),
        // A server of before tells nothing of it.
        (None, None) => {
            if let (Some(name), Some(until)) = (of("name"), of("until")) {
                found.add("issuing ca", State::Ok, format!("{name} issues to devices until {until}"));
            }
        }
    }
}

/// Receivers of signals that hear nothing.
fn check_receivers(status: &serde_json::Value, found: &mut Findings) {
    for receiver in status.get("failing_receivers").and_then(|v| v.as_array()).into_iter().flatten() {
        let of = |key: &str| receiver.get(key).and_then(|v| v.as_str());
        let tries = receiver.get("failed_tries").and_then(serde_json::Value::as_i64).unwrap_or(0);
        let (state, why, last) =
            (of("status").unwrap_or("-"), of("why").unwrap_or("no reason given"), of("last_success").unwrap_or("never"));
        let text = format!("{state}, {tries} failed tries, last success {last}: {why}; see muster signals outbox");
        found.add(format!("receiver: {}", of("name").unwrap_or_default()), State::Warning, text);
    }
}

/// The Apple push certificate.
fn check_push(status: &serde_json::Value, found: &mut Findings) {
    let of = |key: &str| status.get("apple_push").and_then(|push| push.get(key)).filter(|v| !v.is_null());
    let Some(topic) = of("topic").and_then(|v| v.as_str()) else {
        let advice = of("advice").and_then(|v| v.as_str()).unwrap_or_default();
        return match of("requested_at") {
            Some(_) => found.add("apple push", State::Warning, advice),
            None => found.add("apple push", State::Ok, format!("no certificate: Macs, iPhones and iPads cannot enrol ({advice})")),
        };
    };
    let ended = of("days_left").and_then(serde_json::Value::as_i64).is_some_and(|days| days < 0);
    match of("advice").and_then(|v| v.as_str()) {
        Some(advice) => {
            found.add("apple push", if ended || of("alarm").is_some() { State::Wrong } else { State::Warning }, advice);
        }
        None => {
            found.add("apple push", State::Ok, format!("{topic} until {}", of("not_after").and_then(|v| v.as_str()).unwrap_or_default()))
        }
    }
}

/// Whether Apple Business Manager takes our tokens.
fn check_business_manager(status: &serde_json::Value, found: &mut Findings) {
    for server in status.get("apple_ade").and_then(|v| v.as_array()).into_iter().flatten() {
        let of = |key: &str| server.get(key).and_then(|v| v.as_str());
        let check = format!("apple business manager: {}", of("name").unwrap_or_default());
        let ended = server.get("days_left").and_then(serde_json::Value::as_i64).is_some_and(|days| days < 0);
        match (of("alarm"), of("advice")) {
            (Some(alarm), _) => found.add(check, State::Wrong, alarm),
            (None, Some(advice)) => found.add(check, if ended { State::Wrong } else { State::Warning }, advice),
            (None, None) => found.add(check, State::Ok, format!("{} devices", server.get("devices").unwrap_or(&serde_json::Value::Null))),
        }
    }
}

/// Whether Apps and Books takes our content token, where there is one or a profile needs one.
fn check_content(status: &serde_json::Value, found: &mut Findings) {
    const CHECK: &str = "apple content token";
    let Some(content) = status.get("apple_content").filter(|content| !content.is_null()) else { return };
    let of = |key: &str| content.get(key).and_then(|v| v.as_str());
    let ended = content.get("days_left").and_then(serde_json::Value::as_i64).is_some_and(|days| days < 0);
    match (of("alarm"), of("advice")) {
        (Some(alarm), Some(advice)) => found.add(CHECK, State::Wrong, format!("{alarm}: {advice}")),
        (Some(alarm), None) => found.add(CHECK, State::Wrong, alarm),
        (None, Some(advice)) => found.add(CHECK, if ended { State::Wrong } else { State::Warning }, advice),
        (None, None) => {
            found.add(CHECK, State::Ok, format!("{} until {}", of("location").unwrap_or_default(), of("not_after").unwrap_or_default()));
        }
    }
}

async fn check_names(config: &Config, found: &mut Findings) {
    for (key, face, url) in [
        ("web.url", &config.web, config.web_url()),
        ("device.url", &config.device, config.device_url()),
        ("pki.url", &config.pki, config.pki_url()),
    ] {
        if face.url.is_none() && !face.listen.ip().is_loopback() {
            found.add(key, State::Warning, format!("not set: others are told {url}; set it to the name that devices use"));
            continue;
        }
        let Some((host, port)) = reqwest::Url::parse(&url).ok().and_then(|u| Some((u.host_str()?.to_owned(), u.port_or_known_default()?)))
        else {
            continue;
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        if !face.listen.ip().is_loopback() && is_local(&host) {
            found.add(
                key,
                State::Warning,
                format!("{url} is this machine for everybody: only this machine can enrol; set a name that others reach"),
            );
            continue;
        }
        let resolved = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host.as_str(), port))).await;
        match resolved.map(|r| r.map(|addresses| addresses.map(|a| a.ip().to_string()).collect::<Vec<_>>())) {
            Ok(Ok(addresses)) if !addresses.is_empty() => found.add(key, State::Ok, format!("{url} is at {}", addresses.join(", "))),
            _ => found.add(key, State::Wrong, format!("{host} is not known to the name server: add an A or AAAA record")),
        }
    }
}

/// Whether every machine calls itself so.
fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `runs`: a server of this data folder does.
async fn check_certificate(key: &str, host: String, address: SocketAddr, runs: bool, found: &mut Findings) {
    let check = format!("{key} certificate");
    let name = host.clone();
    let shown = tokio::task::spawn_blocking(move || handshake(&name, address)).await;
    let certificate = match shown.map_err(anyhow::Error::from).and_then(|r| r) {
        Ok(certificate) => certificate,
        Err(error) => return found.add(check, State::Warning, format!("no server answers at {address}: {error:#}")),
    };
    if !runs {
        let text = format!("another program answers at {address}: no server runs in this data folder");
        return found.add(check, State::Warning, text);
    }
    let days = |n| Asn1Time::days_from_now(n).ok();
    if !covers(&certificate, &host) {
        found.add(
            check,
            State::Wrong,
            format!("the server certificate is not good for {host}: add the name to tls.extra_names or replace the files"),
        );
    } else if days(0).is_some_and(|now| certificate.not_before() > now) {
        found.add(check, State::Wrong, "the server certificate is not valid yet: check the clock");
    } else if days(0).is_some_and(|now| certificate.not_after() < now) {
        found.add(check, State::Wrong, format!("the server certificate has ended ({}): replace it", end(&certificate)));
    } else if days(RENEW_DAYS).is_some_and(|soon| certificate.not_after() < soon) {
        found.add(check, State::Warning, format!("the server certificate ends {}: replace it soon", end(&certificate)));
    } else {
        found.add(check, State::Ok, format!("good for {host} until {}", end(&certificate)));
    }
}

/// The end of a certificate, spelled as all moments are.
fn end(certificate: &X509) -> String {
    let end = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(certificate.not_after()));
    end.map_or_else(
        |_| "-".to_owned(),
        |since| Time::from_seconds(i64::from(since.days) * (DAY / 1000) + i64::from(since.secs)).to_string(),
    )
}

/// The certificate that the face shows.
fn handshake(host: &str, mut address: SocketAddr) -> anyhow::Result<X509> {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let stream = std::net::TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut connector = SslConnector::builder(SslMethod::tls_client())?;
    // What it shows is judged here, and nothing is sent over the connection.
    connector.set_verify(SslVerifyMode::NONE);
    let stream = connector.build().configure()?.verify_hostname(false).connect(host, stream)?;
    stream.ssl().peer_certificate().ok_or_else(|| anyhow::anyhow!("it showed no certificate"))
}

fn covers(certificate: &X509, host: &str) -> bool {
    let address: Option<std::net::IpAddr> = host.parse().ok();
    let octets = address.map(|a| match a {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    });
    certificate.subject_alt_names().into_iter().flatten().any(|name| match (&octets, name.dnsname(), name.ipaddress()) {
        (Some(octets), _, Some(shown)) => octets.as_slice() == shown,
        (None, Some(shown), _) => {
            let wild =
                shown.strip_prefix("*.").zip(host.split_once('.')).is_some_and(|(ending, (_, rest))| ending.eq_ignore_ascii_case(rest));
            wild || shown.eq_ignore_ascii_case(host)
        }
        _ => false,
    })
}
