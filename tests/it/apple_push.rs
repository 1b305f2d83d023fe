//! Apple's push certificate, and wakes against a stand-in for Apple's push service.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::device::Platform;
use muster::ids::EnrollmentId;
use muster::secret::Secret;
use muster::service::apple::push_certificate::{self, Import, Status, Vendor};
use muster::service::outbox::Worker;
use muster::service::push::apns::{self, Address, ApnsWake};
use muster::service::push::due::WakeDue;
use muster::service::{Error, Result};
use muster::sim::apns::{Apns, Authority, Say};
use muster::store::apple::channels::{self, Channel};
use muster::store::{audit, devices, enrollments, outbox};
use muster::wire::plist::{self, Limits};
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::SslVersion;
use openssl::x509::{X509, X509Req};

use crate::desired::{device, enrollment};
use crate::support::ca::Ca;
use crate::support::server::Server;
use crate::support::tools;

pub const TOPIC: &str = "com.apple.mgmt.External.0f1e2d3c-1111-4222-8333-123456789abc";
pub const OTHER: &str = "com.apple.mgmt.External.ffffffff-1111-4222-8333-123456789abc";

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Refused(refusal) | Error::Invalid(refusal, _)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

fn rsa() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

pub fn pem(certificate: &X509) -> String {
    String::from_utf8(certificate.to_pem().unwrap()).unwrap()
}

fn key_pem(key: &PKey<Private>) -> Secret {
    Secret::new(key.private_key_to_pem_pkcs8().unwrap())
}

/// A server, and "Apple", who makes its push certificates.
pub struct Rig {
    pub server: Server,
    apple: Ca,
}

impl Rig {
    async fn new() -> Self {
        Self { server: Server::start().await, apple: Ca::new("Apple") }
    }

    fn now(&self) -> i64 {
        self.server.app.now().seconds()
    }

    async fn request(&self) -> Vec<u8> {
        push_certificate::request(&self.server.app, false, "cli:test", "local").await.unwrap()
    }

    /// A certificate of the request that waits, with that many days to live.
    pub async fn certificate(&self, topic: &str, days: i64) -> X509 {
        let key = X509Req::from_der(&self.request().await).unwrap().public_key().unwrap();
        self.apple.push_certificate(&key, topic, self.now() - 60, self.now() + days * 86_400)
    }

    pub async fn import(&self, certificate: &X509, key: Option<Secret>, replace_topic: bool) -> Result<Status> {
        let import = Import { certificate: pem(certificate), key, replace_topic, confirmed: false, account: None };
        push_certificate::import(&self.server.app, import, "cli:test", "local").await
    }

    async fn audited(&self, action: &'static str) -> usize {
        let rows = self.server.app.store.read(|c| audit::list(c, 0, 10_000)).await.unwrap();
        rows.iter().filter(|row| row.action == action).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_certificate_is_asked_for_taken_and_renewed_with_its_topic() {
    let rig = Rig::new().await;
    let app = &rig.server.app;
    assert_eq!(code(push_certificate::topic(app).await), "APN0001");
    assert!(push_certificate::status(app).await.unwrap().advice.unwrap().contains("push-csr"));

    let der = rig.request().await;
    let request = X509Req::from_der(&der).unwrap();
    let key = request.public_key().unwrap();
    assert!(request.verify(&key).unwrap());
    assert_eq!(key.rsa().unwrap().size(), 256);
    assert_eq!(rig.request().await, der, "a request on its way stays good");
    assert!(push_certificate::status(app).await.unwrap().advice.unwrap().contains("push-cert"));

    let first = rig.certificate(TOPIC, 365).await;
    let status = rig.import(&first, None, false).await.unwrap();
    assert_eq!((status.topic.as_deref(), status.days_left, status.advice), (Some(TOPIC), Some(364), None));
    assert_eq!(push_certificate::topic(app).await.unwrap(), TOPIC);

    // Renewed with a key of its own, and once more with the same key.
    let second = rig.certificate(TOPIC, 366).await;
    assert_ne!(second.public_key().unwrap().public_key_to_der().unwrap(), key.public_key_to_der().unwrap());
    assert_eq!(rig.import(&second, None, false).await.unwrap().days_left, Some(365));
    let third = rig.apple.push_certificate(&second.public_key().unwrap(), TOPIC, rig.now(), rig.now() + 367 * 86_400);
    assert_eq!(rig.import(&third, None, false).await.unwrap().days_left, Some(366));
    assert_eq!(rig.audited("apple.push_import").await, 3);

    let fresh = push_certificate::request(app, true, "cli:test", "local").await.unwrap();
    assert_ne!(push_certificate::request(app, true, "cli:test", "local").await.unwrap(), fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_with_another_topic_is_refused_unless_it_is_meant() {
    let rig = Rig::new().await;
    rig.import(&rig.certificate(TOPIC, 365).await, None, false).await.unwrap();
    let other = rig.certificate(OTHER, 365).await;
    assert_eq!(code(rig.import(&other, None, false).await), "APN0003");
    assert_eq!(push_certificate::topic(&rig.server.app).await.unwrap(), TOPIC);
    assert_eq!(rig.audited("apple.push_refuse").await, 1);
    // The request still waits: the right certificate may follow.
    assert_eq!(rig.import(&other, None, true).await.unwrap().topic.as_deref(), Some(OTHER));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_push_certificate_of_ours_is_refused() {
    let rig = Rig::new().await;
    let (now, foreign) = (rig.now(), rsa());
    let stranger = PKey::public_key_from_der(&foreign.public_key_to_der().unwrap()).unwrap();
    let own = X509Req::from_der(&rig.request().await).unwrap().public_key().unwrap();
    let year = now + 365 * 86_400;
    let of = |key, topic, from, to| rig.apple.push_certificate(key, topic, from, to);
    for (certificate, why) in [
        (of(&stranger, TOPIC, now, year), "another key"),
        (of(&own, "", now, year), "no user id"),
        (of(&own, "com.example.push", now, year), "another prefix"),
        (of(&own, TOPIC, now - 99, now - 1), "ended"),
        (of(&own, TOPIC, now + 2 * 86_400, year), "not valid yet"),
    ] {
        assert_eq!(code(rig.import(&certificate, None, false).await), "APN0002", "{why}");
    }
    let leaf = Ca::new("x").leaf("x", &[]);
    assert_eq!(code(rig.import(&leaf.certificate, Some(key_pem(&leaf.key)), false).await), "APN0002", "an EC key");
    let request = String::from_utf8(X509Req::from_der(&rig.request().await).unwrap().to_pem().unwrap()).unwrap();
    for (certificate, why) in [("no PEM".to_owned(), "no certificate is in it"), (request, "it is the request")] {
        let import = Import { certificate, key: None, replace_topic: false, confirmed: false, account: None };
        let refused = push_certificate::import(&rig.server.app, import, "cli:test", "local").await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
        assert_eq!(code(Err::<(), _>(refused)), "APN0002");
    }
    assert_eq!(code(push_certificate::topic(&rig.server.app).await), "APN0001");

    // One that was made elsewhere comes with its key; an older one of the same topic does not replace it.
    rig.import(&of(&stranger, TOPIC, now, year), Some(key_pem(&foreign)), false).await.unwrap();
    assert_eq!(code(rig.import(&of(&stranger, TOPIC, now, year - 86_400), None, false).await), "APN0002");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_signature_makes_the_file_for_the_portal() {
    let rig = Rig::new().await;
    let request = rig.request().await;
    let key = rsa();
    let public = PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap();
    let vendor = rig.apple.push_certificate(&public, "", rig.now(), rig.now() + 86_400);
    let chain = format!("{}{}", pem(&rig.apple.root), pem(&vendor));
    let sign = |key: Secret, chain: String| push_certificate::countersign(&rig.server.app, request.clone(), Vendor { key, chain });

    assert_eq!(code(sign(Secret::new(b"no key".to_vec()), chain.clone()).await), "APN0004");
    assert_eq!(code(sign(key_pem(&rsa()), chain.clone()).await), "APN0004", "the chain is another's");
    assert_eq!(code(sign(key_pem(&key), pem(&vendor)).await), "APN0004", "the root is missing");

    let file = sign(key_pem(&key), chain).await.unwrap();
    let list = plist::decode_dict(&STANDARD.decode(file).unwrap(), Limits::MESSAGE).unwrap();
    assert_eq!(STANDARD.decode(list.string("PushCertRequestCSR").unwrap()).unwrap(), request);
    let shown = list.string("PushCertCertificateChain").unwrap();
    assert_eq!(shown, format!("{}{}", pem(&vendor), pem(&rig.apple.root)), "from the vendor to the root");
    assert!(shown.lines().all(|line| line.len() <= 64));
    let Some(openssl) = tools::find("openssl", "openssl") else { return };
    let file = |name: &str, bytes: &[u8]| {
        let path = rig.server.folder().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let signature = file("signature", &STANDARD.decode(list.string("PushCertSignature").unwrap()).unwrap());
    let done = std::process::Command::new(openssl)
        .args(["dgst", "-sha256", "-verify"])
        .arg(file("vendor.pem", &public.public_key_to_pem().unwrap()))
        .arg("-signature")
        .arg(signature)
        .arg(file("request", &request))
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_announced_in_time_and_each_time_once() {
    let rig = Rig::new().await;
    let app = &rig.server.app;
    push_certificate::warn(app).await.unwrap();
    rig.import(&rig.certificate(TOPIC, 61).await, None, false).await.unwrap();
    let mut announced = Vec::new();
    for left in (-3..=60).rev() {
        rig.server.clock.advance(DAY);
        push_certificate::warn(app).await.unwrap();
        push_certificate::warn(app).await.unwrap();
        if rig.audited("apple.push_expiring").await > announced.len() {
            announced.push(left);
        }
    }
    assert_eq!(announced, [60, 30, 14, 7, 0]);
    assert!(push_certificate::status(app).await.unwrap().advice.unwrap().contains("ended"));
    assert_eq!(rig.audited("apple.push_expiring").await, 5);
}

/// A server with a push certificate, its worker, and the stand-in for Apple's service.
pub struct Pushing {
    pub rig: Rig,
    worker: Arc<Worker>,
    pub apns: Apns,
}

impl Pushing {
    pub async fn new() -> Self {
        Self::with(true, SslVersion::TLS1_3, None).await
    }

    /// `clients`: whom the service trusts, when it is not Apple.
    async fn with(http2: bool, tls: SslVersion, clients: Option<X509>) -> Self {
        let apple = Ca::new("Apple");
        let apns = Apns::with(&Authority::new().unwrap(), &clients.unwrap_or_else(|| apple.root.clone()), http2, tls).await.unwrap();
        let (address, root) = (apns.address, apns.root_pem.clone());
        let server = Server::tweaked(move |config| {
            let file = config.data_dir.join("apns-root.pem");
            std::fs::write(&file, root).unwrap();
            config.apple.apns.url = format!("https://{address}");
            config.apple.apns.root_file = Some(file);
        })
        .await;
        let rig = Rig { server, apple };
        rig.import(&rig.certificate(TOPIC, 365).await, None, false).await.unwrap();
        let worker = Arc::new(Worker::with(Arc::clone(&rig.server.app), vec![Box::new(ApnsWake::default()), Box::new(WakeDue)], || 7_999));
        Self { rig, worker, apns }
    }

    /// An enrolled Mac with the token `[n; 32]`.
    pub async fn enrolled(&self, n: u8) -> EnrollmentId {
        let app = &self.rig.server.app;
        let mac = device("Mac", Platform::MacOs, None);
        let now = app.now();
        let enrolled = enrollment(&mac, now);
        let id = enrolled.id.clone();
        let mut channel = Channel::new(id.clone(), "", TOPIC);
        channel.sealed_push = Some(Address::new(&[n; 32], &format!("MAGIC-{n}")).seal(&app.sealer()).unwrap());
        channel.token_updated_at = Some(now);
        app.store
            .write(move |tx| {
                devices::insert_device(tx, &mac, now)?;
                enrollments::insert_enrollment(tx, &enrolled)?;
                channels::insert_channel(tx, &channel)
            })
            .await
            .unwrap();
        id
    }

    pub async fn wake(&self, id: &EnrollmentId) {
        let (id, now) = (id.clone(), self.rig.server.app.now());
        self.rig.server.app.store.write(move |tx| apns::enqueue_wake(tx, &id, "", now)).await.unwrap();
    }

    pub async fn drain(&self) -> usize {
        self.worker.drain().await.unwrap()
    }

    pub async fn channel(&self, id: &EnrollmentId) -> Channel {
        let id = id.clone();
        self.rig.server.app.store.read(move |c| channels::find_channel(c, &id, "")).await.unwrap().unwrap()
    }

    async fn rows(&self, state: &'static str) -> Vec<String> {
        let rows = self.rig.server.app.store.read(move |c| outbox::list_rows(c, state, 0, 1000)).await.unwrap();
        rows.into_iter().map(|row| row.last_error.unwrap_or_default()).collect()
    }

    async fn alarm(&self) -> Option<String> {
        push_certificate::status(&self.rig.server.app).await.unwrap().alarm.map(|alarm| alarm.reason)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_carries_what_apple_asks_for_over_one_connection() {
    let pushing = Pushing::new().await;
    let macs = [pushing.enrolled(1).await, pushing.enrolled(0xab).await];
    pushing.wake(&macs[0]).await;
    assert_eq!(pushing.drain().await, 1);
    for _ in 0..3 {
        pushing.wake(&macs[1]).await;
    }
    assert_eq!(pushing.drain().await, 1, "what waits is put in once");
    pushing.wake(&macs[0]).await;
    assert_eq!(pushing.drain().await, 1);
    let shown = pushing.rig.server.app.store.read(muster::store::apple::push::find_certificate).await.unwrap().unwrap().der;
    let state = pushing.apns.state();
    assert_eq!((state.seen.len(), state.connections), (3, 1));
    let seen = &state.seen[1];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", format!("/3/device/{}", "ab".repeat(32)).as_str()));
    assert_eq!(seen.header("apns-topic"), TOPIC);
    assert_eq!(seen.header("apns-push-type"), "mdm");
    assert_eq!(seen.header("apns-priority"), "10");
    let expiration: i64 = seen.header("apns-expiration").parse().unwrap();
    assert_eq!(expiration, pushing.rig.now() + 168 * 3600);
    assert_eq!(seen.body, br#"{"mdm":"MAGIC-171"}"#);
    assert_eq!(seen.client, shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_ends_pushing_to_the_channel_and_nothing_else() {
    let pushing = Pushing::new().await;
    for (n, reason) in
        [(1, (410, "Unregistered")), (2, (410, "ExpiredToken")), (3, (400, "BadDeviceToken")), (4, (400, "DeviceTokenNotForTopic"))]
    {
        let mac = pushing.enrolled(n).await;
        pushing.apns.say([Say::reason(reason.0, reason.1)]);
        pushing.wake(&mac).await;
        assert_eq!(pushing.drain().await, 1, "{reason:?}");
        assert!(pushing.channel(&mac).await.push_dead_at.is_some(), "{reason:?}");
        pushing.wake(&mac).await;
        let before = pushing.apns.count();
        pushing.drain().await;
        assert_eq!(pushing.apns.count(), before, "a dead token is not pushed to");
        let key = mac.clone();
        let kept = pushing.rig.server.app.store.read(move |c| enrollments::load_enrollment(c, &key)).await.unwrap();
        assert_eq!(kept.ended_at, None, "a push never ends an enrolment");
    }
    assert_eq!(pushing.rig.audited("enrollment.channel_drop").await, 4);
    assert_eq!(pushing.alarm().await, None);
    // Those of another topic or environment are no fault of devices: somebody is told.
    let status = push_certificate::status(&pushing.rig.server.app).await.unwrap();
    assert_eq!(status.foreign_tokens, Some(2));
    assert!(status.advice.unwrap().contains("does not take the tokens of 2 channels"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_reported_after_it_died_lives() {
    let pushing = Pushing::new().await;
    let mac = pushing.enrolled(1).await;
    let before = pushing.rig.server.app.now().plus(-MINUTE).0;
    pushing.apns.say([Say::Answer(410, format!("{{\"reason\":\"Unregistered\",\"timestamp\":{before}}}"))]);
    pushing.wake(&mac).await;
    assert_eq!(pushing.drain().await, 1);
    assert_eq!(pushing.channel(&mac).await.push_dead_at, None);
    let after = pushing.rig.server.app.now().plus(MINUTE).0;
    pushing.apns.say([Say::Answer(410, format!("{{\"reason\":\"Unregistered\",\"timestamp\":{after}}}"))]);
    pushing.wake(&mac).await;
    pushing.drain().await;
    assert!(pushing.channel(&mac).await.push_dead_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_certificate_is_an_alarm_and_no_devices_fault() {
    let pushing = Pushing::new().await;
    let macs = [pushing.enrolled(1).await, pushing.enrolled(2).await];
    let refusals = [(403, "BadCertificate"), (403, "BadCertificateEnvironment"), (400, "BadTopic"), (400, "TopicDisallowed")];
    for (status, reason) in refusals {
        let before = pushing.apns.count();
        pushing.apns.say([Say::reason(status, reason)]);
        pushing.wake(&macs[0]).await;
        assert_eq!(pushing.drain().await, 1, "{reason}");
        assert_eq!(pushing.alarm().await, Some(format!("{status} {reason}")));
        assert!(push_certificate::status(&pushing.rig.server.app).await.unwrap().advice.unwrap().contains("refuses"));
        pushing.wake(&macs[1]).await;
        assert_eq!(pushing.drain().await, 0, "everybody waits");
        pushing.rig.server.clock.advance(HOUR);
        assert_eq!(pushing.drain().await, 2, "nothing is lost");
        assert_eq!(pushing.apns.count(), before + 3);
        assert_eq!(pushing.alarm().await, None, "the service takes the certificate again");
    }
    assert_eq!((pushing.rig.audited("apple.push_alarm").await, pushing.rig.audited("apple.push_calm").await), (4, 4));
    for mac in &macs {
        assert_eq!(pushing.channel(mac).await.push_dead_at, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_service_is_left_in_peace_and_a_busy_device_alone() {
    let pushing = Pushing::new().await;
    let macs = [pushing.enrolled(1).await, pushing.enrolled(2).await];
    for (status, reason) in [(500, "InternalServerError"), (503, "ServiceUnavailable"), (503, "Shutdown"), (429, "")] {
        pushing.apns.say([Say::reason(status, reason)]);
        pushing.wake(&macs[0]).await;
        assert_eq!(pushing.drain().await, 1, "{reason}");
        pushing.wake(&macs[1]).await;
        assert_eq!(pushing.drain().await, 0, "everybody waits after {status}");
        pushing.rig.server.clock.advance(HOUR);
        assert_eq!(pushing.drain().await, 2);
    }
    pushing.apns.say([Say::reason(429, "TooManyRequests")]);
    pushing.wake(&macs[0]).await;
    assert_eq!(pushing.drain().await, 1);
    pushing.wake(&macs[1]).await;
    assert_eq!(pushing.drain().await, 1, "another device does not wait");
    pushing.rig.server.clock.advance(HOUR);
    assert_eq!(pushing.drain().await, 1);
    assert_eq!(pushing.alarm().await, None);
    assert_eq!(pushing.rig.audited("enrollment.channel_drop").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_apple_ends_is_replaced() {
    let pushing = Pushing::new().await;
    let mac = pushing.enrolled(1).await;
    pushing.wake(&mac).await;
    assert_eq!(pushing.drain().await, 1);
    pushing.apns.say([Say::GoAway]);
    pushing.wake(&mac).await;
    pushing.drain().await;
    pushing.rig.server.clock.advance(HOUR);
    pushing.drain().await;
    let state = pushing.apns.state();
    assert_eq!(state.seen.iter().map(|seen| seen.connection).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_http2_nothing_that_is_answered_counts() {
    let pushing = Pushing::with(false, SslVersion::TLS1_3, None).await;
    let mac = pushing.enrolled(1).await;
    pushing.wake(&mac).await;
    assert_eq!(pushing.drain().await, 1);
    assert!(pushing.rows("queued").await[0].contains("in place of HTTP/2"), "{:?}", pushing.rows("queued").await);
    assert!(pushing.alarm().await.unwrap().contains("without HTTP/2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ends_the_handshake_at_our_certificate_is_an_alarm() {
    for (tls, wait, said) in [(SslVersion::TLS1_2, 0, "the handshake failed"), (SslVersion::TLS1_3, 366 * DAY, "has ended")] {
        let pushing = Pushing::with(true, tls, Some(Ca::new("Somebody else").root)).await;
        let mac = pushing.enrolled(1).await;
        pushing.rig.server.clock.advance(wait);
        pushing.wake(&mac).await;
        assert_eq!(pushing.drain().await, 1);
        let alarm = pushing.alarm().await;
        assert!(alarm.as_ref().is_some_and(|alarm| alarm.contains(said)), "{alarm:?} {:?}", pushing.rows("queued").await);
        assert_eq!(pushing.apns.count(), 0);
        assert_eq!(pushing.channel(&mac).await.push_dead_at, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_prove_its_name_hears_nothing() {
    let pushing = Pushing::new().await;
    let mac = pushing.enrolled(1).await;
    let file = pushing.rig.server.app.config.apple.apns.root_file.clone().unwrap();
    std::fs::write(file, pem(&Ca::new("Another root").root)).unwrap();
    pushing.wake(&mac).await;
    assert_eq!(pushing.drain().await, 1);
    assert_eq!((pushing.apns.count(), pushing.rows("queued").await.len()), (0, 1));
    assert_eq!(pushing.alarm().await, None, "our certificate is not to blame");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_used_with_the_next_wake() {
    let pushing = Pushing::new().await;
    let mac = pushing.enrolled(1).await;
    pushing.wake(&mac).await;
    pushing.drain().await;
    let renewed = pushing.rig.certificate(TOPIC, 366).await;
    pushing.rig.import(&renewed, None, false).await.unwrap();
    pushing.wake(&mac).await;
    assert_eq!(pushing.drain().await, 1);
    {
        let state = pushing.apns.state();
        assert_ne!(state.seen[0].client, state.seen[1].client);
        assert_eq!(state.seen[1].client, renewed.to_der().unwrap());
    }
    // A device of the old topic is not pushed to over the certificate of another, and not given up.
    let other = Import {
        certificate: pem(&pushing.rig.certificate(OTHER, 366).await),
        key: None,
        replace_topic: true,
        confirmed: true,
        account: None,
    };
    push_certificate::import(&pushing.rig.server.app, other, "cli:test", "local").await.unwrap();
    pushing.wake(&mac).await;
    assert_eq!((pushing.drain().await, pushing.apns.count()), (1, 2));
    assert_eq!(pushing.channel(&mac).await.push_dead_at, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_wrong_is_given_up() {
    let pushing = Pushing::new().await;
    let mac = pushing.enrolled(1).await;
    pushing.apns.say([Say::reason(413, "PayloadTooLarge")]);
    pushing.wake(&mac).await;
    assert_eq!(pushing.drain().await, 1);
    assert_eq!(pushing.rows("dead").await, ["413 PayloadTooLarge"]);
}
