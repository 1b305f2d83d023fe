//! Nothing that the server says about itself holds a secret.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use muster::domain::assignment::{Mode, Target};
use muster::domain::command::Verb;
use muster::service::device::{self, Custom, Order};
use muster::service::profile::{self, Draft};
use muster::sim::windows::Device;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, filter, fmt};

use super::entra::Tenant;
use super::*;

/// Whether anything is kept now, and all that was: the log of a process is one, whoever writes into it.
static ON: AtomicBool = AtomicBool::new(false);
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Kept;

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that our own code says from now on, down to the finest.
fn listen() {
    let ours = filter::dynamic_filter_fn(|metadata, _| ON.load(Ordering::Relaxed) && metadata.target().starts_with("muster"));
    let lines = fmt::layer().json().with_span_events(fmt::format::FmtSpan::FULL).with_writer(|| Kept).with_filter(ours);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines)).unwrap();
    ON.store(true, Ordering::Relaxed);
}

const WRITTEN: &str = "written-by-a-custom-node-5f0c2b";
const ORDERED: &str = "sent-with-an-order-91c7d4";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolment_sessions_and_a_certificate_leave_no_secret_in_the_log() {
    let tenant = Tenant::start().await;
    let entra = tenant.config.clone();
    let house = House::tweaked(move |config| {
        config.windows.entra = vec![entra];
        config.windows.md5_authentication = true;
        config.windows.sign_messages = true;
    })
    .await;
    listen();
    let app = &house.server.app;
    let mut secrets: Vec<(String, String)> = Vec::new();
    let mut secret = |what: &str, text: &str| {
        assert!(text.len() >= 8, "{what}: {text}");
        secrets.push((what.to_owned(), text.to_owned()));
    };
    // Four ways in, and ways that fail.
    let pass = house.pass().await;
    let (authenticate, enrollment) = (house.url("/EnrollmentServer/Authenticate"), house.url("/EnrollmentServer/Enrollment.svc"));
    let token = enroll::federated(&mut house.client(), &authenticate, UPN, &pass).await.unwrap();
    let invited = muster::service::windows::enroll::invite_with_token(app, UPN, 10 * MINUTE, "cli:test").await.unwrap();
    let (good, expired) = (tenant.token(app.now(), "k1", |_| ()), tenant.token(app.now().plus(-DAY), "k1", |_| ()));
    let tokens =
        [Security::Token(token.clone()), Security::Token(invited.token.expose().to_vec()), Security::Jwt(good.clone().into_bytes())];
    for (number, security) in tokens.into_iter().enumerate() {
        let mut request = issue(enroll::certificate_request("D", &key()).unwrap());
        request.context[0].1 = format!("D{number}");
        enroll::request_token(&mut house.client(), &enrollment, &request, &security).await.unwrap();
        let _ = enroll::request_token(&mut house.client(), &enrollment, &request, &security).await;
    }
    for bad in [Security::Jwt(expired.clone().into_bytes()), Security::UserName { name: UPN.into(), password: format!("{pass}x") }] {
        enroll::policy(&mut house.client(), &house.url("/EnrollmentServer/Policy.svc"), &bad).await.unwrap_err();
    }
    secret("pass", &pass);
    secret("pass without hyphens", &pass.replace('-', ""));
    secret("token of the sign-in page", std::str::from_utf8(&token).unwrap());
    secret("token for programs", std::str::from_utf8(invited.token.expose()).unwrap());
    for jwt in [&good, &expired] {
        secret("token of a tenant", jwt.rsplit('.').next().unwrap());
    }
    // Sessions that write, ask, and bring a certificate; one message that is nonsense.
    let draft = "display_name = \"all\"\nkind = \"configuration\"\nplatform = \"windows\"\n[[document.custom]]\nname = \"one\"\n\
                 uri = \"./Device/Vendor/MSFT/Policy/Config/Authentication/PreferredAadTenantDomainName2\"\nformat = \"chr\"\nvalue = \"VALUE\"\n\
                 [[document.payloads]]\ntype = \"scep\"\nname = \"two\"\n[document.payloads.template]\nsubject = \"CN={{DeviceId}}\"\ndays = 365\n";
    let draft = Draft::parse(&draft.replace("VALUE", WRITTEN)).unwrap();
    let applied = profile::apply(app, draft, &by()).await.unwrap();
    profile::assign(app, &applied.profile.id, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    let identity = house.join(&Machine::windows_11(9)).await.unwrap();
    let mut device = Device::with(&house.roots(), Machine::windows_11(9), identity.clone()).unwrap();
    let entity = muster::ids::DeviceId::parse(&identity.management.entity_id).unwrap();
    let custom =
        Custom { verb: Verb::Replace, uri: "./Device/Vendor/MSFT/Nothing".into(), format: Some("chr".into()), data: Some(ORDERED.into()) };
    device::command(app, &entity, Order::Custom(custom), true, &by()).await.unwrap();
    device.heard = Some(Vec::new());
    device.settle().await.unwrap();
    device.settle().await.unwrap();
    assert_eq!(device.certificates.len(), 1, "a certificate by SCEP");
    let mut client = identity.client(&house.roots()).unwrap();
    let nonsense = format!("<SyncML><Data>{WRITTEN}</Data>");
    let kind = [("Content-Type", "application/vnd.syncml.dm+xml")];
    client.send("POST", &identity.management_url().unwrap(), &kind, nonsense.as_bytes()).await.unwrap();
    for (what, one) in [("the server's", &identity.management.server), ("the device's", &identity.management.client)] {
        secret(what, &one.secret);
    }
    let heard: Vec<String> = device.heard.take().unwrap().iter().map(|answer| String::from_utf8_lossy(answer).into_owned()).collect();
    let challenge = heard.iter().find_map(|answer| {
        let (_, rest) = answer.split_once("/Install/Challenge</LocURI>")?;
        Some(rest.split_once("<Data>")?.1.split_once("</Data>")?.0.to_owned())
    });
    secret("SCEP challenge", &challenge.expect("a challenge"));
    assert!(heard.iter().any(|answer| answer.contains(WRITTEN)) && heard.iter().any(|answer| answer.contains(ORDERED)));
    secret("value of a custom node", WRITTEN);
    secret("data of an order", ORDERED);
    for line in app.sealer().to_text().lines() {
        secret("master key", line.split(' ').nth(1).unwrap());
    }

    ON.store(false, Ordering::Relaxed);
    let log = String::from_utf8(std::mem::take(&mut *LOG.lock().unwrap())).unwrap();
    assert!(log.lines().count() > 50, "the log was listened to: {} lines", log.lines().count());
    let ours = log.lines().filter(|line| line.contains("ManagementServer") || line.contains("EnrollmentServer")).count();
    assert!(ours > 5, "{ours} requests");
    secrets
        .extend(["PRIVATE KEY", "AAUTHSECRET", "<Challenge", "BinarySecurityToken>"].map(|word| ("marks of secrets".into(), word.into())));
    for (what, text) in secrets {
        let found = log.lines().find(|line| line.contains(&text));
        assert!(found.is_none(), "{what} in: {}", found.unwrap_or_default());
    }
}
