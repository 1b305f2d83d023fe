//! What strangers may not do, and what happens at once.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_fill_the_audit_log() {
    let house = house().await;
    let long = format!("<{}><b></{}>", "x".repeat(50_000), "secret-tag".repeat(100));
    for _ in 0..30 {
        let (status, fault) = post(&house, &house.discovery, long.as_bytes()).await;
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
    let house = house().await;
    let request = discover(Version::new(4, 0), vec![AuthPolicy::Federated]).encode("urn:uuid:7", "t");
    let to = house.url("/EnrollmentServer/Policy.svc");
    let answer = house.client().send("POST", &to, &[("Content-Type", "application/soap+xml")], &request).await.unwrap();
    let answer = Answer::decode(&answer.body).unwrap();
    assert_eq!(answer.relates_to.as_deref(), Some("urn:uuid:7"));
    assert_eq!(answer.body.unwrap_err().code, Code::MessageFormat);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_programs_enrols_one_pc() {
    let house = house().await;
    let invited = muster::service::windows::enroll::invite_with_token(&house.server.app, UPN, 10 * MINUTE, "cli:test").await.unwrap();
    assert_eq!(invited.discovery_url, house.discovery.to_string());
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
    let house = house().await;
    let identity = house.enroll(&Machine::windows_11(1)).await.unwrap();
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
async fn one_token_in_two_requests_at_once_makes_one_device() {
    let house = house().await;
    let pass = house.pass().await;
    let text = enroll::federated(&mut house.client(), &house.url("/EnrollmentServer/Authenticate"), UPN, &pass).await.unwrap();
    let security = Security::Token(text);
    let request = |id: &str| {
        let mut request = issue(enroll::certificate_request(id, &key()).unwrap());
        request.context[0].1 = id.into();
        request
    };
    let (first, second) = (request("D1"), request("D2"));
    let both = tokio::join!(house.request_token(&first, &security), house.request_token(&second, &security));
    let refused = match both {
        (Ok(()), refused @ Err(_)) | (refused @ Err(_), Ok(())) => refused,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(refused).0, Code::Authentication);
    assert_eq!(house.devices().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_hardware_twice_at_once_is_one_device() {
    let house = house().await;
    let machine = Machine::windows_11(3);
    let results: (Result<Identity, Failure>, Result<Identity, Failure>) = tokio::join!(house.enroll(&machine), house.enroll(&machine));
    let (first, second) = (results.0.unwrap(), results.1.unwrap());
    assert_eq!(first.management.entity_id, second.management.entity_id);
    assert_eq!(house.devices().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cap_holds_for_two_devices_at_once() {
    let house = house_with(|config| config.windows.devices_per_user = 1).await;
    let (one, two) = (Machine::windows_11(1), Machine::windows_11(2));
    let both = tokio::join!(house.enroll(&one), house.enroll(&two));
    let refused = match both {
        (Ok(_), refused @ Err(_)) | (refused @ Err(_), Ok(_)) => refused,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(refused).1, Some(ErrorType::DeviceCapReached));
    assert_eq!(house.devices().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_authority_refuses_the_certificate() {
    let house = house().await;
    let name = authority::issuing(&house.server.app).await.unwrap().name.clone();
    authority::set_paused(&house.server.app, &name, true, "cli:test", "local").await.unwrap();
    assert_eq!(fault(house.enroll(&Machine::windows_11(1)).await).0, Code::CertificateRequest);
    assert!(house.refused("CRT0011").await);
    assert_eq!(house.devices().await, 0);
}
