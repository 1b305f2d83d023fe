//! Enrolment by account: where to enrol, the sign-in, the token that counts once, and what a device is told and asked that is its user's
//! own.

use muster::clock::{DAY, HOUR, MINUTE};
use muster::config::Config;
use muster::domain::desired::{Lack, State};
use muster::domain::device::{Ownership, Platform};
use muster::domain::tap::Policy;
use muster::service::Error;
use muster::service::apple::enroll::{CHECK_IN_PATH, account};
use muster::service::device::{self, Order};
use muster::service::{directory, identity};
use muster::sim::apple::account::{Answer, Journey};
use muster::sim::apple::machine::Machine;
use muster::sim::apple::{Device, Error as Failure};
use muster::sim::http::Client;
use muster::sim::scep::{Options, Outcome, Server};
use muster::store::apple::{management, secrets};
use muster::store::{audit, devices, users};
use muster::wire::apple::Who;
use muster::wire::apple::checkin::{Authenticate, CheckIn, Message, SetBootstrapToken, TokenUpdate};
use muster::wire::apple::command::Command;
use muster::wire::apple::enroll::{MDM, Mdm, Mode, access};
use muster::wire::apple::machine_info::MachineInfo;
use muster::wire::apple::profile::Profile;
use muster::wire::cms::SignedData;
use muster::wire::pkcs10::{NamePart, Wish};
use muster::wire::plist::{self, Data};
use openssl::x509::X509;
use reqwest::Url;

use crate::apple_enroll::{TOPIC, client, codes, enrolled, live, on, put};
use crate::desired::user;
use crate::support::apple_schema::{Target, schema};
use crate::support::factory::{Factory, Made};
use crate::support::windows::{House, UPN, by, key};

/// A server where the accounts of example.org enrol: Macs in one mode, iPhones in another.
async fn house(factory: &Factory, macos: &str, ios: &str) -> House {
    tweaked(factory, macos, ios, |_| ()).await
}

async fn tweaked(factory: &Factory, macos: &str, ios: &str, tweak: impl FnOnce(&mut Config) + Send + 'static) -> House {
    let (file, macos, ios) = (factory.path(), macos.to_owned(), ios.to_owned());
    on(House::tweaked(move |config| {
        config.apple.automated.device_ca_file = Some(file);
        config.apple.account.domains = vec!["example.org".into()];
        (config.apple.account.macos, config.apple.account.ios) = (macos, ios);
        (config.apple.identity_days, config.apple.renewal_days) = (30, 5);
        tweak(config);
    })
    .await)
    .await
}

fn site(house: &House) -> Url {
    Url::parse(&house.server.web).unwrap()
}

/// Enrols a machine by the account of a user, who has a pass.
async fn by_account(house: &House, made: &Made, machine: Machine, upn: &str, pass: &str) -> Result<Device, Failure> {
    let roots = house.roots();
    let journey = Journey { roots: &roots, machine, factory: (&made.certificate, &made.key), account: upn.into() };
    let mut device = Device::enroll_by_account(journey, &site(house), (upn, pass), &key()).await?;
    device.scep_key = Some(key());
    Ok(device)
}

struct Said {
    status: u16,
    challenge: Option<String>,
    body: Vec<u8>,
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The management payload of the profile.
    fn mdm(&self) -> Mdm {
        assert_eq!(self.status, 200, "{}", self.text());
        mdm(&self.body)
    }
}

fn mdm(document: &[u8]) -> Mdm {
    let message = SignedData::parse(document).unwrap();
    let profile = Profile::decode(message.content.unwrap()).unwrap();
    plist::from_dict(&profile.payloads().iter().find(|payload| payload.kind == MDM).unwrap().body).unwrap()
}

async fn post(house: &House, path: &str, message: Vec<u8>, bearer: Option<&str>) -> Said {
    let mut request = house.server.client().post(format!("{}{path}", house.server.web)).body(message);
    if let Some(token) = bearer {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let answer = request.send().await.unwrap();
    let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    Said { status: answer.status().as_u16(), challenge, body: answer.bytes().await.unwrap().to_vec() }
}

/// The token of a sign-in on a page.
async fn token(house: &House, page: &str) -> String {
    let body = format!("user_name={}&pass={}", UPN.replace('@', "%40"), house.pass().await);
    let request = house.server.client().post(format!("{}{page}", house.server.web)).body(body);
    let answer = request.header("Content-Type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert_eq!(answer.status(), 308);
    answer.headers()["location"].to_str().unwrap().rsplit_once("access-token=").unwrap().1.to_owned()
}

fn hidden(machine: &Machine) -> MachineInfo {
    muster::sim::apple::machine::hidden(machine.info())
}

const USER: &str = "/enroll/apple/account/user";
const DEVICE: &str = "/enroll/apple/account/device";
const USER_PAGE: &str = "/enroll/apple/account/user/sign-in";
const DEVICE_PAGE: &str = "/enroll/apple/account/device/sign-in";
const PSSO_PAGE: &str = "/enroll/apple/sign-in";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_domain_of_an_account_says_where_to_enrol_and_never_who_works_there() {
    let factory = Factory::new();
    let house = house(&factory, "device", "user").await;
    let ask = async |query: &str| {
        let url = format!("{}/.well-known/com.apple.remotemanagement{query}", house.server.web);
        let answer = house.server.client().get(url).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json");
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap())
    };
    let (status, phone) = ask(&format!("?user-identifier={UPN}&model-family=iPhone")).await;
    let url = format!("{}{USER}", house.server.web);
    assert_eq!((status, &phone), (200, &serde_json::json!({"Servers": [{"Version": "mdm-byod", "BaseURL": url}]})));
    let (_, mac) = ask(&format!("?user-identifier={UPN}&model-family=Mac")).await;
    assert_eq!(mac["Servers"][0]["Version"], "mdm-adde");
    for nobody in ["nobody%40example.org", "nobody@EXAMPLE.ORG", "%40example.org"] {
        assert_eq!(ask(&format!("?user-identifier={nobody}&model-family=iPhone")).await, (200, phone.clone()), "as of somebody");
    }
    let unknown = [
        "?user-identifier=ana@example.com&model-family=iPhone".to_owned(),
        "?user-identifier=ana@sub.example.org&model-family=iPhone".into(),
        "?user-identifier=ana@example.org@example.com&model-family=iPhone".into(),
        "?user-identifier=ana&model-family=iPhone".into(),
        "?user-identifier=&model-family=iPhone".into(),
        format!("?user-identifier={UPN}&model-family=AppleTV"),
        format!("?user-identifier={UPN}&model-family=Watch"),
        format!("?user-identifier={UPN}&model-family=Toaster"),
        format!("?user-identifier={UPN}&user-identifier=b@example.org&model-family=Mac"),
        format!("?user-identifier={UPN}%FF&model-family=%FF%FE"),
        format!("?user-identifier={}@example.org&model-family=iPhone", "a".repeat(20_000)),
        // Both modes are in use, and nobody says what the device is.
        String::new(),
        format!("?user-identifier={UPN}"),
    ];
    for query in &unknown {
        let (status, body) = ask(query).await;
        assert_eq!((status, &body["code"]), (403, &"com.apple.well-known.failed".into()), "{query:.100}");
        if let Some(schema) = schema() {
            assert_eq!(schema.error("well-known.failed", &body, Target::iphone("18.1")), [""; 0]);
        }
    }
    // One mode for all: then a question that lost its account and family on the way is answered, too.
    let factory = Factory::new();
    let one = self::house(&factory, "off", "user").await;
    let url = format!("{}/.well-known/com.apple.remotemanagement", one.server.web);
    let answer = one.server.client().get(&url).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap()["Servers"][0]["Version"].clone()),
        (200, "mdm-byod".into())
    );
    let macs = one.server.client().get(format!("{url}?user-identifier={UPN}&model-family=Mac")).send().await.unwrap();
    assert_eq!(macs.status(), 403, "Macs are off");
    let off = House::new().await;
    let answer = off.server.client().get(format!("{}/.well-known/com.apple.remotemanagement", off.server.web)).send().await.unwrap();
    assert_eq!(answer.status(), 403, "off unless it is configured");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_the_sign_in_gives_the_profile_once_and_an_expired_one_is_told_from_a_wrong_one() {
    let factory = Factory::new();
    let house = house(&factory, "device", "user").await;
    let message = || factory.signed(&hidden(&Machine::iphone(1)));
    let asked = |said: &Said, page: &str| {
        let expected = format!("Bearer method=\"apple-as-web\", url=\"{}{page}\"", house.server.web);
        assert_eq!((said.status, said.challenge.as_deref(), said.body.len()), (401, Some(expected.as_str()), 0), "{}", said.text());
    };
    let refused = |said: &Said, code: &str| {
        assert!(said.status == 403 && said.challenge.is_none() && said.text().contains(code), "{} {}", said.status, said.text());
    };
    asked(&post(&house, USER, message(), None).await, USER_PAGE);
    refused(&post(&house, USER, message(), Some("guess")).await, "AUT0006");
    refused(&post(&house, USER, message(), Some(&"x".repeat(8000))).await, "AUT0006");
    let late = token(&house, USER_PAGE).await;
    house.server.clock.advance(11 * MINUTE);
    asked(&post(&house, USER, message(), Some(&late)).await, USER_PAGE);
    let looked = identity::token::check_account(&house.server.app, late.as_bytes(), &[Platform::MacOs, Platform::Ios], Mode::User).await;
    assert!(matches!(looked, Err(Error::Refused(refusal)) if refusal.code() == "AUT0008"));
    let good = token(&house, USER_PAGE).await;
    let profile = post(&house, USER, message(), Some(&good)).await.mdm();
    assert_eq!((profile.access_rights, profile.enrollment_mode, profile.account.as_deref()), (None, Some(Mode::User), Some(UPN)));
    assert_eq!(profile.server_capabilities, [""; 0]);
    refused(&post(&house, USER, message(), Some(&good)).await, "AUT0006");
    house.server.clock.advance(11 * MINUTE);
    refused(&post(&house, USER, message(), Some(&good)).await, "AUT0006");

    // The organisation's devices: with rights, and bound to the device that described itself.
    let info = Machine::mac(2).info();
    asked(&post(&house, DEVICE, factory.signed(&info), None).await, DEVICE_PAGE);
    let good = token(&house, DEVICE_PAGE).await;
    refused(&post(&house, DEVICE, factory.signed(&hidden(&Machine::mac(2))), Some(&good)).await, "ENR0028");
    let profile = post(&house, DEVICE, factory.signed(&info), Some(&good)).await.mdm();
    assert_eq!(
        (profile.access_rights, profile.enrollment_mode, profile.account.as_deref()),
        (Some(access::ALL), Some(Mode::Device), Some(UPN))
    );
    // What describes itself has to be a device that Apple made, of a kind that enrols in this way.
    refused(&post(&house, USER, factory.signed(&info), None).await, "ENR0035");
    refused(&post(&house, DEVICE, message(), None).await, "ENR0035");
    refused(&post(&house, USER, factory.another().signed(&hidden(&Machine::iphone(1))), None).await, "ENR0027");
    refused(&post(&house, USER, b"nonsense".to_vec(), None).await, "ENR0029");
    let television = MachineInfo { product: "AppleTV11,1".into(), ..hidden(&Machine::iphone(1)) };
    refused(&post(&house, USER, factory.signed(&television), None).await, "ENR0023");
    assert_eq!(post(&house, USER, vec![0x30; 70_000], None).await.status, 413);
    assert_eq!(post(&house, "/enroll/apple/account/other", message(), None).await.status, 404);
    let page = format!("{}{USER_PAGE}?user-identifier={UPN}", house.server.web);
    let shown = house.server.client().get(page).send().await.unwrap();
    assert!(shown.headers()["content-security-policy"].to_str().unwrap().contains("form-action 'self' apple-remotemanagement-user-login:"));
    let text = shown.text().await.unwrap();
    assert!(text.contains(&format!("action=\"{USER_PAGE}\"")) && text.contains(&format!("value=\"{UPN}\"")) && !text.contains("<script"));
    let long = format!("{}{USER_PAGE}?user-identifier={}", house.server.web, "a".repeat(20_000));
    assert!(!house.server.client().get(long).send().await.unwrap().text().await.unwrap().contains("aaaa"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_for_its_mode_alone_and_for_one_of_many_who_show_it() {
    let factory = Factory::new();
    let house = tweaked(&factory, "device", "user", |config| config.apple.automated.require_sign_in = true).await;
    let phone = || factory.signed(&hidden(&Machine::iphone(1)));
    let mac = || factory.signed(&Machine::mac(1).info());
    let refused = async |path: &str, message: Vec<u8>, token: &str| {
        let said = post(&house, path, message, Some(token)).await;
        assert!(said.status == 403 && said.text().contains("AUT0006"), "{path}: {} {}", said.status, said.text());
    };
    let (user, organisation, psso) = (token(&house, USER_PAGE).await, token(&house, DEVICE_PAGE).await, token(&house, PSSO_PAGE).await);
    refused(USER, phone(), &organisation).await;
    refused(USER, phone(), &psso).await;
    refused(DEVICE, mac(), &user).await;
    refused(DEVICE, mac(), &psso).await;
    refused("/enroll/apple/device", mac(), &user).await;
    refused("/enroll/apple/device", mac(), &organisation).await;
    for link in [&user, &organisation] {
        let url = format!("{}/enroll/apple/{link}", house.server.web);
        assert_eq!(house.server.client().post(url).send().await.unwrap().status(), 410, "no link either");
    }
    let link = muster::service::apple::enroll::invite(&house.server.app, UPN, Platform::Ios, false, HOUR, "cli:test").await.unwrap();
    let link = String::from_utf8(link.link.expose().to_vec()).unwrap();
    refused(USER, phone(), link.rsplit_once('/').unwrap().1).await;
    // An expired token of another mode is wrong, and no way to another sign-in.
    house.server.clock.advance(11 * MINUTE);
    refused(USER, phone(), &organisation).await;
    // Many at once: one gets the profile.
    let shared = token(&house, USER_PAGE).await;
    let all = (0..8).map(|_| post(&house, USER, phone(), Some(&shared)));
    let mut statuses: Vec<u16> = futures_util::future::join_all(all).await.iter().map(|said| said.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403, 403, 403, 403, 403, 403, 403]);
    // Whoever is shut out meanwhile gets nothing for it.
    let open = token(&house, USER_PAGE).await;
    directory::enable_user(&house.server.app, &house.user, false, &by()).await.unwrap();
    let said = post(&house, USER, phone(), Some(&open)).await;
    assert!(said.status == 403 && said.text().contains("AUT0001"), "{}", said.text());
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    let rows: String = rows.into_iter().map(|row| format!("{} {}", row.action, row.after.unwrap_or_default())).collect();
    assert!(rows.contains("account-user-tap") && rows.contains("by account (BYOD)") && !rows.contains(&shared));
}

/// Everything that the server wrote into its files.
fn written(house: &House) -> Vec<u8> {
    let files = std::fs::read_dir(house.server.folder()).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.is_file()).flat_map(|file| std::fs::read(file).unwrap()).collect()
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle.as_bytes())
}

fn orders(platform: Platform) -> impl Iterator<Item = &'static muster::catalogue::CommandRow> {
    muster::catalogue::catalogue().commands().filter(move |row| row.is_of(platform.as_str()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_its_users_own_hides_its_hardware_and_obeys_what_apple_lets_it() {
    let factory = Factory::new();
    let house = house(&factory, "user", "user").await;
    for baseline in ["macos-passcode", "macos-trusted-root", "ios-passcode", "ios-trusted-root", "macos-compliance", "ios-compliance"] {
        house.assign_baseline(baseline).await;
    }
    for (machine, target) in [(Machine::iphone(11), Target::iphone("18.1")), (Machine::mac(11), Target::mac("15.1"))] {
        let target = Target { user_enrollment: true, supervised: false, automated: false, ..target };
        let made = factory.device();
        let mut device = by_account(&house, &made, machine.clone(), UPN, &house.pass().await).await.unwrap();
        let id = device.who().enrollment_id.unwrap();
        let enrollment = live(&house, &id).await.unwrap();
        assert!(enrollment.is_user_enrollment() && enrollment.user_id.as_ref() == Some(&house.user));
        assert_eq!(live(&house, &machine.udid).await, None);
        device.heard = Some(Vec::new());
        device.settle().await.unwrap();
        house.server.clock.advance(9 * HOUR);
        device.settle().await.unwrap();
        assert_eq!(device.refusals, [], "it was asked for nothing that it does not tell");
        let (of, row) = (enrollment.device_id.clone(), enrollment.device_id.clone());
        let row = house.server.app.store.read(move |c| devices::load_device(c, &row)).await.unwrap();
        assert_eq!((row.serial_number, row.hardware_id, row.model.as_deref()), (None, None, Some(machine.product.as_str())));
        let shown = device::show(&house.server.app, &of).await.unwrap();
        assert_eq!((shown.ownership, shown.managed_apple_account.as_deref()), (Ownership::Personal, Some(UPN)));
        let mut asked: Vec<&str> = device.ran.keys().map(String::as_str).collect();
        asked.sort_unstable();
        assert!(
            ["DeclarativeManagement", "DeviceInformation", "InstallProfile", "SecurityInfo"].iter().all(|name| asked.contains(name)),
            "{asked:?}"
        );
        // The passcode of an own Mac is nobody's business; an iPhone takes the declaration.
        let states = house.items(&of).await;
        let lacking =
            states.iter().flat_map(|item| item.item.detail.records.values()).filter(|r| r.lacks == Some(Lack::Enrollment)).count();
        let mac = row.platform == Platform::MacOs;
        assert_eq!(lacking > 0, mac, "{states:#?}");
        let root = states.iter().find(|item| item.name.contains("root")).unwrap();
        assert_eq!(root.item.state, State::Verified, "{root:#?}");
        // Orders: exactly what Apple's schema allows.
        let examples = crate::apple_orders::examples();
        let mut given = Vec::new();
        for command in orders(row.platform) {
            let values = &examples.iter().find(|(id, _)| *id == command.id).unwrap().1;
            let values =
                values.iter().filter(|(name, _)| mac || *name != "pin").map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let answer = device::command(&house.server.app, &of, Order::With(command.id.clone(), values.collect()), true, &by()).await;
            let request = plist::Dict::new().with("RequestType", command.request.as_str());
            let body = plist::Value::Dict(plist::Dict::new().with("Command", request).with("CommandUUID", "u"));
            let able = Target { supervised: true, automated: true, ..target };
            let refuses = |finding: &String| finding.contains("user enrolment") || finding.contains("devicechannel");
            let allowed = schema().map(|schema| !schema.command(&body, able).iter().any(refuses));
            match answer {
                Ok(_) => assert_ne!(allowed, Some(false), "{} is given", command.id),
                // Of settings Apple allows some.
                Err(Error::Refused(refusal)) => {
                    let kept = allowed.unwrap_or(false) && command.request != "Settings";
                    assert_eq!((refusal.code(), kept), ("CMD0013", false), "{}", command.id);
                    continue;
                }
                Err(other) => panic!("{}: {other:?}", command.id),
            }
            given.push(command.id.as_str());
        }
        given.sort_unstable();
        let provisioning = ["install-provisioning-profile", "list-provisioning-profiles", "remove-provisioning-profile"];
        let mut expected: Vec<&str> = provisioning.into_iter().chain(["set-organization"]).collect();
        if !mac {
            expected.extend(["install-book", "list-applications", "list-books", "lock", "remove-book"]);
            expected.extend(["set-application-attributes", "validate-applications"]);
            expected.sort_unstable();
        }
        assert_eq!(given, expected);
        device.settle().await.unwrap();
        assert_eq!(device.ran.get("DeviceLock").copied(), (!mac).then_some(1));
        if let Some(schema) = schema() {
            for heard in device.heard.take().unwrap().iter().filter(|heard| !heard.is_empty()) {
                let command = Command::decode(heard).unwrap();
                assert_eq!(schema.command(&command.to_value(), target), [""; 0], "{}", command.request_type);
            }
        }
        device.leave().await.unwrap();
        assert_eq!(live(&house, &id).await, None);
        let everything = written(&house);
        assert!(holds(&everything, &id), "the files are read");
        assert!(!holds(&everything, &machine.serial) && !holds(&everything, &machine.udid), "nothing of the hardware was ever written");
        // The same person once more: a new enrolment, and a new name for the device.
        let again = by_account(&house, &made, machine, UPN, &house.pass().await).await.unwrap();
        assert_ne!(again.who().enrollment_id, Some(id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_of_the_organisation_enrols_by_account_with_its_hardware_and_only_that() {
    let factory = Factory::new();
    let house = house(&factory, "device", "device").await;
    for machine in [Machine::mac(21), Machine::iphone(21)] {
        let mut device = by_account(&house, &factory.device(), machine.clone(), UPN, &house.pass().await).await.unwrap();
        device.settle().await.unwrap();
        let enrollment = live(&house, &machine.udid).await.unwrap();
        assert!(!enrollment.is_user_enrollment());
        let of = enrollment.device_id.clone();
        let shown = device::show(&house.server.app, &of).await.unwrap();
        assert_eq!((shown.ownership, shown.overview.device.serial_number), (Ownership::Company, Some(machine.serial)));
        let erase = device::command(&house.server.app, &of, Order::Known("wipe".into()), true, &by()).await;
        assert!(erase.is_ok(), "{erase:?}");
    }
    // The profile of one device is not for another.
    let roots = house.roots();
    let made = factory.device();
    let journey = Journey { roots: &roots, machine: Machine::mac(22), factory: (&made.certificate, &made.key), account: UPN.into() };
    let (mode, at) = journey.discover(&site(&house)).await.unwrap();
    let message = journey.describe(mode).unwrap();
    let Answer::SignIn(page) = journey.ask(&at, &message, None).await.unwrap() else { panic!() };
    let bearer = journey.sign_in(&page, UPN, &house.pass().await).await.unwrap();
    let Answer::Profile(profile) = journey.ask(&at, &message, Some(&bearer)).await.unwrap() else { panic!() };
    assert_eq!(mdm(&profile).enrollment_mode, Some(Mode::Device));
    let wrong = by_hand(&house, &profile, &Machine::mac(23).udid, None).await;
    assert!(wrong.0 == 400 && wrong.1.starts_with("MGT0004"), "{wrong:?}");
}

/// Introduces a device with the identity of a profile as one likes: status and text of the answer.
async fn by_hand(house: &House, document: &[u8], udid: &str, enrollment_id: Option<&str>) -> (u16, String) {
    let message = SignedData::parse(document).unwrap();
    let profile = Profile::decode(message.content.unwrap()).unwrap();
    let scep = profile.payloads().iter().find(|payload| payload.kind == "com.apple.security.scep").unwrap();
    let content = scep.body.dict("PayloadContent").unwrap();
    let mut http = Client::new(&house.roots(), None).unwrap();
    let server = Server::discover(&mut http, content.string("URL").unwrap(), Options::default()).await.unwrap();
    let part = |(rdn, pair): (usize, &plist::Value)| {
        let pair = pair.as_array().unwrap()[0].as_array().unwrap();
        let oid = if pair[0].as_str() == Some("CN") { "2.5.4.3" } else { "2.5.4.11" };
        NamePart { rdn, oid: oid.into(), value: pair[1].as_str().unwrap().into() }
    };
    let subject = content.array("Subject").unwrap().iter().enumerate().map(part).collect();
    let wish = Wish { subject, challenge: content.string("Challenge").map(str::to_owned), ..Wish::default() };
    let identity = match server.enroll_with(&mut http, &wish, &key(), house.server.app.now()).await {
        Ok(Outcome::Issued(identity)) => identity,
        other => panic!("{other:?}"),
    };
    let certificate = X509::from_der(&identity.certificate).unwrap().to_pem().unwrap();
    let own = reqwest::Identity::from_pkcs8_pem(&certificate, &identity.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let who = match enrollment_id {
        Some(id) => Who { enrollment_id: Some(id.into()), ..Who::default() },
        None => Who::device(udid),
    };
    let (serial_number, product_name) = (Some("SERIAL".into()), Some("iPhone14,5".into()));
    let request = Authenticate { topic: TOPIC.into(), serial_number, product_name, ..Authenticate::default() };
    let body = CheckIn { who, message: Message::Authenticate(request) }.encode().unwrap();
    let url = format!("{}{CHECK_IN_PATH}", house.server.device);
    let (status, body) = put(&house.server.client_as(own), &url, body).await;
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn profile_for(house: &House, factory: &Factory, upn: &str, pass: &str) -> Vec<u8> {
    let roots = house.roots();
    let made = factory.device();
    let journey = Journey { roots: &roots, machine: Machine::iphone(50), factory: (&made.certificate, &made.key), account: upn.into() };
    let (mode, at) = journey.discover(&site(house)).await.unwrap();
    let message = journey.describe(mode).unwrap();
    let page = Url::parse(&format!("{}{}", house.server.web, account::sign_in_path(mode))).unwrap();
    let bearer = journey.sign_in(&page, upn, pass).await.unwrap();
    let Answer::Profile(profile) = journey.ask(&at, &message, Some(&bearer)).await.unwrap() else { panic!() };
    profile
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_over_an_enrolment_by_its_name_and_no_profile_enrols_in_another_way() {
    let factory = Factory::new();
    let house = house(&factory, "off", "user").await;
    let ana = by_account(&house, &factory.device(), Machine::iphone(1), UPN, &house.pass().await).await.unwrap();
    let id = ana.who().enrollment_id.unwrap();
    let before = live(&house, &id).await.unwrap();
    let ben = "ben@example.org";
    let other = directory::create_user(&house.server.app, user(ben), &by()).await.unwrap().id;
    let pass = identity::tap::create(&house.server.app, &other, Policy { one_time: false, ..Policy::default() }, None, "cli:test", "local")
        .await
        .unwrap();
    let profile = profile_for(&house, &factory, ben, pass.show()).await;
    let taken = by_hand(&house, &profile, "", Some(&id)).await;
    assert!(taken.0 == 400 && taken.1.starts_with("ENR0017"), "{taken:?}");
    // Nor does a profile for an own device make one that is known by its hardware, or one for another way hide it.
    let profile = profile_for(&house, &factory, UPN, &house.pass().await).await;
    let shown = by_hand(&house, &profile, "00008110-0000000000000001", None).await;
    assert!(shown.0 == 400 && shown.1.starts_with("ENR0036"), "{shown:?}");
    let by_link = crate::apple_enroll::profile(&house).await;
    let hidden = by_hand(&house, &by_link, "", Some("E-1")).await;
    assert!(hidden.0 == 400 && hidden.1.starts_with("ENR0036"), "{hidden:?}");
    // A name that is spelled like the hardware of a Mac of the same person names no enrolment.
    let mac = enrolled(&house, Machine::mac(7)).await;
    let profile = profile_for(&house, &factory, UPN, &house.pass().await).await;
    let spelled = by_hand(&house, &profile, "", Some(&mac.machine.udid)).await;
    assert!(spelled.0 == 400 && spelled.1.starts_with("MGT0004"), "{spelled:?}");
    assert!(live(&house, &mac.machine.udid).await.is_some());
    let after = live(&house, &id).await.unwrap();
    assert_eq!((&after.id, &after.certificate_id), (&before.id, &before.certificate_id), "as it was");
    // The same person may: the device stays one, and the enrolment is another.
    let profile = profile_for(&house, &factory, UPN, &house.pass().await).await;
    assert_eq!(by_hand(&house, &profile, "", Some(&id)).await, (200, String::new()));
    let replaced = live(&house, &id).await.unwrap();
    assert_eq!(replaced.device_id, before.device_id);
    assert!(replaced.certificate_id != after.certificate_id && !replaced.context.contains("SERIAL"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_device_entrusts_nothing_and_what_holds_for_personal_devices_holds_for_it() {
    let factory = Factory::new();
    let serial = Machine::iphone(1).serial;
    let house = tweaked(&factory, "user", "user", move |config| {
        config.enrollment.serial_numbers = vec![serial];
        config.enrollment.ios.personal = false;
        config.enrollment.macos.minimum_os_version = "14.0".into();
    })
    .await;
    let said = post(&house, USER, factory.signed(&Machine::iphone(1).info()), None).await;
    assert!(said.status == 403 && said.text().contains("ENR0031"), "not even one that is listed: {}", said.text());
    let old = MachineInfo { os_version: Some("13.6".into()), ..hidden(&Machine::mac(1)) };
    assert!(post(&house, USER, factory.signed(&old), None).await.text().contains("ENR0007"));
    let profile = {
        let pass = token(&house, USER_PAGE).await;
        post(&house, USER, factory.signed(&hidden(&Machine::mac(1))), Some(&pass)).await.body
    };
    let phone = by_hand(&house, &profile, "", Some("E-1")).await;
    assert!(phone.0 == 400 && phone.1.starts_with("ENR0031"), "the profile of a Mac on an iPhone: {phone:?}");
    let device = by_account(&house, &factory.device(), Machine::mac(1), UPN, &house.pass().await).await.unwrap();
    let (http, url) = (client(&house, &device), device.enrollment.mdm.check_in_url.clone().unwrap());
    let send = async |message: Message| put(&http, &url, CheckIn { who: device.who(), message }.encode().unwrap()).await;
    let keep = SetBootstrapToken { bootstrap_token: Some(Data(b"boot".to_vec())), ..SetBootstrapToken::default() };
    let (status, text) = send(Message::SetBootstrapToken(keep)).await;
    assert!(status == 400 && text.starts_with(b"ENR0038"), "{}", String::from_utf8_lossy(&text));
    let update = TokenUpdate {
        topic: TOPIC.into(),
        token: Data(vec![9; 32]),
        push_magic: "m".into(),
        unlock_token: Some(Data(b"unlock".to_vec())),
        ..TokenUpdate::default()
    };
    assert_eq!(send(Message::TokenUpdate(update)).await.0, 200);
    let id = live(&house, &device.who().enrollment_id.unwrap()).await.unwrap().id;
    assert_eq!(house.server.app.store.read(move |c| secrets::list_kinds(c, &id)).await.unwrap(), []);
    assert!(codes(&house).await.contains("ENR0038"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_keeps_mode_account_server_and_topic_or_is_not_made() {
    let factory = Factory::new();
    let house = house(&factory, "device", "user").await;
    for machine in [Machine::iphone(1), Machine::mac(1)] {
        let mut device = by_account(&house, &factory.device(), machine, UPN, &house.pass().await).await.unwrap();
        device.settle().await.unwrap();
        let before = device.enrollment.mdm.clone();
        let who = device.who();
        let name = who.enrollment_id.or(who.udid).unwrap();
        let enrollment = live(&house, &name).await.unwrap();
        let id = enrollment.id.clone();
        let kept = house.server.app.store.read(move |c| management::find_management(c, &id)).await.unwrap().unwrap();
        assert_eq!(
            (kept.refuses(&before), kept.enrollment_mode, kept.account.clone()),
            (None, before.enrollment_mode, before.account.clone())
        );
        // The person is called otherwise meanwhile; the account is what it was.
        let of = house.user.clone();
        let person = house.server.app.store.read(move |c| users::load_user(c, &of)).await.unwrap();
        crate::desired::write_user(
            &house.server.app,
            muster::domain::user::User { upn: "anna@example.org".into(), ..person.clone() },
            &by(),
        )
        .await
        .unwrap();
        house.server.clock.advance(26 * DAY);
        device.faults.skew += 26 * DAY;
        let serial = device.enrollment.identity.certificate.clone();
        device.settle().await.unwrap();
        assert_ne!(device.enrollment.identity.certificate, serial, "renewed");
        let after = Mdm { identity: before.identity.clone(), ..device.enrollment.mdm.clone() };
        assert_eq!(after, before);
        crate::desired::write_user(&house.server.app, person, &by()).await.unwrap();
        // A profile that would change the topic is not made.
        let moved = muster::service::apple::enroll::renewal_profile(&house.server.app, &enrollment, "com.apple.mgmt.External.other").await;
        match moved {
            Err(Error::Refused(refusal)) => assert_eq!(refusal.code(), "ENR0037"),
            other => panic!("{other:?}"),
        }
        house.server.clock.advance(-26 * DAY);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_only_introduced_itself_is_judged_by_nobody() {
    let factory = Factory::new();
    let house = house(&factory, "off", "user").await;
    let profile = profile_for(&house, &factory, UPN, &house.pass().await).await;
    assert_eq!(by_hand(&house, &profile, "", Some("INTRODUCED")).await, (200, String::new()));
    let enrollment = live(&house, "INTRODUCED").await.unwrap();
    assert_eq!(enrollment.state, muster::domain::enrollment::State::Provisioned);
    let verdict = async |device: muster::ids::DeviceId| {
        house.server.app.store.read(move |c| muster::store::compliance::find_verdict(c, &device)).await.unwrap()
    };
    assert!(verdict(enrollment.device_id.clone()).await.is_none(), "nothing is known of it");
    let initiator = muster::domain::signal::Initiator::Admin;
    muster::service::compliance::reevaluate(&house.server.app, &enrollment.device_id, initiator).await.unwrap();
    assert!(verdict(enrollment.device_id).await.is_none(), "whoever asks");
    let ana = by_account(&house, &factory.device(), Machine::iphone(1), UPN, &house.pass().await).await.unwrap();
    let enrolled = live(&house, &ana.who().enrollment_id.unwrap()).await.unwrap();
    assert!(verdict(enrolled.device_id).await.is_some());
}
