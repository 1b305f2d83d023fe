//! The connection with Apple Business Manager: tokens that OpenSSL encrypts as Apple does, the list of devices with everything that Apple's
//! service is known to say, and what devices are told.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster::clock::{DAY, MINUTE};
use muster::config::Config;
use muster::service::apple::ade::{self, Import, Outcome};
use muster::service::{Error, Result, jobs};
use muster::sim::apple::machine::Machine;
use muster::sim::windows::enroll::Machine as Pc;
use muster::store::audit;
use muster::wire::apple::checkin::{Answer, GetToken, Message};
use openssl::hash::MessageDigest;
use openssl::sign::Verifier;
use openssl::x509::X509;
use serde_json::{Value, json};

use crate::apple_enroll::{client, enrolled, on, put, said};
use crate::support::ade::{Ade, Say, TOKEN};
use crate::support::factory::Factory;
use crate::support::tools;
use crate::support::windows::House;

const ACTOR: &str = "cli:test";

/// The token of the stand-in, as Apple's message holds it.
pub fn message(expiry: &str) -> String {
    let mut parts: Vec<String> = TOKEN.iter().map(|(name, text)| format!("\"{name}\":\"{text}\"")).collect();
    parts.push(format!("\"access_token_expiry\":\"{expiry}\""));
    let text = format!("{{{}}}", parts.join(","));
    // Apple breaks lines wherever it likes.
    let (first, second) = text.split_at(70);
    format!(
        "Content-Type: text/plain;charset=UTF-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n-----BEGIN MESSAGE-----\r\n{first}\r\n{second}\r\n-----END MESSAGE-----\r\n"
    )
}

/// Encrypts it for a certificate (PEM), by the `openssl` program.
pub fn encrypted(message: &str, certificate: &str, cipher: &str) -> Option<Vec<u8>> {
    let program = tools::find("openssl", "openssl")?;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(certificate.as_bytes()).unwrap();
    let mut child = Command::new(program)
        .args(["smime", "-encrypt", cipher, "-outform", "SMIME"])
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

pub async fn house(service: &Ade, tweak: impl FnOnce(&mut Config) + Send + 'static) -> House {
    let root = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(root.path(), &service.root_pem).unwrap();
    let (_, root) = root.keep().unwrap();
    let url = format!("https://{}", service.address);
    House::tweaked(move |config| {
        config.apple.automated.service_url = url;
        config.apple.automated.service_root_file = Some(root);
        config.apple.automated.require_sign_in = false;
        tweak(config);
    })
    .await
}

async fn key(house: &House) -> String {
    ade::request(&house.server.app, "default".into(), false, ACTOR, "local").await.unwrap()
}

async fn bring(house: &House, file: Vec<u8>, replace: bool) -> Result<ade::Status> {
    ade::import(&house.server.app, Import { name: "default".into(), file, replace, account: None }, ACTOR, "local").await
}

/// A house with a token in force; `None` without `openssl`.
async fn connected(service: &Ade, tweak: impl FnOnce(&mut Config) + Send + 'static) -> Option<House> {
    let house = house(service, tweak).await;
    let file = encrypted(&message("2030-01-01T00:00:00Z"), &key(&house).await, "-aes256")?;
    bring(&house, file, false).await.unwrap();
    Some(house)
}

async fn sync(house: &House) -> Result<Outcome> {
    ade::sync(&house.server.app, "default", ACTOR, "local").await
}

fn outcome(named: usize, gone: usize, told: usize, later: usize) -> Outcome {
    Outcome { server: "default".into(), named, gone, told, later }
}

async fn listed(house: &House) -> Vec<String> {
    ade::devices(&house.server.app, String::new()).await.unwrap().into_iter().map(|(device, _)| device.serial).collect()
}

async fn actions(house: &House) -> String {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.into_iter().map(|row| format!("{} {} {}\n", row.action, row.target, row.after.unwrap_or_default())).collect()
}

fn serials(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("C02SIM{n:05}")).collect()
}

fn refusal<T: std::fmt::Debug>(result: Result<T>) -> (&'static str, String) {
    match result {
        Err(Error::Refused(refusal)) => (refusal.code(), String::new()),
        Err(Error::Invalid(refusal, why)) => (refusal.code(), why),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_opened_asked_about_and_kept_sealed() {
    let service = Ade::start().await;
    let house = house(&service, |_| ()).await;
    assert_eq!(refusal(bring(&house, Vec::new(), false).await).0, "ADE0002");
    let certificate = key(&house).await;
    assert_eq!(key(&house).await, certificate, "the same until another one is asked for");
    let good = message("2027-01-01T00:00:00Z");
    let Some(file) = encrypted(&good, &certificate, "-des3") else { return };
    assert_eq!(refusal(sync(&house).await).0, "ADE0007", "no token, no list");

    // Files that are none of it.
    for (file, why) in [
        (b"hello".to_vec(), "not the file"),
        (vec![b'A'; 70_000], "too long"),
        (encrypted(&good, &key(&other(&service).await).await, "-aes256").unwrap(), "another certificate"),
        (encrypted("hello", &certificate, "-aes256").unwrap(), "no beginning"),
        (encrypted(&message("2020-01-01T00:00:00Z"), &certificate, "-aes256").unwrap(), "it ended 2020"),
        (encrypted(&message("soon"), &certificate, "-aes256").unwrap(), "its end"),
    ] {
        let (code, said) = refusal(bring(&house, file, false).await);
        assert!(code == "ADE0003" && said.contains(why), "{code} {said}");
    }
    // One that Apple does not take.
    service.state().script.push_back(Say::word("/session", 401, "oauth_problem=token_rejected"));
    let (code, said) = refusal(bring(&house, file.clone(), false).await);
    assert!(code == "ADE0003" && said.contains("token_rejected"), "{said}");
    assert_eq!(ade::status(&house.server.app).await.unwrap()[0].days_left, None, "nothing was kept");

    let status = bring(&house, file, false).await.unwrap();
    assert_eq!(status.organisation.as_deref(), Some("Example"));
    assert!(status.days_left.is_some_and(|days| days > 0));
    let rows = actions(&house).await;
    assert!(rows.contains("apple.ade_token ade-server:default"), "{rows}");
    for (name, secret) in TOKEN.iter().filter(|(name, _)| name.ends_with("secret")) {
        assert!(!rows.contains(secret), "{name} is in the audit log");
    }

    // Next year's token is for the same server, or somebody says that it need not be.
    let again = || encrypted(&message("2029-01-01T00:00:00Z"), &certificate, "-aes256").unwrap();
    service.state().server = "server-b".into();
    assert_eq!(refusal(bring(&house, again(), false).await).0, "ADE0004");
    service.state().server = "server-a".into();
    bring(&house, again(), false).await.unwrap();
    // After another key the old certificate opens nothing.
    ade::request(&house.server.app, "default".into(), true, ACTOR, "local").await.unwrap();
    assert!(refusal(bring(&house, again(), false).await).1.contains("another certificate"));
    assert_eq!(refusal(ade::request(&house.server.app, "Bad Name".into(), false, ACTOR, "local").await).0, "ADE0001");
}

async fn other(service: &Ade) -> House {
    house(service, |_| ()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_read_in_pages_then_by_changes_and_devices_are_told_where_to_enrol() {
    let service = Ade::start().await;
    service.state().page = 7;
    service.state().add(serials(0, 20));
    service.state().foreign.insert("C02SIM00003".into());
    service.state().failing.insert("C02SIM00004".into());
    let Some(house) = connected(&service, |config| config.apple.automated.profile.skip_setup_items = vec!["Siri".into()]).await else {
        return;
    };
    assert_eq!(sync(&house).await.unwrap(), outcome(20, 1, 18, 1));
    assert_eq!(service.state().count("/server/devices"), 3);
    let web = house.server.web.clone();
    {
        let state = service.state();
        let profile = &state.profiles[0];
        assert_eq!(profile["url"], format!("{web}/enroll/apple/device"));
        assert_eq!(profile["configuration_web_url"], Value::Null, "nobody signs in");
        assert_eq!(profile["anchor_certs"].as_array().unwrap().len(), 1, "our own root");
        assert_eq!(
            (&profile["is_supervised"], &profile["is_mandatory"], &profile["is_mdm_removable"], &profile["await_device_configured"]),
            (&json!(true), &json!(true), &json!(false), &json!(true))
        );
        assert_eq!(profile["skip_setup_items"], json!(["Siri"]));
    }
    assert!(!listed(&house).await.contains(&"C02SIM00003".to_owned()), "what is not ours is off the list");

    // Changes only, and what is told already is not told again.
    {
        let mut state = service.state();
        state.add(serials(20, 22));
        let unknown = json!({ "serial_number": "C02NEVERSEEN", "model": "iPad" });
        state.devices.insert("C02NEVERSEEN".into(), unknown.clone());
        state.change(&unknown, "MODIFIED");
        let gone = state.devices.remove("C02SIM00005").unwrap();
        state.change(&gone, "Deleted");
        state.failing.clear();
    }
    assert_eq!(sync(&house).await.unwrap(), outcome(3, 1, 4, 0), "two new, one never seen, one left, and the one that failed");
    assert_eq!(service.state().count("/server/devices"), 3);
    let now = listed(&house).await;
    assert!(now.contains(&"C02NEVERSEEN".to_owned()) && !now.contains(&"C02SIM00005".to_owned()));
    assert_eq!(sync(&house).await.unwrap(), outcome(0, 0, 0, 0));
    assert_eq!(actions(&house).await.matches("apple.ade_sync").count(), 2, "nothing new is not recorded");
    assert_eq!(service.state().profiles.len(), 1);

    // The same by the job, after a quarter of an hour.
    service.state().add(serials(30, 31));
    house.server.clock.advance(15 * MINUTE);
    let ended = jobs::run_due(&house.server.app).await.unwrap();
    assert!(ended.iter().any(|job| job.name == "ade" && job.error.is_none()), "{ended:?}");
    assert!(listed(&house).await.contains(&"C02SIM00030".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_service_is_known_to_say_is_understood() {
    let service = Ade::start().await;
    service.state().add(serials(0, 5));
    let Some(house) = connected(&service, |_| ()).await else { return };
    sync(&house).await.unwrap();
    let again = |path, status, word| Say::word(path, status, word);

    // A session that is over is begun anew, once.
    let sessions = |service: &Ade| service.state().count("/session");
    for (status, word) in [(401, ""), (403, "FORBIDDEN")] {
        let before = sessions(&service);
        service.state().script.push_back(again("/devices/sync", status, word));
        sync(&house).await.unwrap();
        assert_eq!(sessions(&service), before + 2);
        service.state().script.extend([again("/devices/sync", status, word), again("/devices/sync", status, word)]);
        assert_eq!(refusal(sync(&house).await).0, "ADE0006");
        sync(&house).await.unwrap();
    }
    let alarms = actions(&house).await.matches("apple.ade_alarm").count();
    // A renewed session is used from then on.
    {
        let mut state = service.state();
        let page = json!({ "cursor": "sync-1", "more_to_follow": true, "devices": [] }).to_string();
        state.script.push_back(Say {
            path: "/devices/sync",
            status: 200,
            body: page,
            header: Some(("X-ADM-Auth-Session", "renewed".into())),
        });
    }
    let _ = sync(&house).await;
    assert!(service.state().seen.iter().any(|seen| seen.headers.get("x-adm-auth-session").is_some_and(|session| session == "renewed")));

    // Terms that nobody accepted, and a token that is not taken any more, are told to an administrator until they are over.
    for (word, code) in [("T_C_NOT_SIGNED", "ADE0005"), ("\"ACCESS_DENIED\"", "ADE0006")] {
        service.state().script.push_back(again("/devices/sync", 403, word));
        assert_eq!(refusal(sync(&house).await).0, code);
        let status = &ade::status(&house.server.app).await.unwrap()[0];
        assert!(status.alarm.as_ref().is_some_and(|alarm| alarm.contains(code)) && status.advice.is_some(), "{status:?}");
    }
    sync(&house).await.unwrap();
    assert_eq!(ade::status(&house.server.app).await.unwrap()[0].alarm, None);
    assert_eq!(actions(&house).await.matches("apple.ade_alarm").count(), alarms + 3);

    // A cursor that is too old: the whole list again, and what it does not name is gone.
    service.state().devices.remove("C02SIM00001");
    service.state().script.push_back(again("/devices/sync", 400, "\"EXPIRED_CURSOR\""));
    let read = sync(&house).await.unwrap();
    assert_eq!((read.named, read.gone), (service.state().devices.len(), 1));
    assert!(!listed(&house).await.contains(&"C02SIM00001".to_owned()));
    // Twice in one reading is no cursor of ours.
    for _ in 0..2 {
        service.state().script.push_back(again("/devices/sync", 400, "EXPIRED_CURSOR"));
        service.state().script.push_back(again("/server/devices", 400, "EXPIRED_CURSOR"));
    }
    assert!(matches!(sync(&house).await, Err(Error::Unavailable(_))));
    service.state().script.clear();
    // A list that is exhausted goes on with changes.
    {
        let mut state = service.state();
        let page = json!({ "cursor": "sync-2", "more_to_follow": true, "devices": [] }).to_string();
        state.script.push_back(Say { path: "/server/devices", status: 200, body: page, header: None });
        state.script.push_back(again("/server/devices", 400, "EXHAUSTED_CURSOR"));
    }
    let read = sync(&house).await.unwrap();
    assert_eq!(read.named, service.state().changes.len() - 2);
    // Answers that are none leave everything as it was.
    let before = listed(&house).await;
    for body in ["", "<html>", "[]", "{}", "{\"devices\":[{}]}", "{\"cursor\":7}"] {
        service.state().script.push_back(Say::word("/devices/sync", 200, body));
        let read = sync(&house).await;
        assert!(matches!(read, Err(Error::Unavailable(_))), "{body}: {read:?}");
    }
    // Of a page that holds nonsense beside devices, the devices are kept.
    let odd = json!({ "cursor": "sync-1", "more_to_follow": false, "devices": [
        { "serial_number": "" }, { "serial_number": "a b" }, { "serial_number": "x".repeat(65) },
        { "serial_number": "C02ODD", "model": "m".repeat(5000), "op_type": "unheard", "unheard": {} },
    ] });
    service.state().script.push_back(Say { path: "/devices/sync", status: 200, body: odd.to_string(), header: None });
    service.state().add(["C02ODD".to_owned()]);
    assert_eq!(sync(&house).await.unwrap().named, 1);
    assert_eq!(listed(&house).await.len(), before.len() + 1);
    // A service that promises more for ever, with the same cursor.
    let stuck = json!({ "cursor": "stuck", "more_to_follow": true, "devices": [] }).to_string();
    for _ in 0..3 {
        service.state().script.push_back(Say { path: "/devices/sync", status: 200, body: stuck.clone(), header: None });
    }
    sync(&house).await.unwrap();
    assert_eq!(service.state().script.len(), 1, "it stopped at the second");
    service.state().script.clear();
    // And with another cursor each time: an end is made of it, somebody is told, and the next reading goes on.
    for n in 0..200 {
        let endless = json!({ "cursor": format!("sync-{}", n % 2), "more_to_follow": true, "devices": [] }).to_string();
        service.state().script.push_back(Say { path: "/devices/sync", status: 200, body: endless, header: None });
    }
    assert_eq!(refusal(sync(&house).await).0, "ADE0008");
    let left = service.state().script.len();
    assert!((100..200).contains(&left), "{left}");
    let status = &ade::status(&house.server.app).await.unwrap()[0];
    assert!(status.alarm.as_ref().is_some_and(|alarm| alarm.contains("ADE0008")) && status.advice.is_some(), "{status:?}");
    service.state().script.clear();
    sync(&house).await.unwrap();
    assert_eq!(ade::status(&house.server.app).await.unwrap()[0].alarm, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_a_page_says_of_a_device_the_last_counts() {
    let service = Ade::start().await;
    service.state().add(serials(0, 1));
    let Some(house) = connected(&service, |_| ()).await else { return };
    sync(&house).await.unwrap();
    let said = async |devices: Value| {
        let page = json!({ "cursor": "sync-1", "more_to_follow": false, "devices": devices }).to_string();
        service.state().script.push_back(Say { path: "/devices/sync", status: 200, body: page, header: None });
        service.state().add(["C02AGAIN".to_owned()]);
        sync(&house).await.unwrap();
        listed(&house).await.contains(&"C02AGAIN".to_owned())
    };
    let one = |kind: &str, date: Option<&str>| json!({ "serial_number": "C02AGAIN", "op_type": kind, "op_date": date });
    let (early, late) = (Some("2026-01-02T03:04:05Z"), Some("2026-01-02T03:04:06Z"));
    assert!(said(json!([one("deleted", early), one("added", late)])).await, "taken away and given back");
    assert!(!said(json!([one("modified", early), one("deleted", late)])).await);
    assert!(said(json!([one("added", late), one("deleted", early)])).await, "by the moment, in whatever order");
    assert!(!said(json!([one("added", None), one("deleted", None)])).await, "else by the order");
    assert!(said(json!([one("deleted", None), one("added", early)])).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_gets_the_token_that_shows_apple_whose_it_is() {
    let service = Ade::start().await;
    let Some(house) = connected(&service, |_| ()).await else { return };
    let house = on(house).await;
    let device = enrolled(&house, Machine::mac(1)).await;
    assert!(device.enrollment.mdm.server_capabilities.contains(&"com.apple.mdm.token".to_owned()));
    let (http, url) = (client(&house, &device), device.enrollment.mdm.check_in_url.clone().unwrap());
    let ask = async |kind: &str| {
        let request = GetToken { token_service_type: kind.into(), token_parameters: None };
        put(&http, &url, said(&device.machine.udid, Message::GetToken(request))).await
    };
    let (status, body) = ask("com.apple.watch.pairing").await;
    assert!(status == 400 && body.starts_with(b"ENR0019"));
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let (status, body) = ask("com.apple.maid").await;
        assert_eq!(status, 200);
        let Some(Answer::Token(token)) = Answer::decode(&Message::GetToken(GetToken::default()), &body).unwrap() else { panic!() };
        let token = String::from_utf8(token.0).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        // By the certificate that Apple has.
        let certificate = X509::from_pem(key(&house).await.as_bytes()).unwrap();
        let public = certificate.public_key().unwrap();
        let mut verifier = Verifier::new(MessageDigest::sha256(), &public).unwrap();
        assert!(verifier.verify_oneshot(&URL_SAFE_NO_PAD.decode(signature).unwrap(), message.as_bytes()).unwrap());
        let part =
            |at: usize| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(message.split('.').nth(at).unwrap()).unwrap()).unwrap();
        assert_eq!(part(0)["alg"], "RS256");
        let claims = part(1);
        assert_eq!((claims["iss"].as_str(), claims["service_type"].as_str()), (Some("server-a"), Some("com.apple.maid")));
        assert_eq!(claims["iat"], house.server.app.now().seconds());
        assert!(seen.insert(claims["jti"].as_str().unwrap().to_owned()), "each is another");
    }
    assert_eq!(actions(&house).await.matches("enrollment.account-token").count(), 1, "once an hour");
    // Without the connection there is nobody whose word it would be.
    ade::remove(&house.server.app, "default".into(), ACTOR, "local").await.unwrap();
    assert_eq!(ask("com.apple.maid").await.0, 400);
    assert!(!enrolled(&house, Machine::mac(2)).await.enrollment.mdm.server_capabilities.contains(&"com.apple.mdm.token".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_to_be_left_alone_is() {
    let service = Ade::start().await;
    service.state().add(serials(0, 3));
    let Some(house) = connected(&service, |_| ()).await else { return };
    let body = json!({ "devices": { "C02SIM00000": "SUCCESS", "C02SIM00001": "THROTTLED" }, "retry_after_seconds": 1800 }).to_string();
    service.state().script.push_back(Say { path: "/profile/devices", status: 200, body, header: None });
    assert_eq!(sync(&house).await.unwrap(), outcome(3, 0, 1, 2));
    let asked = service.state().seen.len();
    house.server.clock.advance(15 * MINUTE);
    jobs::run_due(&house.server.app).await.unwrap();
    assert_eq!(service.state().seen.len(), asked, "not before half an hour");
    house.server.clock.advance(15 * MINUTE);
    jobs::run_due(&house.server.app).await.unwrap();
    assert_eq!(service.state().devices["C02SIM00002"]["profile_status"], "assigned");
    // The same for a request that is refused.
    service.state().script.push_back(Say {
        path: "/devices/sync",
        status: 429,
        body: String::new(),
        header: Some(("Retry-After", "3600".into())),
    });
    assert!(matches!(sync(&house).await, Err(Error::Unavailable(why)) if why.contains("left alone")));
    let asked = service.state().seen.len();
    house.server.clock.advance(30 * MINUTE);
    jobs::run_due(&house.server.app).await.unwrap();
    assert_eq!(service.state().seen.len(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_of_the_list_enrols_by_itself_and_others_do_not() {
    let factory = Factory::new();
    let pem = factory.path();
    let service = Ade::start().await;
    service.state().add([Machine::mac(1).serial]);
    let Some(house) = connected(&service, move |config| {
        config.apple.automated.device_ca_file = Some(pem);
        config.enrollment.macos.personal = false;
        config.enrollment.windows.personal = false;
    })
    .await
    else {
        return;
    };
    let house = on(house).await;
    let ask = async |machine: &Machine| {
        let request = house.server.client().post(format!("{}/enroll/apple/device", house.server.web)).body(factory.signed(&machine.info()));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, body) = ask(&Machine::mac(1)).await;
    assert!(status == 403 && body.contains("ENR0031"), "not before the list was read: {body}");
    sync(&house).await.unwrap();
    assert_eq!(ask(&Machine::mac(1)).await.0, 200);
    assert!(ask(&Machine::mac(2)).await.1.contains("ENR0031"));
    // A PC that says that serial number is none of them.
    let mut pc = Pc::windows_11(1);
    pc.more = vec![("SerialNumber".into(), Machine::mac(1).serial)];
    assert!(house.join(&pc).await.is_err());
    let actions = actions(&house).await;
    assert!(actions.lines().any(|line| line.contains("operation") && line.contains("ENR0031")), "{actions}");
    // It left the organisation.
    let device = service.state().devices.remove(&Machine::mac(1).serial).unwrap();
    service.state().change(&device, "deleted");
    sync(&house).await.unwrap();
    assert!(ask(&Machine::mac(1)).await.1.contains("ENR0031"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_near_their_end_are_announced_once_and_a_server_can_be_forgotten() {
    let service = Ade::start().await;
    service.state().add(serials(0, 2));
    let Some(house) = connected(&service, |_| ()).await else { return };
    sync(&house).await.unwrap();
    let app = Arc::clone(&house.server.app);
    let left = muster::clock::Time::parse("2030-01-01T00:00:00Z").unwrap().since(app.now());
    house.server.clock.advance(left - 20 * DAY);
    ade::warn(&app).await.unwrap();
    ade::warn(&app).await.unwrap();
    assert_eq!(actions(&house).await.matches("apple.ade_expiring").count(), 1);
    assert!(ade::status(&app).await.unwrap()[0].advice.as_ref().unwrap().contains("ends soon"));
    house.server.clock.advance(30 * DAY);
    assert_eq!(refusal(sync(&house).await).0, "ADE0006");
    ade::remove(&app, "default".into(), ACTOR, "local").await.unwrap();
    assert_eq!((listed(&house).await, ade::status(&app).await.unwrap()), (Vec::new(), Vec::new()));
    assert_eq!(refusal(ade::remove(&app, "default".into(), ACTOR, "local").await).0, "ADE0002");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apple_is_told_where_accounts_enrol_whose_domain_does_not_say() {
    let service = Ade::start().await;
    let Some(house) = connected(&service, |config| {
        config.apple.account.domains = vec!["example.org".into()];
        config.apple.account.ios = "user".into();
    })
    .await
    else {
        return;
    };
    let app = &house.server.app;
    assert!(ade::discovery(app, "default").await.is_err(), "Apple knows nothing yet");
    let url = format!("{}/.well-known/com.apple.remotemanagement", house.server.web);
    assert_eq!(ade::set_discovery(app, "default", ACTOR, "local").await.unwrap(), url);
    assert_eq!(service.state().discovery, Some(json!({ "mdm_service_discovery_url": url })));
    assert_eq!(ade::discovery(app, "default").await.unwrap(), url);
    assert!(actions(&house).await.contains("apple.ade_discovery"));
    // Devices come without a question: this is answered.
    assert_eq!(house.server.client().get(&url).send().await.unwrap().status(), 200);
    let unknown = ade::set_discovery(app, "nobody", ACTOR, "local").await;
    assert!(matches!(unknown, Err(Error::Refused(refusal)) if refusal.code() == "ADE0002"));
    let Some(off) = connected(&service, |_| ()).await else { return };
    let refused = ade::set_discovery(&off.server.app, "default", ACTOR, "local").await;
    assert!(matches!(refused, Err(Error::Refused(refusal)) if refusal.code() == "ENR0035"));
}
