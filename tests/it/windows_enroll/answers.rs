//! The server's answers, byte for byte against files that were written from Microsoft's documents and not by our codec, and requests that
//! were not written by it either.

use muster::wire::mde::soap::{AnswerHeader, Operation};
use muster::wire::mde::wstep;
use muster::wire::mde::xcep::{Policy as KeyPolicy, SHA256};
use muster::wire::provisioning::{Credential, Document, Management, Poll, PollSet, Renewal};

use super::*;

fn golden(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Compares with a file, whose line ends and indents are for people only.
fn same(bytes: Vec<u8>, name: &str) {
    let expected: String = golden(&format!("mde-answers/{name}")).lines().map(str::trim).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{name}");
}

fn header(timestamp: Option<(&str, &str)>) -> AnswerHeader {
    let timestamp = timestamp.map(|(created, expires)| (created.to_owned(), expires.to_owned()));
    AnswerHeader { relates_to: Some("urn:uuid:1".into()), activity_id: "trace-1".into(), timestamp }
}

fn document(store: Store, management: bool) -> Document {
    let set = |retries, interval_minutes| PollSet { retries, interval_minutes };
    let management = management.then(|| Management {
        name: "Example & Sons".into(),
        address: "https://m:8444/ManagementServer/MDM.svc".into(),
        subject: vec![("CN".into(), "device-1".into()), ("OU".into(), "Muster".into())],
        server: Credential { name: None, secret: "server-secret".into(), nonce: vec![1, 2] },
        client: Credential { name: Some("device-1".into()), secret: "client-secret".into(), nonce: vec![3, 4] },
        upn: Some(UPN.into()),
        device_name: Some("DESK-1".into()),
        entity_id: "device-1".into(),
        sign_messages: false,
        push_package: Some("Example_1234".into()),
        poll: Poll { first: set(5, 3), second: set(8, 15), remaining: set(0, 480), on_login: true },
        renewal: Renewal { period_days: 60, retry_days: 4 },
    });
    Document {
        root: Some(b"root certificate".to_vec()),
        intermediate: Some(b"issuing certificate".to_vec()),
        certificate: b"client certificate".to_vec(),
        store,
        provider_id: "Muster".into(),
        management,
    }
}

#[test]
fn answers_are_byte_for_byte_what_windows_documents() {
    let result = DiscoverResult {
        auth_policy: AuthPolicy::Federated,
        enrollment_version: Version::new(4, 0),
        policy_url: "https://m:8444/EnrollmentServer/Policy.svc".into(),
        enrollment_url: "https://m:8444/EnrollmentServer/Enrollment.svc".into(),
        authentication_url: Some("https://m/EnrollmentServer/Authenticate".into()),
    };
    same(result.encode(&header(None)), "discover.xml");
    let policy = KeyPolicy {
        policy_id: "policy-1".into(),
        common_name: "Muster device identity".into(),
        validity_seconds: 31_536_000,
        renewal_seconds: 5_184_000,
        minimal_key_length: 2048,
        crypto_providers: vec!["Microsoft Platform Crypto Provider".into(), "Microsoft Software Key Storage Provider".into()],
        hash_oid: SHA256.into(),
    };
    same(policy.encode(&header(None)), "policies.xml");
    let times = Some(("2026-11-24T04:00:00.000Z", "2026-11-24T04:05:00.000Z"));
    same(wstep::encode_answer_with(b"<wap/>", &header(times)), "token.xml");
    let fault = Fault {
        code: Code::Authorization,
        error_type: Some(ErrorType::DeviceCapReached),
        reason: "the user has as many devices as allowed".into(),
        trace_id: "trace-1".into(),
    };
    same(fault.encode(Operation::RequestToken, &header(None)), "fault.xml");
    same(document(Store::User, true).encode(), "provisioning-full.xml");
    same(document(Store::System, true).encode(), "provisioning-device.xml");
    same(document(Store::User, false).encode(), "renewal.xml");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_the_name_that_windows_writes_is_certified() {
    let house = House::new().await;
    let pem = golden("windows-request.pem");
    let base64: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let csr = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64).unwrap();
    house.request_token(&issue(csr.clone()), &house.on_premise().await).await.unwrap();
    let all = house.server.app.store.read(|c| certificates::list_certificates(c, &Search::default(), 100)).await.unwrap();
    let issued = all.into_iter().find(|c| c.grant.device_id.is_some()).unwrap();
    let (request, issued) = (openssl::x509::X509Req::from_der(&csr).unwrap(), X509::from_der(&issued.der).unwrap());
    assert!(issued.public_key().unwrap().public_eq(&request.public_key().unwrap()));
    assert!(!format!("{:?}", issued.subject_name()).contains('!'), "nothing of the requested name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_several_generations_are_answered() {
    let house = House::new().await;
    for name in ["discover-windows10.xml", "discover-windows11.xml"] {
        let (status, fault) = post(&house, &house.discovery(), golden(&format!("mde/{name}")).as_bytes()).await;
        assert_eq!((status, fault), (200, None), "{name}");
    }
    let request = golden("mde/policies-password.xml").replace(">a&amp;b&lt;c<", &format!(">{}<", house.pass().await));
    let (status, fault) = post(&house, &house.url("/EnrollmentServer/Policy.svc"), request.as_bytes()).await;
    assert_eq!((status, fault), (200, None));
    let request = golden("mde/request-jwt.xml");
    let (status, fault) = post(&house, &house.url("/EnrollmentServer/Enrollment.svc"), request.as_bytes()).await;
    assert_eq!((status, fault.unwrap().code), (200, Code::Authentication), "no tenant is configured");
}
