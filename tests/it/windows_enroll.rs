//! Windows enrolment over real TLS, as a simulated device does it, and as broken or hostile clients do.

use muster::clock::{DAY, MINUTE, Time};
use muster::config::{Config, EntraTenant};
use muster::domain::device::State as DeviceState;
use muster::domain::tap::Policy;
use muster::domain::user::{Role, User};
use muster::ids::UserId;
use muster::service::identity::{tap, token};
use muster::service::pki::authority;
use muster::service::windows::enroll::confirm_renewal;
use muster::sim::http::Client;
use muster::sim::windows::enroll::{self, Failure, Identity, Machine, SignIn, new_key};
use muster::store::certificates::Search;
use muster::store::devices::Filter;
use muster::store::{audit, certificates, devices, enrollments, users};
use muster::wire::mde::discovery::{AuthPolicy, Discover, DiscoverResult, Version};
use muster::wire::mde::fault::{Code, ErrorType, Fault};
use muster::wire::mde::soap::{Answer, Security};
use muster::wire::mde::wstep::{Csr, RequestToken, RequestType};
use muster::wire::provisioning::{Store, thumbprint};
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use openssl::x509::X509;
use reqwest::Url;

use crate::support::ca::Ca;
use crate::support::server::Server;

const UPN: &str = "ana@example.org";

struct House {
    server: Server,
    user: UserId,
    discovery: Url,
}

async fn house() -> House {
    house_with(|_| ()).await
}

async fn house_with(tweak: impl FnOnce(&mut Config) + Send + 'static) -> House {
    let server = Server::tweaked(move |config| {
        config.windows.entra = vec![];
        tweak(config);
    })
    .await;
    if authority::issuing(&server.app).await.is_err() {
        authority::create_hierarchy(&server.app, "cli:test", "local").await.unwrap();
    }
    let user = User {
        id: UserId::new(),
        upn: UPN.into(),
        display_name: "Ana".into(),
        mail: None,
        sam_account_name: None,
        security_identifier: None,
        distinguished_name: None,
        role: Role::User,
        enabled: true,
    };
    let id = user.id.clone();
    server.app.store.write(move |tx| users::insert_user(tx, &user, Time(1))).await.unwrap();
    let discovery = Url::parse(&format!("{}/EnrollmentServer/Discovery.svc", server.web)).unwrap();
    House { server, user: id, discovery }
}

impl House {
    fn roots(&self) -> Vec<X509> {
        X509::stack_from_pem(&self.server.root_pem).unwrap()
    }

    fn client(&self) -> Client {
        Client::new(&self.roots(), None).unwrap()
    }

    async fn pass(&self) -> String {
        let policy = Policy { one_time: false, lifetime: DAY, ..Policy::default() };
        tap::create(&self.server.app, &self.user, policy, None, "cli:test", "local").await.unwrap().show().to_owned()
    }

    async fn sign_in(&self) -> SignIn {
        SignIn::Pass { user: UPN.into(), pass: self.pass().await }
    }

    async fn enroll(&self, machine: &Machine) -> Result<Identity, Failure> {
        let sign_in = self.sign_in().await;
        enroll::enroll(&mut self.client(), &self.discovery, machine, &sign_in, &key()).await
    }

    async fn on_premise(&self) -> Security {
        Security::UserName { name: UPN.into(), password: self.pass().await }
    }

    fn url(&self, path: &str) -> Url {
        let base = if path.contains("Policy") || path.contains("Enrollment.svc") { &self.server.device } else { &self.server.web };
        Url::parse(&format!("{base}{path}")).unwrap()
    }

    async fn request_token(&self, request: &RequestToken, security: &Security) -> Result<(), Failure> {
        enroll::request_token(&mut self.client(), &self.url("/EnrollmentServer/Enrollment.svc"), request, security).await.map(drop)
    }

    async fn audit(&self) -> Vec<(String, String)> {
        let rows = self.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
        rows.into_iter().map(|row| (row.action, row.after.unwrap_or_default())).collect()
    }

    /// Whether an enrolment was refused with that code.
    async fn refused(&self, code: &str) -> bool {
        self.audit().await.iter().any(|(action, after)| action == "enrollment.refused" && after.contains(code))
    }

    async fn enable(&self, enabled: bool) {
        let by = muster::service::directory::By::local("cli:test");
        muster::service::directory::enable_user(&self.server.app, &self.user, enabled, &by).await.unwrap();
    }

    async fn devices(&self) -> usize {
        self.server.app.store.read(|c| devices::list_devices(c, &Filter::default(), "", 100)).await.unwrap().len()
    }
}

fn key() -> PKey<Private> {
    static KEYS: std::sync::OnceLock<Vec<PKey<Private>>> = std::sync::OnceLock::new();
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let keys = KEYS.get_or_init(|| (0..4).map(|_| new_key().unwrap()).collect());
    keys[NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % keys.len()].clone()
}

fn fault<T: std::fmt::Debug>(result: Result<T, Failure>) -> (Code, Option<ErrorType>) {
    match result {
        Err(Failure::Fault(Fault { code, error_type, trace_id, reason })) => {
            assert_eq!(trace_id.len(), 32, "a correlation id");
            assert!(!reason.is_empty());
            (code, error_type)
        }
        other => panic!("{other:?}"),
    }
}

fn issue(csr: Vec<u8>) -> RequestToken {
    let context = vec![("DeviceID".into(), "D1".into()), ("OSVersion".into(), "10.0.22631.1".into())];
    RequestToken { request_type: RequestType::Issue, csr: Csr::Pkcs10(csr), context }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_the_probe_is_empty_and_needs_nothing() {
    let house = house().await;
    for path in ["/EnrollmentServer/Discovery.svc", "/ENROLLMENTSERVER/DISCOVERY.SVC", "/enrollmentserver/discovery.svc"] {
        let answer = house.server.client().get(format!("{}{path}", house.server.web)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.content_length(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_e3_discovery_answers_every_version_with_what_was_offered() {
    let house = house().await;
    for (major, minor) in [(3, 0), (4, 0), (5, 0), (7, 0), (9, 0), (12, 3)] {
        for (offered, expected) in [
            (vec![AuthPolicy::OnPremise], AuthPolicy::OnPremise),
            (vec![AuthPolicy::Federated], AuthPolicy::Federated),
            (vec![AuthPolicy::Certificate, AuthPolicy::OnPremise, AuthPolicy::Federated], AuthPolicy::Federated),
        ] {
            let request = discover(Version::new(major, minor), offered);
            let id = "  urn:uuid:with blanks\nand lines ";
            let mut client = house.client();
            let soap = [("Content-Type", "application/soap+xml; charset=utf-8")];
            let answer = client.send("POST", &house.discovery, &soap, &request.encode(id, "https://x")).await.unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.header("content-length").is_some() && answer.header("transfer-encoding").is_none());
            let answer = Answer::decode(&answer.body).unwrap();
            assert_eq!(answer.relates_to.as_deref(), Some(id));
            let result = DiscoverResult::decode(&answer.body.unwrap()).unwrap();
            assert_eq!(result.auth_policy, expected);
            assert!(result.enrollment_version <= request.request_version);
            assert_eq!(result.authentication_url.is_some(), expected == AuthPolicy::Federated);
        }
    }
}

fn discover(version: Version, auth_policies: Vec<AuthPolicy>) -> Discover {
    Discover {
        email_address: UPN.into(),
        request_version: version,
        device_type: "CIMClient_Windows".into(),
        application_version: "10.0.26100.1".into(),
        os_edition: "4".into(),
        auth_policies,
    }
}

async fn post(house: &House, url: &Url, body: &[u8]) -> (u16, Option<Fault>) {
    let mut client = house.client();
    let answer = client.send("POST", url, &[("Content-Type", "application/soap+xml")], body).await.unwrap();
    let fault = Answer::decode(&answer.body).ok().and_then(|answer| answer.body.err());
    (answer.status, fault)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e3_an_offer_that_we_cannot_take_and_an_old_dialect_are_not_supported() {
    let house = house().await;
    for request in [discover(Version::new(4, 0), vec![AuthPolicy::Certificate]), discover(Version::new(2, 0), vec![AuthPolicy::Federated])]
    {
        let (status, fault) = post(&house, &house.discovery, &request.encode("m", "t")).await;
        assert_eq!((status, fault.unwrap().error_type), (200, Some(ErrorType::NotSupported)));
    }
    let codes: Vec<_> = house.audit().await.into_iter().filter(|(action, _)| action == "enrollment.refused").collect();
    assert!(codes[0].1.contains("ENR0008") && codes[1].1.contains("ENR0014"), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_what_is_no_request_is_a_format_fault_and_what_is_too_large_is_413() {
    let house = house().await;
    let good = discover(Version::new(4, 0), vec![AuthPolicy::Federated]).encode("m", "t");
    let text = String::from_utf8(good.clone()).unwrap();
    let bomb = format!("<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>{}", text.replace(UPN, "&b;"));
    let deep = format!("{}{}", "<a>".repeat(5000), "</a>".repeat(5000));
    let soap_1_1 = text.replace("http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/");
    for url in [house.discovery.clone(), house.url("/EnrollmentServer/Policy.svc"), house.url("/EnrollmentServer/Enrollment.svc")] {
        for body in
            [b"".as_slice(), b"garbage", &good[..good.len() / 2], bomb.as_bytes(), deep.as_bytes(), soap_1_1.as_bytes(), b"\xff\xfe"]
        {
            let (status, fault) = post(&house, &url, body).await;
            assert_eq!(
                (status, fault.map(|f| f.code)),
                (200, Some(Code::MessageFormat)),
                "{url} {:?}",
                String::from_utf8_lossy(body).get(..40)
            );
        }
        assert_eq!(post(&house, &url, &vec![b' '; 5 << 20]).await.0, 413);
    }
    let (status, fault) = post(&house, &house.url("/EnrollmentServer/Policy.svc"), &good).await;
    assert_eq!((status, fault.unwrap().code), (200, Code::MessageFormat), "the action of another service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_a_security_header_that_cannot_be_read_has_its_own_fault() {
    let house = house().await;
    let request = muster::wire::mde::xcep::GetPolicies::default().encode("m", "t", &Security::Token(b"abc".to_vec()));
    let broken = String::from_utf8(request).unwrap().replace("YWJj", "***");
    let (status, fault) = post(&house, &house.url("/EnrollmentServer/Policy.svc"), broken.as_bytes()).await;
    assert_eq!((status, fault.map(|f| f.code)), (200, Some(Code::InvalidSecurity)));
    assert!(house.refused("ENR0013").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_the_sign_in_page_hands_tokens_to_applications_only_and_reflects_nothing() {
    let house = house().await;
    let page = format!("{}/EnrollmentServer/Authenticate", house.server.web);
    for bad in ["https://evil.example", "javascript:alert(1)", "ms-app://x\"><script>", "ms-app://x'", ""] {
        let answer = house.server.client().get(Url::parse_with_params(&page, [("appru", bad)]).unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{bad}");
        let text = answer.text().await.unwrap();
        assert!(bad.is_empty() || !text.contains(bad), "{text}");
        let form = [("appru", bad), ("user_name", UPN), ("pass", "abcdefgh")];
        let body = Url::parse_with_params("http://x/", form).unwrap();
        let post = house.server.client().post(&page).body(body.query().unwrap().to_owned()).send().await.unwrap();
        assert_eq!(post.status(), 400, "{bad}");
    }
    let visit = Url::parse_with_params(&page, [("appru", "ms-app://ok"), ("login_hint", "\"><script>x")]).unwrap();
    let answer = house.server.client().get(visit).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self' ms-app:"), "{policy}");
    let text = answer.text().await.unwrap();
    assert!(!text.contains("<script>x") && text.contains("value=\"ms-app://ok\""), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_a_token_works_for_policy_and_certificate_and_then_never_again() {
    let house = house().await;
    let pass = house.pass().await;
    let page = house.url("/EnrollmentServer/Authenticate");
    let (policy, enrollment) = (house.url("/EnrollmentServer/Policy.svc"), house.url("/EnrollmentServer/Enrollment.svc"));
    let mut client = house.client();
    let text = enroll::federated(&mut client, &page, UPN, &pass).await.unwrap();
    let security = Security::Token(text.clone());
    let mut flipped = text.clone();
    flipped[5] ^= 1;
    assert_eq!(fault(enroll::policy(&mut client, &policy, &Security::Token(flipped)).await).0, Code::Authentication);
    assert_eq!(fault(enroll::policy(&mut client, &policy, &Security::Token(b"other tenant".to_vec())).await).0, Code::Authentication);
    enroll::policy(&mut client, &policy, &security).await.unwrap();
    let csr = enroll::certificate_request("D1", &key()).unwrap();
    enroll::request_token(&mut client, &enrollment, &issue(csr.clone()), &security).await.unwrap();
    assert_eq!(fault(enroll::request_token(&mut client, &enrollment, &issue(csr.clone()), &security).await).0, Code::Authentication);
    assert_eq!(fault(enroll::policy(&mut client, &policy, &security).await).0, Code::Authentication);
    let late = enroll::federated(&mut client, &page, UPN, &pass).await.unwrap();
    house.server.clock.advance(token::LIFETIME + 1);
    assert_eq!(fault(enroll::request_token(&mut client, &enrollment, &issue(csr), &Security::Token(late)).await).0, Code::Authentication);
    assert_eq!(house.devices().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e8_wrong_passwords_are_throttled_and_tell_nothing_of_users() {
    let house = house().await;
    let policy = house.url("/EnrollmentServer/Policy.svc");
    for name in [UPN, "nobody@example.org"] {
        for _ in 0..10 {
            let security = Security::UserName { name: name.into(), password: "wrongpassword".into() };
            let Err(Failure::Fault(fault)) = enroll::policy(&mut house.client(), &policy, &security).await else { panic!() };
            assert_eq!(fault.code, Code::Authentication);
            assert!(fault.reason.contains("user name or pass is wrong"), "{}", fault.reason);
        }
    }
    let rows = house.audit().await;
    assert_eq!(rows.iter().filter(|(action, _)| action == "signin.refused").count(), 10, "five counted tries each");
    let security = house.on_premise().await;
    assert_eq!(fault(enroll::policy(&mut house.client(), &policy, &security).await).0, Code::Authentication);
    house.server.clock.advance(MINUTE);
    enroll::policy(&mut house.client(), &policy, &security).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e9_only_sound_requests_of_strong_keys_are_certified() {
    let house = house().await;
    let security = house.on_premise().await;
    let good = enroll::certificate_request("0123456789ABCDEF0123456789ABCDEF", &key()).unwrap();
    let weak = enroll::certificate_request("D1", &PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap()).unwrap();
    let mut broken = good.clone();
    let last = broken.len() - 10;
    broken[last] ^= 1;
    for (csr, code) in
        [(weak, Code::CertificateRequest), (broken, Code::CertificateRequest), (vec![0x30, 0x03, 2, 1, 0], Code::CertificateRequest)]
    {
        assert_eq!(fault(house.request_token(&issue(csr), &security).await).0, code);
    }
    let text = String::from_utf8(issue(vec![0x30, 0x80, 0xff]).encode("m", "t", &security)).unwrap();
    let (status, fault) = post(&house, &house.url("/EnrollmentServer/Enrollment.svc"), text.replace("MID/", "?!§").as_bytes()).await;
    assert_eq!((status, fault.unwrap().code), (200, Code::MessageFormat));
    assert_eq!(house.devices().await, 0, "no trace but the audit rows");
    let rows = house.audit().await;
    assert!(rows.iter().any(|(_, after)| after.contains("ENR0003")) && rows.iter().any(|(_, after)| after.contains("ENR0002")));
    house.request_token(&issue(good), &security).await.unwrap();
    assert_eq!(house.devices().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_e11_a_device_enrols_and_its_document_is_what_windows_expects() {
    let house = house().await;
    for (kind, store, number) in [("Full", Store::User, 1), ("Device", Store::System, 2)] {
        let mut machine = Machine::windows_11(number);
        machine.enrollment_type = kind;
        machine.more.push(("SomethingNew".into(), "1".into()));
        let identity = house.enroll(&machine).await.unwrap();
        assert_eq!(identity.store, store);
        assert_eq!(identity.provider_id, "Muster");
        assert_eq!(identity.management.upn.as_deref(), Some(UPN));
        let sha256 = hex::encode(sha256(&identity.certificate.to_der().unwrap()));
        let found = house.server.app.store.read(move |c| enrollments::find_identity(c, &sha256)).await.unwrap().unwrap();
        assert_eq!(found.enrollment.mdm_id, machine.device_id);
        assert_eq!(found.device_name, machine.name);
        assert_eq!(found.user.unwrap().upn, UPN);
        let context: serde_json::Value = serde_json::from_str(&found.enrollment.context).unwrap();
        assert_eq!(context["MAC"].as_array().unwrap().len(), 2);
        assert_eq!(context["SomethingNew"][0], "1");
        assert_eq!(identity.management.subject[0], ("CN".to_owned(), found.enrollment.device_id.to_string()));
        assert!(house.server.app.store.read(move |c| enrollments::find_digest(c, &found.enrollment.id)).await.unwrap().is_some());
        let root = identity.root.clone().unwrap();
        assert_eq!(identity.chain[0].issued(&identity.certificate), openssl::x509::X509VerifyResult::OK);
        assert_eq!(root.issued(&identity.chain[0]), openssl::x509::X509VerifyResult::OK);
        assert_eq!(root.to_der().unwrap(), authority::root_certificate(&house.server.app).await.unwrap());
        assert_eq!(thumbprint(b""), "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709");
    }
    let csr = enroll::certificate_request("D", &key()).unwrap();
    house.request_token(&issue(csr), &house.on_premise().await).await.unwrap();
    assert_eq!(house.devices().await, 3, "without HWDevID, too");
    let secrets = format!("{:?}", house.audit().await);
    assert!(!secrets.contains("AAUTH") && !secrets.contains("PRIVATE"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_quota_version_and_maintenance_have_their_own_faults() {
    let capped = house_with(|config| config.windows.devices_per_user = 1).await;
    capped.enroll(&Machine::windows_11(1)).await.unwrap();
    assert_eq!(fault(capped.enroll(&Machine::windows_11(2)).await).1, Some(ErrorType::DeviceCapReached));
    capped.enroll(&Machine::windows_11(1)).await.expect("the same PC again");
    assert_eq!(capped.devices().await, 1);

    let old = house_with(|config| config.windows.minimum_os_version = "10.0.26100.5000".into()).await;
    assert_eq!(fault(old.enroll(&Machine::windows_11(1)).await).1, Some(ErrorType::DeviceNotSupported));

    let closed = house_with(|config| config.windows.maintenance = true).await;
    assert_eq!(fault(closed.enroll(&Machine::windows_11(1)).await).1, Some(ErrorType::InMaintenance));
    let rows = format!("{:?}{:?}{:?}", capped.audit().await, old.audit().await, closed.audit().await);
    for code in ["ENR0004", "ENR0006", "ENR0007"] {
        assert!(rows.contains(code), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e13_the_same_hardware_again_supersedes_its_old_enrolment() {
    let house = house().await;
    let machine = Machine::windows_11(7);
    let first = house.enroll(&machine).await.unwrap();
    let second = house.enroll(&Machine::windows_11(7)).await.unwrap();
    assert_eq!(house.devices().await, 1);
    let der = first.certificate.to_der().unwrap();
    let hash = hex::encode(sha256(&der));
    let old = house.server.app.store.read(move |c| enrollments::find_identity(c, &hash)).await.unwrap().unwrap();
    assert!(old.certificate.revoked_at.is_some() && old.enrollment.ended_at.is_some());
    let device = old.enrollment.device_id.clone();
    let now = house.server.app.store.read(move |c| enrollments::find_current_enrollment(c, &device)).await.unwrap().unwrap();
    assert_ne!(now.id, old.enrollment.id);
    let mut client = first.client(&house.roots()).unwrap();
    let refused = enroll::renew(&mut client, &first, &key(), false).await;
    assert_eq!(fault(refused).0, Code::Authentication);
    assert_eq!(second.management.subject, first.management.subject);
}

const BEN: &str = "ben@example.org";

/// Lets Ben enrol that PC, over a connection with or without a client certificate.
async fn ben_enrolls(house: &House, machine: &Machine, client: &mut Client) -> Identity {
    let ben = User {
        id: UserId::new(),
        upn: BEN.into(),
        display_name: "Ben".into(),
        mail: None,
        sam_account_name: None,
        security_identifier: None,
        distinguished_name: None,
        role: Role::User,
        enabled: true,
    };
    let id = ben.id.clone();
    house.server.app.store.write(move |tx| users::insert_user(tx, &ben, Time(1))).await.unwrap();
    let pass = tap::create(&house.server.app, &id, Policy::default(), None, "cli:test", "local").await.unwrap().show().to_owned();
    enroll::enroll(client, &house.discovery, machine, &SignIn::Pass { user: BEN.into(), pass }, &key()).await.unwrap()
}

async fn state_of_devices(house: &House) -> Vec<(DeviceState, bool, bool)> {
    let all = house.server.app.store.read(|c| {
        let all = devices::list_devices(c, &Filter::default(), "", 10)?;
        all.into_iter()
            .map(|device| {
                let current = enrollments::find_current_enrollment(c, &device.id)?.is_some();
                Ok((device.state, device.hardware_id.is_some(), current))
            })
            .collect::<Result<Vec<_>, _>>()
    });
    all.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_ends_somebody_elses_enrolment_by_claiming_to_be_the_same_hardware() {
    let house = house().await;
    let victim = house.enroll(&Machine::windows_11(7)).await.unwrap();
    let claimant = ben_enrolls(&house, &Machine::windows_11(7), &mut house.client()).await;
    assert_eq!(state_of_devices(&house).await, [(DeviceState::Managed, true, true), (DeviceState::Managed, true, true)]);
    let hash = hex::encode(sha256(&victim.certificate.to_der().unwrap()));
    let old = house.server.app.store.read(move |c| enrollments::find_identity(c, &hash)).await.unwrap().unwrap();
    assert!(old.certificate.revoked_at.is_none() && old.enrollment.ended_at.is_none(), "the victim's device goes on");
    let (old, new) = (old.enrollment.device_id, claimant.management.entity_id.clone());
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    let alert = rows.into_iter().find(|row| row.action == "device.hardware-contested").expect("an alert");
    let text = alert.after.unwrap_or_default();
    assert_eq!(alert.target, format!("device:{old}"));
    assert!(text.contains(old.as_str()) && text.contains(&new), "{text}");
    let shown = muster::service::device::show(&house.server.app, &old).await.unwrap();
    assert_eq!(shown.same_hardware_as.iter().map(ToString::to_string).collect::<Vec<_>>(), std::slice::from_ref(&new));
    let contested = muster::service::device::contested(&house.server.app).await.unwrap();
    assert_eq!(contested.len(), 1);
    assert_eq!(contested[0].devices.iter().map(ToString::to_string).collect::<Vec<_>>(), [old.to_string(), new.clone()]);
    // Each of the two enrols again as itself.
    house.enroll(&Machine::windows_11(7)).await.unwrap();
    assert_eq!(house.devices().await, 2);
    // An administrator decides, and nothing is contested any more.
    let new = muster::ids::DeviceId::parse(&new).unwrap();
    muster::service::device::retire(&house.server.app, &new, "cli:test", "local").await.unwrap();
    muster::service::device::give_up_device(&house.server.app, &new, &muster::service::directory::By::local("cli:test")).await.unwrap();
    assert_eq!(muster::service::device::contested(&house.server.app).await.unwrap().len(), 0);
    house.enroll(&Machine::windows_11(7)).await.unwrap();
    let states = state_of_devices(&house).await;
    assert_eq!(states, [(DeviceState::Managed, true, true), (DeviceState::Retired, false, false)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hardware_in_other_hands_becomes_another_device_once_an_administrator_has_retired_it() {
    let house = house().await;
    let first = house.enroll(&Machine::windows_11(7)).await.unwrap();
    let id = muster::ids::DeviceId::parse(&first.management.entity_id).unwrap();
    muster::service::device::retire(&house.server.app, &id, "cli:test", "local").await.unwrap();
    ben_enrolls(&house, &Machine::windows_11(7), &mut house.client()).await;
    assert_eq!(state_of_devices(&house).await, [(DeviceState::Retired, false, false), (DeviceState::Managed, true, true)]);
    assert!(!house.audit().await.iter().any(|(action, _)| action == "device.hardware-contested"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hardware_in_other_hands_becomes_another_device_when_it_shows_its_certificate() {
    let house = house().await;
    let first = house.enroll(&Machine::windows_11(7)).await.unwrap();
    let mut client = first.client(&house.roots()).unwrap();
    ben_enrolls(&house, &Machine::windows_11(7), &mut client).await;
    assert_eq!(state_of_devices(&house).await, [(DeviceState::Retired, false, false), (DeviceState::Managed, true, true)]);
    let all = house.server.app.store.read(|c| devices::list_devices(c, &Filter::default(), "", 10)).await.unwrap();
    let ids: Vec<_> = all.into_iter().map(|device| device.id).collect();
    let verdicts = house.server.app.store.read(move |c| ids.iter().map(|id| muster::store::compliance::find_verdict(c, id)).collect());
    let verdicts: Result<Vec<_>, _> = verdicts.await;
    let verdicts: Vec<_> = verdicts.unwrap().into_iter().map(|stored| stored.unwrap().verdict.compliant).collect();
    assert_eq!(verdicts, [false, true], "the device that was left is not compliant, the new one is judged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_a_renewal_in_its_window_keeps_the_old_certificate_until_the_new_one_is_used() {
    let house = house().await;
    let identity = house.enroll(&Machine::windows_11(1)).await.unwrap();
    let mut client = identity.client(&house.roots()).unwrap();
    assert_eq!(fault(enroll::renew(&mut client, &identity, &key(), false).await).1, Some(ErrorType::NotEligibleToRenew), "too early");
    assert!(house.refused("ENR0012").await);
    house.server.clock.advance(310 * DAY);
    let lost = enroll::renew(&mut client, &identity, &key(), true).await.unwrap();
    let renewed = enroll::renew(&mut client, &identity, &key(), false).await.expect("the answer may have been lost");
    let find = |identity: &Identity| {
        let hash = hex::encode(sha256(&identity.certificate.to_der().unwrap()));
        let store = house.server.app.store.clone();
        async move { store.read(move |c| enrollments::find_identity(c, &hash)).await.unwrap().unwrap() }
    };
    let old = find(&identity).await;
    assert!(old.certificate.revoked_at.is_none(), "the old one still works");
    confirm_renewal(&house.server.app, &old, "192.0.2.1").await.unwrap();
    assert!(find(&renewed).await.certificate.revoked_at.is_none(), "using the old one changes nothing");
    house.server.clock.advance(1);
    let new = find(&renewed).await;
    confirm_renewal(&house.server.app, &new, "192.0.2.1").await.unwrap();
    assert!(find(&identity).await.certificate.revoked_at.is_some());
    assert!(find(&lost).await.certificate.revoked_at.is_some());
    let new = find(&renewed).await;
    assert_eq!(new.enrollment.certificate_id, Some(new.certificate.id.clone()));
    confirm_renewal(&house.server.app, &new, "192.0.2.1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_renewal_by_anything_but_the_current_certificate_is_refused() {
    let house = house().await;
    let identity = house.enroll(&Machine::windows_11(1)).await.unwrap();
    let other = house.enroll(&Machine::windows_11(2)).await.unwrap();
    house.server.clock.advance(310 * DAY);
    let roots = house.roots();
    let csr = enroll::certificate_request("D", &key()).unwrap();
    let renew_with = |signed: Vec<u8>| RequestToken { request_type: RequestType::Renew, csr: Csr::Pkcs7(signed), context: Vec::new() };
    let to = identity.enrollment_url.clone();
    let foreign = Ca::new("Foreign").leaf("foreign", &[]);
    // Signed by another device's certificate, by a foreign one, and with the right certificate but the wrong key.
    for signed in [
        enroll::sign(&csr, &other.certificate, &other.key).unwrap(),
        enroll::sign(&csr, &foreign.certificate, &key()).unwrap(),
        enroll::sign(&csr, &identity.certificate, &new_key().unwrap()).unwrap(),
    ] {
        let mut client = identity.client(&roots).unwrap();
        let refused = enroll::request_token(&mut client, &to, &renew_with(signed), &Security::None).await;
        assert_eq!(fault(refused).0, Code::Authentication);
    }
    let good = enroll::sign(&csr, &identity.certificate, &identity.key).unwrap();
    let without = enroll::request_token(&mut house.client(), &to, &renew_with(good.clone()), &Security::None).await;
    assert_eq!(fault(without).0, Code::Authentication, "without a client certificate");
    let mut stranger = Client::new(&roots, Some((&foreign.certificate, &[], &foreign.key))).unwrap();
    assert_eq!(fault(enroll::request_token(&mut stranger, &to, &renew_with(good.clone()), &Security::None).await).0, Code::Authentication);
    let id = house.server.app.store.read(|c| certificates::list_certificates(c, &Search::default(), 100)).await.unwrap();
    let id = id.into_iter().find(|c| c.der == other.certificate.to_der().unwrap()).unwrap().id;
    let (app, reason) = (&house.server.app, muster::domain::certificate::RevocationReason::KeyCompromise);
    authority::renew_service_keys(app).await.unwrap();
    muster::service::pki::revoke::revoke(app, &id, reason, "cli:test", "local").await.unwrap();
    let mut client = other.client(&roots).unwrap();
    assert_eq!(fault(enroll::renew(&mut client, &other, &key(), false).await).0, Code::Authentication, "revoked");
    house.server.clock.advance(60 * DAY);
    let mut client = identity.client(&roots).unwrap();
    assert_eq!(fault(enroll::renew(&mut client, &identity, &key(), false).await).0, Code::Authentication, "expired");
    let rows = format!("{:?}", house.audit().await);
    for code in ["ENR0009", "ENR0010", "ENR0011", "AUT0006", "CRT0001", "CRT0002"] {
        assert!(rows.contains(code), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_device_keeps_only_its_identity_until_it_has_left() {
    use muster::service::device;
    let house = house().await;
    let identity = house.enroll(&Machine::windows_11(1)).await.unwrap();
    let hash = hex::encode(sha256(&identity.certificate.to_der().unwrap()));
    let find = || {
        let (hash, store) = (hash.clone(), house.server.app.store.clone());
        async move { store.read(move |c| enrollments::find_identity(c, &hash)).await.unwrap().unwrap() }
    };
    let before = find().await;
    device::retire(&house.server.app, &before.enrollment.device_id, "cli:test", "local").await.unwrap();
    device::retire(&house.server.app, &before.enrollment.device_id, "cli:test", "local").await.unwrap();
    let told = find().await;
    assert_eq!(told.enrollment.state, muster::domain::enrollment::State::Unenrolling);
    assert!(told.certificate.revoked_at.is_none());
    let id = told.enrollment.id.clone();
    let sealer = house.server.app.sealer();
    let orders = house.server.app.store.read(move |c| muster::store::commands::list_open(c, &sealer, &id, 10)).await.unwrap();
    assert_eq!(orders.readable.len(), 1);
    house.server.clock.advance(310 * DAY);
    let mut client = identity.client(&house.roots()).unwrap();
    assert_eq!(fault(enroll::renew(&mut client, &identity, &key(), false).await).0, Code::Authentication, "it is leaving");
    assert!(house.refused("ENR0001").await);
    device::give_up(&house.server.app, &told.enrollment.id, "cli:test", "192.0.2.1").await.unwrap();
    let gone = find().await;
    assert!(gone.certificate.revoked_at.is_some() && gone.enrollment.ended_at.is_some());
    let all = house.server.app.store.read(|c| devices::list_devices(c, &Filter::default(), "", 10)).await.unwrap();
    assert_eq!(all[0].state, DeviceState::Retired);
}

/// A tenant with its own key, whose key set a small HTTP server on loopback publishes.
struct Tenant {
    key: josekit::jwk::Jwk,
    config: EntraTenant,
}

impl Tenant {
    async fn start() -> Self {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut key = josekit::jwk::Jwk::generate_rsa_key(2048).unwrap();
        key.set_key_id("k1");
        let mut public = key.to_public_key().unwrap();
        public.set_key_id("k1");
        let body = serde_json::json!({ "keys": [public.as_ref()] }).to_string();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let jwks_uri = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        let tenant_id = "11111111-2222-3333-4444-555555555555".to_owned();
        let issuer = format!("https://sts.example/{tenant_id}/");
        Self { key, config: EntraTenant { tenant_id, issuer, audience: "https://muster.example".into(), jwks_uri } }
    }

    fn token(&self, now: Time, kid: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut claims = serde_json::json!({
            "tid": self.config.tenant_id, "iss": self.config.issuer, "aud": self.config.audience, "exp": now.seconds() + 3600,
            "nbf": now.seconds() - 60, "scp": "mdm_delegation", "oid": "o1", "upn": UPN, "deviceid": "entra-device-1",
        });
        change(&mut claims);
        let mut key = self.key.clone();
        key.set_key_id(kid);
        let header = josekit::jws::JwsHeader::new();
        let signer = josekit::jws::RS256.signer_from_jwk(&key).unwrap();
        josekit::jws::serialize_compact(claims.to_string().as_bytes(), &header, &signer).unwrap()
    }
}

async fn house_of(tenant: &Tenant) -> House {
    let config = tenant.config.clone();
    house_with(move |c| c.windows.entra = vec![config]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_only_a_sound_token_of_the_tenant_enrols() {
    let tenant = Tenant::start().await;
    let house = house_of(&tenant).await;
    let now = house.server.app.now();
    let good = tenant.token(now, "k1", |_| ());
    let payload = good.split('.').nth(1).unwrap();
    let none = format!("eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.{payload}.");
    let forged = format!("{}A.{}", good.rsplit_once('.').unwrap().0, good.rsplit_once('.').unwrap().1);
    let cases = [
        ("alg none", none),
        ("signature", forged),
        ("kid", tenant.token(now, "unknown", |_| ())),
        ("aud", tenant.token(now, "k1", |c| c["aud"] = "https://other.example".into())),
        ("tid", tenant.token(now, "k1", |c| c["tid"] = "99999999-2222-3333-4444-555555555555".into())),
        ("exp", tenant.token(now, "k1", |c| c["exp"] = (now.seconds() - 3600).into())),
        ("scp", tenant.token(now, "k1", |c| c["scp"] = "other".into())),
        ("rubbish", "rubbish".to_owned()),
    ];
    for (what, bad) in cases {
        let refused =
            enroll::policy(&mut house.client(), &house.url("/EnrollmentServer/Policy.svc"), &Security::Jwt(bad.into_bytes())).await;
        let Err(Failure::Fault(fault)) = refused else { panic!("{what}") };
        assert_eq!(fault.code, Code::Authentication, "{what}");
    }
    let stranger = tenant.token(now, "k1", |c| c["upn"] = "nobody@example.org".into());
    let stranger = Security::Jwt(stranger.into_bytes());
    let refused = enroll::policy(&mut house.client(), &house.url("/EnrollmentServer/Policy.svc"), &stranger).await;
    assert_eq!(fault(refused).0, Code::Authorization);
    assert!(house.refused("ENR0016").await);
    house.enable(false).await;
    let disabled = Security::Jwt(good.clone().into_bytes());
    let refused = enroll::policy(&mut house.client(), &house.url("/EnrollmentServer/Policy.svc"), &disabled).await;
    assert_eq!(fault(refused).0, Code::Authorization);
    assert!(house.refused("AUT0001").await);
    house.enable(true).await;
    let machine = Machine::windows_11(1);
    enroll::enroll(&mut house.client(), &house.discovery, &machine, &SignIn::Jwt(good), &key()).await.unwrap();
    let all = house.server.app.store.read(|c| devices::list_devices(c, &Filter::default(), "", 10)).await.unwrap();
    assert_eq!(all[0].entra_device_id.as_deref(), Some("entra-device-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_the_terms_are_answered_with_exactly_the_parameters_that_windows_expects() {
    let tenant = Tenant::start().await;
    let house = house_of(&tenant).await;
    let token = tenant.token(house.server.app.now(), "k1", |c| c["scp"] = serde_json::Value::Null);
    let client = house.server.client();
    let visit = |redirect: &str, version: &str, mode: &str, token: &str| {
        let query = [("redirect_uri", redirect), ("client-request-id", "crid-1"), ("api-version", version), ("mode", mode)];
        let url = Url::parse_with_params(&format!("{}/EnrollmentServer/TermsOfUse", house.server.web), query).unwrap();
        client.get(url).bearer_auth(token).send()
    };
    let home = "ms-appx-web://Microsoft.AAD.BrokerPlugin";
    let location = |answer: &reqwest::Response| {
        assert_eq!(answer.status(), 302);
        answer.headers()["location"].to_str().unwrap().to_owned()
    };
    let elsewhere = visit("https://x", "1.0", "", &token).await.unwrap();
    assert_eq!(elsewhere.status(), 400);
    assert!(elsewhere.text().await.unwrap().contains("ENR0015"));
    let wrong = location(&visit(home, "2.0", "", &token).await.unwrap());
    assert!(wrong.starts_with(&format!("{home}?error=invalid_request&error_description=")) && wrong.ends_with("&client-request-id=crid-1"));
    let wrong = location(&visit(home, "1.0", "", "bad").await.unwrap());
    assert!(wrong.starts_with(&format!("{home}?error=unauthorized_client&")), "{wrong}");
    assert!(!visit(home, "1.0", "azureadjoin", &token).await.unwrap().text().await.unwrap().contains("Decline"));
    let page = visit(home, "1.0", "", &token).await.unwrap().text().await.unwrap();
    assert!(page.contains("Decline"));
    let state = page.split_once("name=\"state\" value=\"").unwrap().1.split_once('"').unwrap().0.to_owned();
    let decide = |decision: &str, state: &str| {
        let body = Url::parse_with_params("http://x/", [("state", state), ("decision", decision)]).unwrap();
        client.post(format!("{}/EnrollmentServer/TermsOfUse", house.server.web)).body(body.query().unwrap().to_owned()).send()
    };
    assert_eq!(location(&decide("decline", &state).await.unwrap()), format!("{home}?IsAccepted=false&client-request-id=crid-1"));
    assert_eq!(decide("accept", "forged.state").await.unwrap().status(), 400);
    let accepted = location(&decide("accept", &state).await.unwrap());
    let blob = accepted.strip_prefix(&format!("{home}?IsAccepted=true&OpaqueBlob=")).unwrap();
    let blob = blob.strip_suffix("&client-request-id=crid-1").unwrap().to_owned();
    let jwt = tenant.token(house.server.app.now(), "k1", |_| ());
    let mut machine = Machine::windows_11(1);
    machine.more.push(("EnrollmentData".into(), "forged".into()));
    let refused = enroll::enroll(&mut house.client(), &house.discovery, &machine, &SignIn::Jwt(jwt.clone()), &key()).await;
    assert_eq!(fault(refused).1, Some(ErrorType::InvalidEnrollmentData));
    assert!(house.refused("ENR0005").await);
    machine.more.pop();
    machine.more.push(("EnrollmentData".into(), blob));
    enroll::enroll(&mut house.client(), &house.discovery, &machine, &SignIn::Jwt(jwt), &key()).await.unwrap();
}
