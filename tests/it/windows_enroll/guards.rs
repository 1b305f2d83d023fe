//! What strangers may not do, and what happens at once.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_fill_the_audit_log() {
    let house = House::new().await;
    let long = format!("<{}><b></{}>", "x".repeat(50_000), "secret-tag".repeat(100));
    for _ in 0..30 {
        let (status, fault) = post(&house, &house.discovery(), long.as_bytes()).await;
        let fault = fault.unwrap();
        assert_eq!((status, fault.code), (200, Code::MessageFormat));
        assert!(fault.reason.len() <= 200 && !fault.reason.contains("xxx") && !fault.reason.contains("secret-tag"), "{}", fault.reason);
    }
    let rows: Vec<_> = house.audit().await.into_iter().filter(|(action, _)| action == "enrollment.refused").collect();
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|(_, after)| after.len() < 500 && !after.contains("secret-tag")), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_about_a_wrong_action_still_relates_to_its_message() {
    let house = House::new().await;
    let request = discover(Version::new(4, 0), vec![AuthPolicy::Federated]).encode("urn:uuid:7", "t");
    let to = house.url("/EnrollmentServer/Policy.svc");
    let answer = house.client().send("POST", &to, &[("Content-Type", "application/soap+xml")], &request).await.unwrap();
    let answer = Answer::decode(&answer.body).unwrap();
    assert_eq!(answer.relates_to.as_deref(), Some("urn:uuid:7"));
    assert_eq!(answer.body.unwrap_err().code, Code::MessageFormat);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_programs_enrols_one_pc() {
    let house = House::new().await;
    let invited = muster::service::windows::enroll::invite_with_token(&house.server.app, UPN, 10 * MINUTE, "cli:test").await.unwrap();
    assert_eq!(invited.discovery_url, house.discovery().to_string());
    let security = Security::Token(invited.token.expose().to_vec());
    let csr = enroll::certificate_request("D1", &key()).unwrap();
    enroll::policy(&mut house.client(), &house.url("/EnrollmentServer/Policy.svc"), &security).await.unwrap();
    house.request_token(&issue(csr.clone()), &security).await.unwrap();
    assert_eq!(fault(house.request_token(&issue(csr), &security).await).0, Code::Authentication, "it is used up");
    assert!(house.refused("AUT0006").await);
    assert_eq!(house.devices().await, 1);
    let text = String::from_utf8(invited.token.expose().to_vec()).unwrap();
    assert!(!format!("{:?}", house.audit().await).contains(&text));
    house.enable(false).await;
    let refused = muster::service::windows::enroll::invite_with_token(&house.server.app, UPN, MINUTE, "cli:test").await;
    assert!(format!("{refused:?}").contains("AccountDisabled"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_renews_gets_the_policy_by_the_certificate_whatever_name_comes_with_it() {
    let house = House::new().await;
    let identity = house.join(&Machine::windows_11(1)).await.unwrap();
    let to = house.url("/EnrollmentServer/Policy.svc");
    for password in ["", "rubbish"] {
        let security = Security::UserName { name: UPN.into(), password: password.into() };
        let mut client = identity.client(&house.roots()).unwrap();
        enroll::policy(&mut client, &to, &security).await.unwrap();
        assert_eq!(fault(enroll::policy(&mut house.client(), &to, &security).await).0, Code::Authentication);
    }
    assert!(house.refused("AUT0006").await, "without a password there is nothing to check");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_authority_refuses_the_certificate() {
    let house = House::new().await;
    let name = authority::issuing(&house.server.app).await.unwrap().name.clone();
    authority::set_paused(&house.server.app, &name, true, "cli:test", "local").await.unwrap();
    assert_eq!(fault(house.join(&Machine::windows_11(1)).await).0, Code::CertificateRequest);
    assert!(house.refused("CRT0011").await);
    assert_eq!(house.devices().await, 0);
}
