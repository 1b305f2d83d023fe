//! The CA core, judged from outside: `openssl` verifies chains, revocation lists and OCSP answers of a running server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use muster::clock::{DAY, MINUTE, Time};
use muster::domain::authority::Kind;
use muster::domain::certificate::{
    AttributeType, CertificateStatus, Grant, KeyAlgorithm, KeyRules, Purpose, Rdn, RevocationReason, San, usage,
};
use muster::service::Error;
use muster::service::pki::authority::{self, Authority, NewAuthority};
use muster::service::pki::keys::SigningKey;
use muster::service::pki::{crl, issue, revoke, service_key};
use muster::store::audit;
use muster::store::certificates::Search;
use muster::wire::crl::List;
use openssl::pkey::PKey;

use crate::support::server::Server;
use crate::support::tools;

mod external;
mod lint;
mod ocsp;
mod revoked;

const ACTOR: &str = "cli:test";

/// A server with its authorities, and a folder with their certificates for `openssl`.
struct House {
    server: Server,
    issuing: Arc<Authority>,
}

impl House {
    async fn new(algorithm: KeyAlgorithm) -> Self {
        Self::on(Server::tweaked(move |c| c.ca.key_algorithm = algorithm.to_string()).await).await
    }

    async fn on(server: Server) -> Self {
        authority::create_hierarchy(&server.app, ACTOR, "local").await.unwrap();
        let issuing = authority::issuing(&server.app).await.unwrap();
        let house = Self { server, issuing };
        house.write("root.pem", authority::pem(house.issuing.chain.last().unwrap()).as_bytes());
        house.write("issuing.pem", authority::pem(&house.issuing.certificate).as_bytes());
        house.write("both.pem", house.issuing.chain.iter().map(|der| authority::pem(der)).collect::<String>().as_bytes());
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.server.folder().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    async fn issue(&self, grant: &Grant) -> issue::Issued {
        let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
        issue::issue(&self.server.app, &self.issuing.id, grant, &spki, ACTOR, "local").await.unwrap()
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.server.client().get(format!("{}{path}", self.server.pki)).send().await.unwrap()
    }

    async fn post_ocsp(&self, body: Vec<u8>) -> Vec<u8> {
        let url = format!("{}/ocsp/issuing", self.server.pki);
        let response = self.server.client().post(url).body(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/ocsp-response");
        response.bytes().await.unwrap().to_vec()
    }

    /// Fetches both revocation lists into PEM files.
    async fn fetch_lists(&self) -> Vec<List> {
        let mut lists = Vec::new();
        for name in ["root", "issuing"] {
            let der = self.get(&format!("/crl/{name}.crl")).await.bytes().await.unwrap();
            lists.push(List::parse(&der).unwrap());
            self.write(&format!("{name}.crl.pem"), &openssl::x509::X509Crl::from_der(&der).unwrap().to_pem().unwrap());
        }
        lists
    }

    /// `openssl verify` with revocation lists of the whole chain.
    fn verify(&self, certificate: &[u8]) -> (bool, String) {
        self.write("leaf.pem", authority::pem(certificate).as_bytes());
        self.openssl(&[
            "verify",
            "-x509_strict",
            "-crl_check_all",
            "-CAfile",
            "root.pem",
            "-untrusted",
            "issuing.pem",
            "-CRLfile",
            "root.crl.pem",
            "-CRLfile",
            "issuing.crl.pem",
            "leaf.pem",
        ])
    }

    fn openssl(&self, arguments: &[&str]) -> (bool, String) {
        let done = Command::new("openssl").args(arguments).current_dir(self.server.folder()).output().unwrap();
        (done.status.success(), format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
    }

    /// `openssl ocsp` against the running responder; it talks to the server by itself, so off the test's threads.
    async fn ask(&self, certificate: &[u8], more: &[&str]) -> (bool, String) {
        self.write("leaf.pem", authority::pem(certificate).as_bytes());
        let url = format!("{}/ocsp/issuing", self.server.pki);
        let mut arguments: Vec<String> = ["ocsp", "-url", &url, "-CAfile", "both.pem"].map(str::to_owned).to_vec();
        arguments.extend(more.iter().map(|m| (*m).to_owned()));
        arguments.extend(["-issuer", "issuing.pem", "-cert", "leaf.pem"].map(str::to_owned));
        let folder = self.server.folder().to_owned();
        tokio::task::spawn_blocking(move || run(&arguments, &folder)).await.unwrap()
    }

    async fn revoke(&self, issued: &issue::Issued, reason: RevocationReason) {
        revoke::revoke(&self.server.app, &issued.certificate.id, reason, ACTOR, "local").await.unwrap();
    }
}

fn run(arguments: &[String], folder: &Path) -> (bool, String) {
    let done = Command::new("openssl").args(arguments).env("no_proxy", "*").current_dir(folder).output().unwrap();
    (done.status.success(), format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
}

fn device() -> Grant {
    Grant::client(Purpose::Authentication, "Device 7", 30)
}

fn code(error: &Error) -> &'static str {
    match error {
        Error::Refused(refusal) => refusal.code(),
        other => panic!("no refusal: {other}"),
    }
}

/// Row 42 of the reference; `-x509_strict` is OpenSSL's look at RFC 5280.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_verifies_chains_lists_and_answers_of_every_key_algorithm() {
    let Some(_) = tools::find("openssl", "openssl") else { return };
    for algorithm in KeyAlgorithm::ALL {
        let house = House::new(*algorithm).await;
        let mut grant = device();
        grant.sans = vec![San::Dns("pc.example.org".into()), San::Upn("ana@example.org".into()), San::Ip("192.0.2.1".into())];
        grant.sid = Some("S-1-5-21-1-2-3-1001".into());
        let leaf = house.issue(&grant).await;
        let lists = house.fetch_lists().await;
        assert!(lists.iter().all(|l| l.revoked.is_empty()));
        let (good, said) = house.verify(&leaf.der);
        assert!(good, "{algorithm}: {said}");
        let (good, said) = house.openssl(&["verify", "-purpose", "sslclient", "-CAfile", "both.pem", "leaf.pem"]);
        assert!(good, "{algorithm}: {said}");
        let (good, said) = house.ask(&leaf.der, &[]).await;
        assert!(good && said.contains("Response verify OK") && said.contains("leaf.pem: good"), "{algorithm}: {said}");
        let server = house.issuing.service_key(Purpose::Server, house.server.app.now()).unwrap();
        let (good, said) = house.verify(&server.certificate);
        assert!(good, "{algorithm}: {said}");
    }
}

/// Row 32 of the reference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_is_in_the_list_and_in_ocsp_at_once() {
    let Some(_) = tools::find("openssl", "openssl") else { return };
    let house = House::new(KeyAlgorithm::P256).await;
    let (leaf, other) = (house.issue(&device()).await, house.issue(&device()).await);
    let before = house.fetch_lists().await[1].number.clone();
    // Once asked without a nonce, the answer is kept; the revocation must drop it.
    for more in [&["-no_nonce"][..], &["-no_nonce", "-sha256"], &[], &["-sha256"]] {
        let (_, said) = house.ask(&leaf.der, more).await;
        assert!(said.contains("leaf.pem: good") && said.contains("Response verify OK"), "{more:?} {said}");
    }
    house.server.clock.advance(10 * MINUTE);
    house.revoke(&leaf, RevocationReason::KeyCompromise).await;
    assert_eq!(crl::due(&house.server.app).await.unwrap(), 1);
    assert_eq!(crl::due(&house.server.app).await.unwrap(), 0, "a list is published once");
    let list = house.fetch_lists().await.remove(1);
    assert_eq!(list.number.unwrap()[0], before.unwrap()[0] + 1);
    let entry = (hex::encode(&list.revoked[0].serial), list.revoked[0].reason, list.revoked[0].at);
    assert_eq!(entry, (leaf.certificate.serial.clone(), 1, house.server.app.now().seconds()));
    let told = run(&["crl", "-in", "issuing.crl.pem", "-CAfile", "both.pem", "-noout"].map(str::to_owned), house.server.folder());
    assert!(told.1.contains("verify OK"), "{}", told.1);
    for more in [&["-no_nonce"][..], &["-no_nonce", "-sha256"], &[]] {
        // `openssl` uses the machine's clock; the answers are ten minutes ahead.
        let more = [more, &["-validity_period", "900"]].concat();
        let (_, said) = house.ask(&leaf.der, &more).await;
        assert!(said.contains("leaf.pem: revoked") && said.contains("keyCompromise"), "{more:?} {said}");
        let (_, said) = house.ask(&other.der, &more).await;
        assert!(said.contains("leaf.pem: good"), "{more:?} {said}");
    }
    let again = revoke::revoke(&house.server.app, &leaf.certificate.id, RevocationReason::Superseded, ACTOR, "local").await;
    assert_eq!(code(&again.unwrap_err()), "CRT0019");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_on_hold_can_be_released() {
    let house = House::new(KeyAlgorithm::P256).await;
    let leaf = house.issue(&device()).await;
    let app = &house.server.app;
    let release = revoke::release(app, &leaf.certificate.id, ACTOR, "local").await;
    assert_eq!(code(&release.unwrap_err()), "CRT0018");
    house.revoke(&leaf, RevocationReason::CertificateHold).await;
    crl::due(app).await.unwrap();
    assert_eq!(house.fetch_lists().await[1].revoked[0].reason, 6);
    revoke::release(app, &leaf.certificate.id, ACTOR, "local").await.unwrap();
    crl::due(app).await.unwrap();
    assert!(house.fetch_lists().await[1].revoked.is_empty());
    house.revoke(&leaf, RevocationReason::CertificateHold).await;
    house.revoke(&leaf, RevocationReason::KeyCompromise).await;
    let found =
        revoke::search(app, Search { serial: Some(leaf.certificate.serial.to_uppercase()), ..Search::default() }, 10).await.unwrap();
    assert_eq!((found[0].status, found[0].revocation_reason), (CertificateStatus::Revoked, Some(RevocationReason::KeyCompromise)));
    let actions: Vec<_> = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap().into_iter().map(|row| row.action).collect();
    for action in ["authority.create", "certificate.issue", "certificate.hold", "certificate.release", "certificate.revoke", "crl.publish"]
    {
        assert!(actions.iter().any(|a| a == action), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_or_revoked_authority_issues_nothing_and_still_answers() {
    let Some(_) = tools::find("openssl", "openssl") else { return };
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    let leaf = house.issue(&device()).await;
    authority::set_paused(app, "issuing", true, ACTOR, "local").await.unwrap();
    assert_eq!(code(&authority::issuing(app).await.unwrap_err()), "CRT0011");
    let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
    let refused = issue::issue(app, &house.issuing.id, &device(), &spki, ACTOR, "local").await;
    assert_eq!(code(&refused.unwrap_err()), "CRT0011");
    let (_, said) = house.ask(&leaf.der, &[]).await;
    assert!(said.contains("leaf.pem: good"), "{said}");
    authority::set_paused(app, "issuing", false, ACTOR, "local").await.unwrap();
    house.issue(&device()).await;
    authority::revoke(app, "issuing", RevocationReason::CessationOfOperation, ACTOR, "local").await.unwrap();
    let refused = issue::issue(app, &house.issuing.id, &device(), &spki, ACTOR, "local").await;
    assert_eq!(code(&refused.unwrap_err()), "CRT0011");
    assert_eq!(code(&authority::set_paused(app, "issuing", false, ACTOR, "local").await.unwrap_err()), "CRT0011");
    let lists = house.fetch_lists().await;
    assert_eq!(lists[0].revoked.len(), 1);
    let (good, said) = house.verify(&leaf.der);
    assert!(!good && said.contains("certificate revoked"), "{said}");
    let (_, said) = house.ask(&leaf.der, &[]).await;
    assert!(said.contains("leaf.pem: good"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weak_and_foreign_keys_are_refused() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    let rsa = |bits, exponent| {
        let exponent = openssl::bn::BigNum::from_u32(exponent).unwrap();
        PKey::from_rsa(openssl::rsa::Rsa::generate_with_e(bits, &exponent).unwrap()).unwrap().public_key_to_der().unwrap()
    };
    let curve = |nid| {
        let group = openssl::ec::EcGroup::from_curve_name(nid).unwrap();
        PKey::from_ec_key(openssl::ec::EcKey::generate(&group).unwrap()).unwrap().public_key_to_der().unwrap()
    };
    use openssl::nid::Nid;
    let weak = [
        rsa(1024, 65537),
        rsa(2048, 3),
        curve(Nid::SECP521R1),
        curve(Nid::SECP256K1),
        curve(Nid::X9_62_PRIME192V1),
        PKey::generate_ed25519().unwrap().public_key_to_der().unwrap(),
        b"no key".to_vec(),
    ];
    for (at, spki) in weak.iter().enumerate() {
        let refused = issue::prepare(app, &house.issuing.id, &device(), spki).await;
        assert_eq!(code(&refused.unwrap_err()), "CRT0013", "{at}");
    }
    let mut grant = device();
    grant.key_rules = KeyRules { allowed: vec![KeyAlgorithm::Rsa2048], min_rsa_bits: 2048 };
    let refused = issue::prepare(app, &house.issuing.id, &grant, &curve(Nid::X9_62_PRIME256V1)).await;
    assert_eq!(code(&refused.unwrap_err()), "CRT0013");
    assert!(issue::prepare(app, &house.issuing.id, &grant, &rsa(2048, 65537)).await.is_ok());
    let none = revoke::search(app, Search { authority: Some(house.issuing.id.clone()), ..Search::default() }, 100).await.unwrap();
    assert!(none.iter().all(|c| c.grant.purpose.is_ours()), "nothing is stored of what was refused or only prepared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_a_certificate_that_makes_an_agent_of_the_authority() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
    for oid in usage::FORBIDDEN {
        let mut grant = device();
        grant.extended_key_usages = vec![(*oid).to_owned()];
        let refused = issue::prepare(app, &house.issuing.id, &grant, &spki).await;
        assert_eq!(code(&refused.unwrap_err()), "CRT0014", "{oid}");
    }
    for purpose in [Purpose::Authority, Purpose::OcspResponder, Purpose::Registration, Purpose::Server] {
        let grant = Grant { purpose, ..device() };
        assert!(issue::prepare(app, &house.issuing.id, &grant, &spki).await.is_err(), "{purpose}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_signs_authorities_and_nothing_for_others() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    let root = authority::by_name(app, "root").await.unwrap();
    let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
    for purpose in [Purpose::MdmIdentity, Purpose::Authentication, Purpose::Manual] {
        let grant = Grant { purpose, ..device() };
        let refused = issue::issue(app, &root.id, &grant, &spki, ACTOR, "local").await;
        assert_eq!(code(&refused.unwrap_err()), "CRT0044", "{purpose}");
    }
    let signed = revoke::search(app, Search { authority: Some(root.id.clone()), ..Search::default() }, 100).await.unwrap();
    let purposes: BTreeSet<_> = signed.iter().map(|certificate| certificate.grant.purpose.as_str()).collect();
    assert_eq!(purposes.into_iter().collect::<Vec<_>>(), ["authority", "ocsp-responder"]);
}

/// Row 30 of the reference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_end_with_their_authority_and_serials_are_unique() {
    let house = House::new(KeyAlgorithm::P256).await;
    let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
    let now = house.server.app.now();
    let mut tasks = Vec::new();
    for _ in 0..1000 {
        let (issuing, spki) = (Arc::clone(&house.issuing), spki.clone());
        tasks.push(tokio::task::spawn_blocking(move || issue::prepare_now(&issuing, &device(), &spki, now).unwrap().certificate.serial));
    }
    let mut serials = BTreeSet::new();
    for task in tasks {
        let serial = task.await.unwrap();
        assert_eq!(serial.len(), 32);
        assert!((0x40..0x80).contains(&hex::decode(&serial).unwrap()[0]));
        assert!(serials.insert(serial));
    }
    let near_the_end = house.issuing.not_after.plus(-10 * DAY);
    let nested = issue::prepare_now(&house.issuing, &device(), &spki, near_the_end).unwrap().certificate;
    assert_eq!(nested.not_after, house.issuing.not_after);
    let too_late = issue::prepare_now(&house.issuing, &device(), &spki, house.issuing.not_after.plus(-4 * DAY));
    assert_eq!(code(&too_late.unwrap_err()), "CRT0012");
}

/// Row 29 of the reference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_any_characters_come_out_as_they_went_in() {
    let house = House::new(KeyAlgorithm::P256).await;
    for value in ["a, OU=Admins", "a+b", "\"quoted\"", "back\\slash", " lead", "emoji 😀", "a_b@c", "#00"] {
        let mut grant = device();
        grant.subject = vec![Rdn::new(AttributeType::CommonName, value), Rdn::new(AttributeType::OrganizationalUnit, "Staff")];
        let leaf = house.issue(&grant).await;
        let certificate = openssl::x509::X509::from_der(&leaf.der).unwrap();
        let entries: Vec<String> = certificate.subject_name().entries().map(|e| e.data().to_string().unwrap()).collect();
        assert_eq!(entries, [value, "Staff"]);
    }
    let mut nameless = device();
    nameless.subject.clear();
    nameless.sans = vec![San::Dns("pc.example.org".into())];
    let leaf = house.issue(&nameless).await;
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf.der).unwrap();
    let san = parsed.extensions().iter().find(|e| e.oid.to_id_string() == "2.5.29.17").unwrap();
    assert!(san.critical, "without a subject the alternative name is critical");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_certificates_are_renewed_before_they_end_and_old_ones_stay() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    let before = authority::issuing(app).await.unwrap();
    service_key::renew(app).await.unwrap();
    assert_eq!(authority::issuing(app).await.unwrap().service_keys.len(), before.service_keys.len(), "nothing to do yet");
    house.server.clock.advance(21 * DAY);
    service_key::renew(app).await.unwrap();
    let after = authority::issuing(app).await.unwrap();
    let old = before.service_key(Purpose::OcspResponder, app.now()).unwrap();
    let new = after.service_key(Purpose::OcspResponder, app.now()).unwrap();
    assert_ne!(old.certificate, new.certificate);
    assert!(after.service_keys.iter().any(|k| k.certificate == old.certificate), "the old one stays until it ends");
    let ra = before.service_key(Purpose::Registration, app.now()).unwrap();
    assert_eq!(ra.certificate, after.service_key(Purpose::Registration, app.now()).unwrap().certificate);
    assert_eq!(crl::ending(app).await.unwrap(), ["root", "issuing"]);
    let list = house.get("/crl/issuing.crl").await;
    assert_eq!(list.status(), 200, "the last list is served even when it has ended");
    crl::due(app).await.unwrap();
    assert!(crl::ending(app).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_are_named_and_made_once() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    authority::create_hierarchy(app, ACTOR, "local").await.unwrap();
    assert_eq!(authority::list(app).await.unwrap().len(), 2);
    let new = |name: &str, parent: &str| NewAuthority {
        name: name.into(),
        common_name: "Second CA".into(),
        parent: Some(parent.into()),
        key_algorithm: KeyAlgorithm::P384,
        days: 100_000,
    };
    let bad = authority::create(app, &new("Bad Name", "root"), ACTOR, "local").await;
    assert_eq!(code(&bad.unwrap_err()), "CRT0024");
    let below_issuing = authority::create(app, &new("third", "issuing"), ACTOR, "local").await;
    assert_eq!(code(&below_issuing.unwrap_err()), "CRT0011");
    let taken = authority::create(app, &new("issuing", "root"), ACTOR, "local").await;
    assert_eq!(code(&taken.unwrap_err()), "CRT0048");
    let second = authority::create(app, &new("second", "root"), ACTOR, "local").await.unwrap();
    let root = authority::by_name(app, "root").await.unwrap();
    assert_eq!(second.not_after, root.not_after, "no authority outlives its parent");
    assert_eq!(authority::issuing(app).await.unwrap().name, "issuing", "the older one stays in use");
    assert!(Time(0) < second.not_before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_certificates_are_served_with_headers_for_caches() {
    let house = House::new(KeyAlgorithm::P256).await;
    let list = house.get("/crl/issuing.crl").await;
    assert_eq!(list.headers()["content-type"], "application/pkix-crl");
    assert_eq!(list.headers()["cache-control"], "public, max-age=3600");
    let tag = list.headers()["etag"].clone();
    let client = house.server.client();
    let same = client.get(format!("{}/crl/issuing.crl", house.server.pki)).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(same.status(), 304);
    let certificate = house.get("/aia/issuing.cer").await;
    assert_eq!(certificate.headers()["content-type"], "application/pkix-cert");
    assert_eq!(certificate.bytes().await.unwrap(), house.issuing.certificate);
    let chain = house.get("/aia/issuing.pem").await.bytes().await.unwrap();
    assert_eq!(openssl::x509::X509::stack_from_pem(&chain).unwrap().len(), 2);
    for path in ["/crl/nobody.crl", "/aia/nobody.cer", "/aia/nobody.pem"] {
        assert_eq!(house.get(path).await.status(), 404, "{path}");
    }
}

/// Row 34 of the reference: nobody renews the list. The last one is still served, and the alarm comes while it is still good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_nobody_renews_is_served_on_and_announced_before_it_ends() {
    let house = House::new(KeyAlgorithm::P256).await;
    let app = &house.server.app;
    let before = house.get("/crl/issuing.crl").await.bytes().await.unwrap();
    let next = Time::from_seconds(List::parse(&before).unwrap().next_update.unwrap());
    assert_eq!(crl::ending(app).await.unwrap(), Vec::<String>::new());
    house.server.clock.advance(next.since(app.now()) - 12 * 60 * MINUTE);
    let named = crl::ending(app).await.unwrap();
    assert!(named.contains(&"issuing".to_owned()) && app.now() < next, "{named:?}");
    house.server.clock.advance(DAY);
    let after = house.get("/crl/issuing.crl").await;
    assert_eq!(after.status(), 200, "an old list is better than none");
    assert_eq!(after.bytes().await.unwrap(), before);
}
