//! Windows enrolment over real TLS, as a simulated device does it, and as broken or hostile clients do.

mod answers;
mod entra;
mod guards;
mod hardware;
mod logs;
mod races;
mod renewal;

use muster::clock::{DAY, MINUTE, Time};
use muster::config::EntraTenant;
use muster::domain::device::State as DeviceState;
use muster::domain::tap::Policy;
use muster::service::device::confirm_renewal;
use muster::service::directory;
use muster::service::identity::{tap, token};
use muster::service::pki::authority;
use muster::sim::http::Client;
use muster::sim::windows::enroll::{self, Failure, Identity, Machine, SignIn, new_key};
use muster::store::certificates::Search;
use muster::store::devices::Filter;
use muster::store::{audit, certificates, devices, enrollments, users};
use muster::wire::mde::discovery::{AuthPolicy, Discover, DiscoverResult, Version};
use muster::wire::mde::fault::{Code, ErrorType, Fault};
use muster::wire::mde::soap::{Answer, Security};
use muster::wire::mde::wstep::{Csr, RequestToken, RequestType};
use muster::wire::provisioning::Store;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use openssl::x509::X509;
use reqwest::Url;

use crate::support::ca::Ca;
use crate::support::server::Server;
use crate::support::windows::{House, UPN, by, key};

impl House {
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
        directory::enable_user(&self.server.app, &self.user, enabled, &by()).await.unwrap();
    }

    async fn devices(&self) -> usize {
        self.device_ids().await.len()
    }
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
    let house = House::new().await;
    for path in ["/EnrollmentServer/Discovery.svc", "/ENROLLMENTSERVER/DISCOVERY.SVC", "/enrollmentserver/discovery.svc"] {
        let answer = house.server.client().get(format!("{}{path}", house.server.web)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.content_length(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_e3_discovery_answers_every_version_with_what_was_offered() {
    let house = House::new().await;
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
            let answer = client.send("POST", &house.discovery(), &soap, &request.encode(id, "https://x")).await.unwrap();
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

/// A fault's `Message` and its `Reason`, as the device reads the one or the other.
fn message_and_reason(answer: &[u8]) -> (String, String) {
    let text = std::str::from_utf8(answer).unwrap();
    let between = |start: &str, end: &str| text.split_once(start).unwrap().1.split_once(end).unwrap().0.to_owned();
    (between("<Message>", "</Message>"), between("<s:Text xml:lang=\"en-us\">", "</s:Text>"))
}

async fn post(house: &House, url: &Url, body: &[u8]) -> (u16, Option<Fault>) {
    let mut client = house.client();
    let answer = client.send("POST", url, &[("Content-Type", "application/soap+xml")], body).await.unwrap();
    let fault = Answer::decode(&answer.body).ok().and_then(|answer| answer.body.err());
    if fault.is_some() {
        let (message, reason) = message_and_reason(&answer.body);
        assert_eq!(message, reason);
    }
    (answer.status, fault)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e3_an_offer_that_we_cannot_take_and_an_old_dialect_are_not_supported() {
    let house = House::new().await;
    for request in [discover(Version::new(4, 0), vec![AuthPolicy::Certificate]), discover(Version::new(2, 0), vec![AuthPolicy::Federated])]
    {
        let (status, fault) = post(&house, &house.discovery(), &request.encode("m", "t")).await;
        assert_eq!((status, fault.unwrap().error_type), (200, Some(ErrorType::NotSupported)));
    }
    let codes: Vec<_> = house.audit().await.into_iter().filter(|(action, _)| action == "enrollment.refused").collect();
    assert!(codes[0].1.contains("ENR0008") && codes[1].1.contains("ENR0014"), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_what_is_no_request_is_a_format_fault_and_what_is_too_large_is_413() {
    let house = House::new().await;
    let good = discover(Version::new(4, 0), vec![AuthPolicy::Federated]).encode("m", "t");
    let text = String::from_utf8(good.clone()).unwrap();
    let bomb = format!("<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>{}", text.replace(UPN, "&b;"));
    let deep = format!("{}{}", "<a>".repeat(5000), "</a>".repeat(5000));
    let soap_1_1 = text.replace("http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/");
    for url in [house.discovery(), house.url("/EnrollmentServer/Policy.svc"), house.url("/EnrollmentServer/Enrollment.svc")] {
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
    let house = House::new().await;
    let request = muster::wire::mde::xcep::GetPolicies::default().encode("m", "t", &Security::Token(b"abc".to_vec()));
    let broken = String::from_utf8(request).unwrap().replace("YWJj", "***");
    let (status, fault) = post(&house, &house.url("/EnrollmentServer/Policy.svc"), broken.as_bytes()).await;
    assert_eq!((status, fault.map(|f| f.code)), (200, Some(Code::InvalidSecurity)));
    assert!(house.refused("ENR0013").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_the_sign_in_page_hands_tokens_to_applications_only_and_reflects_nothing() {
    let house = House::new().await;
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
    let house = House::new().await;
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
    let house = House::new().await;
    let policy = house.url("/EnrollmentServer/Policy.svc");
    for name in [UPN, "nobody@example.org"] {
        for _ in 0..10 {
            let security = Security::UserName { name: name.into(), password: "wrongpassword".into() };
            let Err(Failure::Fault(fault)) = enroll::policy(&mut house.client(), &policy, &security).await else { panic!() };
            assert_eq!(fault.code, Code::Authentication);
            assert!(fault.reason.starts_with("AUT0002: user name or pass is wrong"), "{}", fault.reason);
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
    let house = House::new().await;
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
    let house = House::new().await;
    for (kind, store, number) in [("Full", Store::User, 1), ("Device", Store::System, 2)] {
        let mut machine = Machine::windows_11(number);
        machine.enrollment_type = kind;
        machine.more.push(("SomethingNew".into(), "1".into()));
        let identity = house.join(&machine).await.unwrap();
        assert_eq!(identity.store, store);
        assert_eq!(identity.provider_id, "Muster");
        assert_eq!(identity.management.upn.as_deref(), Some(UPN));
        let sha256 = hex::encode(sha256(&identity.certificate.to_der().unwrap()));
        let found = house.server.app.store.read(move |c| {
            let found = enrollments::find_identity(c, &sha256)?.unwrap();
            let device = devices::load_device(c, &found.enrollment.device_id)?;
            let user = users::load_user(c, found.enrollment.user_id.as_ref().unwrap())?;
            let context = enrollments::load_enrollment(c, &found.enrollment.id)?.context;
            Ok((found, device, user, context))
        });
        let (found, device, user, context) = found.await.unwrap();
        assert_eq!(found.enrollment.mdm_id, machine.device_id);
        assert_eq!(device.display_name, machine.name);
        assert_eq!(user.upn, UPN);
        let context: serde_json::Value = serde_json::from_str(&context).unwrap();
        assert_eq!(context["MAC"].as_array().unwrap().len(), 2);
        assert_eq!(context["SomethingNew"][0], "1");
        assert_eq!(identity.management.subject[0], ("CN".to_owned(), found.enrollment.device_id.to_string()));
        assert!(house.server.app.store.read(move |c| enrollments::find_digest(c, &found.enrollment.id)).await.unwrap().is_some());
        let root = identity.root.clone().unwrap();
        assert_eq!(identity.chain[0].issued(&identity.certificate), openssl::x509::X509VerifyResult::OK);
        assert_eq!(root.issued(&identity.chain[0]), openssl::x509::X509VerifyResult::OK);
        assert_eq!(root.to_der().unwrap(), authority::root_certificate(&house.server.app).await.unwrap());
    }
    let csr = enroll::certificate_request("D", &key()).unwrap();
    house.request_token(&issue(csr), &house.on_premise().await).await.unwrap();
    assert_eq!(house.devices().await, 3, "without HWDevID, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e11_the_document_names_each_certificate_by_its_thumbprint_in_order() {
    let house = House::new().await;
    let security = house.on_premise().await;
    let mut request = issue(enroll::certificate_request("D1", &key()).unwrap());
    for (kind, store) in [("Full", "User"), ("Device", "System")] {
        request.context.push(("EnrollmentType".into(), kind.into()));
        let bytes = request.encode("m", "t", &security);
        let to = house.url("/EnrollmentServer/Enrollment.svc");
        let answer = house.client().send("POST", &to, &[("Content-Type", "application/soap+xml")], &bytes).await.unwrap();
        let body = Answer::decode(&answer.body).unwrap().body.unwrap();
        let text = String::from_utf8(muster::wire::mde::wstep::decode_answer(&body).unwrap()).unwrap();
        // Read as text, not with our own codec.
        let mut rest = text.as_str();
        for place in [
            r#""Root"><characteristic type="System""#.to_owned(),
            r#""CA"><characteristic type="System""#.into(),
            format!(r#""My"><characteristic type="{store}""#),
        ] {
            let start = format!(r#"<characteristic type={place}><characteristic type=""#);
            let (_, after) = rest.split_once(start.as_str()).unwrap_or_else(|| panic!("{place} in its order: {text}"));
            let (thumbprint, after) = after.split_once(r#""><parm name="EncodedCertificate" value=""#).unwrap();
            let (base64, after) = after.split_once('"').unwrap();
            let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64).unwrap();
            let sha1 = openssl::hash::hash(openssl::hash::MessageDigest::sha1(), &der).unwrap();
            assert_eq!(thumbprint, hex::encode_upper(sha1), "{place}");
            X509::from_der(&der).unwrap();
            rest = after;
        }
        // No secret of the document is anywhere in the audit log.
        let rows = format!("{:?}", house.audit().await);
        let secrets: Vec<_> = text.split(r#"name="AAUTHSECRET" value=""#).skip(1).map(|rest| rest.split_once('"').unwrap().0).collect();
        assert_eq!(secrets.len(), 2);
        let Security::UserName { password, .. } = &security else { panic!() };
        for secret in secrets.into_iter().chain([password.as_str(), password.replace('-', "").as_str()]) {
            assert!(secret.len() >= 8 && !rows.contains(secret), "{secret}");
        }
        request.context.pop();
    }
    let token =
        enroll::federated(&mut house.client(), &house.url("/EnrollmentServer/Authenticate"), UPN, &house.pass().await).await.unwrap();
    house.request_token(&request, &Security::Token(token.clone())).await.unwrap();
    assert!(!format!("{:?}", house.audit().await).contains(std::str::from_utf8(&token).unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e12_quota_version_and_maintenance_have_their_own_faults() {
    let capped = House::tweaked(|config| config.windows.devices_per_user = 1).await;
    capped.join(&Machine::windows_11(1)).await.unwrap();
    assert_eq!(fault(capped.join(&Machine::windows_11(2)).await).1, Some(ErrorType::DeviceCapReached));
    capped.join(&Machine::windows_11(1)).await.expect("the same PC again");
    assert_eq!(capped.devices().await, 1);

    let old = House::tweaked(|config| config.enrollment.windows.minimum_os_version = "10.0.26100.5000".into()).await;
    assert_eq!(fault(old.join(&Machine::windows_11(1)).await).1, Some(ErrorType::DeviceNotSupported));

    // A newest version lets nobody in who does not say which one it has.
    let newest = House::tweaked(|config| config.enrollment.windows.maximum_os_version = "10.0.26100".into()).await;
    newest.join(&Machine::windows_11(1)).await.unwrap();
    let silent = Machine { os_version: String::new(), ..Machine::windows_11(2) };
    assert_eq!(fault(newest.join(&silent).await).1, Some(ErrorType::DeviceNotSupported));
    assert!(format!("{:?}", newest.audit().await).contains("ENR0034"));

    let closed = House::tweaked(|config| config.windows.maintenance = true).await;
    assert_eq!(fault(closed.join(&Machine::windows_11(1)).await).1, Some(ErrorType::InMaintenance));
    let rows = format!("{:?}{:?}{:?}", capped.audit().await, old.audit().await, closed.audit().await);
    for code in ["ENR0004", "ENR0006", "ENR0007"] {
        assert!(rows.contains(code), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e13_the_same_hardware_again_supersedes_its_old_enrolment() {
    let house = House::new().await;
    let machine = Machine::windows_11(7);
    let first = house.join(&machine).await.unwrap();
    let second = house.join(&Machine::windows_11(7)).await.unwrap();
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
    let kind = [("Content-Type", "application/vnd.syncml.dm+xml")];
    let said = first.client(&house.roots()).unwrap().send("POST", &first.management_url().unwrap(), &kind, b"<SyncML/>").await.unwrap();
    assert_eq!(said.status, 403, "the superseded identity does not manage");
    let rows = house.audit().await;
    assert!(rows.iter().any(|(action, after)| action == "management.refused" && after.contains("CRT0002")), "{rows:?}");
    assert_eq!(second.management.subject, first.management.subject);
}
