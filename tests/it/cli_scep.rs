//! `muster ca scep`: challenges for those whom no profile gives one, and requests that wait for an administrator.

use muster::cli::Order;
use muster::clock::{Clock as _, SystemClock};
use muster::config::Config;
use serde_json::{Value, json as value};

use crate::cli::{json, muster, refused, run};
use crate::cli_orders::{column, made};

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_is_made_for_one_certificate_and_what_is_wrong_is_named() {
    use crate::scep::{Device, issued, start};
    use muster::wire::pkcs10::{GeneralName, Wish};
    let server = start(crate::support::server::Options::default()).await;
    let app = &server.app;
    let challenge = async |more: Value| {
        let mut fields = value!({ "subject": "CN=PC 1", "dns": ["pc1.example.org"], "email": [], "upn": [], "uri": [], "ip": [], "eku": [],
            "days": 30, "sid": false, "template": null, "user": null, "device": null, "authority": null, "minutes": 10, "needs_approval": false });
        for (name, field) in more.as_object().unwrap() {
            fields[name] = field.clone();
        }
        let order: Order = serde_json::from_value(value!({ "Ca": { "Scep": { "Challenge": fields } } })).unwrap();
        order.run(app, "cli:test").await
    };
    let made = challenge(value!({})).await.unwrap();
    let text = made["challenge"].as_str().unwrap().to_owned();
    assert!(made["url"].as_str().unwrap().ends_with("/scep/issuing"), "{made}");
    let device = Device::new(app);
    let san = vec![GeneralName::Dns("pc1.example.org".into())];
    let wish = Wish { san, challenge: Some(text.clone()), ..Wish::common_name("PC 1") };
    device.send(app, &device.csr_of(&wish)).await.unwrap();
    let again = Device::new(app);
    assert!(again.send(app, &again.csr_of(&wish)).await.is_err(), "once");
    let over = challenge(value!({})).await.unwrap()["challenge"].as_str().unwrap().to_owned();
    server.clock.advance(11 * muster::clock::MINUTE);
    assert!(again.send(app, &again.csr_of(&Wish { challenge: Some(over), ..wish.clone() })).await.is_err(), "ten minutes");
    let rows = app.store.read(|c| muster::store::audit::list(c, 0, 10_000)).await.unwrap();
    let said: Vec<_> = rows.iter().filter(|row| row.action == "scep.challenge").collect();
    assert!(said.len() == 2 && said[0].after.as_deref().unwrap().contains("pc1.example.org"));
    assert!(rows.iter().all(|row| !format!("{row:?}").contains(&text)), "never the challenge itself");
    assert_eq!(issued(app).await, 0, "those of an administrator are manual");
    for (more, code, named) in [
        (value!({ "days": 4 }), "CRT0020", "days"),
        (value!({ "subject": "CN={{ShoeSize}}" }), "CRT0023", "ShoeSize"),
        (value!({ "eku": ["abc"] }), "CRT0046", "abc"),
        (value!({ "dns": ["a b"] }), "CRT0015", "dns"),
    ] {
        let refused = challenge(more).await.unwrap_err().to_string();
        assert!(refused.contains(code) && refused.contains(named), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_administrator_renews_as_its_challenge_says() {
    use crate::scep::{Answer, Device, start};
    use muster::service::pki::scep;
    use muster::wire::pkcs10::Wish;
    use muster::wire::scep::MessageType;
    let tweak = Box::new(|config: &mut Config| config.scep.renewal_percent = 100);
    let server = start(crate::support::server::Options { tweak, ..Default::default() }).await;
    let app = &server.app;
    let key = || openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let order = async |command: Value| {
        let order: Order = serde_json::from_value(value!({ "Ca": { "Scep": command } })).unwrap();
        order.run(app, "cli:test").await.unwrap()
    };
    for (renewable, needs_approval) in [(false, false), (true, false), (true, true)] {
        let fields = value!({ "subject": "CN=PC 1", "dns": [], "email": [], "upn": [], "uri": [], "ip": [], "eku": [], "days": 30, "sid": false,
            "template": null, "user": null, "device": null, "authority": null, "minutes": 10, "needs_approval": needs_approval,
            "renewable": renewable });
        let made = order(value!({ "Challenge": fields })).await;
        let wish = Wish { challenge: Some(made["challenge"].as_str().unwrap().into()), ..Wish::common_name("PC 1") };
        let device = Device::new(app);
        let mut answer = device.send(app, &device.csr_of(&wish)).await;
        if needs_approval {
            assert_eq!(answer, Err(Answer::Pending));
            order(value!({ "Approve": { "transaction": device.transaction, "authority": null } })).await;
            answer = device.send(app, &device.csr_of(&wish)).await;
        }
        let mut device = device.holding(answer.unwrap(), MessageType::RenewalReq);
        let renewed = device.ask_for_key(app, scep::DEFAULT, &Wish::common_name("PC 1"), &key()).await;
        match (renewable, needs_approval) {
            (false, _) => assert!(matches!(renewed, Err(Answer::Failure(_))), "{renewed:?}"),
            (true, false) => assert!(renewed.is_ok(), "{renewed:?}"),
            (true, true) => assert_eq!(renewed, Err(Answer::Pending)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_scep_requests_are_decided() {
    use crate::scep::{Answer, Device, grant, mint, start};
    let server = start(crate::support::server::Options::default()).await;
    let app = &server.app;
    let order = async |command: Value| {
        let order: Order = serde_json::from_value(value!({ "Ca": { "Scep": command } })).unwrap();
        order.run(app, "cli:test").await
    };
    assert_eq!(order(value!({ "Pending": { "limit": 10 } })).await.unwrap(), value!([]));
    for (decision, done) in [("Approve", "certificate"), ("Refuse", "refused")] {
        let device = Device::new(app);
        let challenge = mint(app, grant("PC"), true).await;
        assert_eq!(device.send(app, &device.csr("PC", &challenge)).await, Err(Answer::Pending));
        let pending = order(value!({ "Pending": { "limit": 10 } })).await.unwrap();
        assert_eq!(column(&pending, "transaction"), [device.transaction.as_str()]);
        assert_eq!(column(&pending, "authority"), ["issuing"]);
        let which = value!({ decision: { "transaction": device.transaction, "authority": null } });
        assert!(!order(which.clone()).await.unwrap()[done].is_null());
        let again = order(which).await.unwrap_err().to_string();
        let sought = |id: &str| format!("not found: SCEP request that waits \"{id}\"; those that there are: muster ca scep pending");
        assert_eq!(again, sought(&device.transaction));
        let of = async |authority: &str| {
            order(value!({ decision: { "transaction": "ab", "authority": authority } })).await.unwrap_err().to_string()
        };
        assert_eq!(of("issuing").await, sought("ab"));
        assert!(of("nowhere").await.contains("authority \"nowhere\"; those that there are: muster ca list"));
    }
}

#[test]
fn who_decides_on_a_request_sees_all_of_it() {
    let folder = made();
    let path = folder.path();
    let serving = crate::cli::serve(path);
    let roots = run(path, &["ca", "export", "root"]).stdout;
    let ask = |number: u32| {
        let names = ["--dns", &format!("printer{number}.print.example.org"), "--upn", "ana@example.org", "--needs-approval"];
        let subject = format!("CN=printer {number}");
        let made = json(path, &[&["ca", "scep", "challenge", "--subject", subject.as_str()], &names[..]].concat());
        let (url, challenge) = (made["url"].as_str().unwrap().to_owned(), made["challenge"].as_str().unwrap().to_owned());
        let roots = openssl::x509::X509::stack_from_pem(&roots).unwrap();
        let san = vec![
            muster::wire::pkcs10::GeneralName::Dns(format!("printer{number}.print.example.org")),
            muster::wire::pkcs10::GeneralName::Upn("ana@example.org".into()),
        ];
        let wish = muster::wire::pkcs10::Wish {
            san,
            challenge: Some(challenge),
            ..muster::wire::pkcs10::Wish::common_name(&format!("printer {number}"))
        };
        tokio::runtime::Runtime::new().unwrap().block_on(async move {
            let mut http = muster::sim::http::Client::new(&roots, None).unwrap();
            let server = muster::sim::scep::Server::discover(&mut http, &url, muster::sim::scep::Options::default()).await.unwrap();
            let outcome = server.enroll(&mut http, &wish, SystemClock.now()).await.unwrap();
            assert!(matches!(outcome, muster::sim::scep::Outcome::Pending(_)));
        });
    };
    ask(1);
    ask(2);
    let shown = muster(path).args(["ca", "scep", "pending"]).env("COLUMNS", "80").output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for told in ["printer1.print.example.org", "printer2.print.example.org", "CN=printer 1", "upn:ana@example.org", "challenged by"] {
        assert!(shown.contains(told), "{shown}");
    }
    let whole = column(&json(path, &["ca", "scep", "pending"]), "transaction");
    assert!(whole.iter().all(|id| shown.contains(id.as_str())), "{shown}");
    // Clients choose these ids: nothing but the whole one names a request.
    assert!(refused(path, &["ca", "scep", "approve", &whole[0][..12]]).contains("muster ca scep pending"));
    assert_eq!(json(path, &["ca", "scep", "approve", &whole[0]])["transaction"], whole[0].as_str());
    assert_eq!(json(path, &["ca", "scep", "refuse", &whole[1]])["transaction"], whole[1].as_str());
    assert!(refused(path, &["ca", "scep", "approve", &whole[0]]).contains("muster ca scep pending"), "it is decided");
    drop(serving);
}
