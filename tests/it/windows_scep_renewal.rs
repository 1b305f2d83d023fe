//! Certificates by SCEP that take the place of others: by a new challenge, and by themselves, with and without an administrator.

use muster::app::App;
use muster::clock::{DAY, MINUTE};
use muster::domain::assignment::{Mode, Target};
use muster::domain::certificate::{Certificate, CertificateStatus, Grant, Purpose, RevocationReason};
use muster::ids::{CertificateId, DeviceId, UserId};
use muster::service::pki::authorize::scep_challenge::{self, NewChallenge};
use muster::service::pki::{issue, revoke, scep};
use muster::service::{Error, profile};
use muster::sim::http::Client;
use muster::sim::scep::{Error as ScepError, Identity, Options, Outcome, Server, Waiting};
use muster::wire::pkcs10::{GeneralName, Wish};
use muster::wire::scep::FailInfo;
use openssl::x509::X509;

use crate::scep::{Answer, Device as Speaker, rsa};
use crate::support::windows::{House, by};
use crate::windows_scep::{certificates, draft, live, ordinary, refused};

async fn of(house: &House, id: &CertificateId) -> Certificate {
    certificates(house).await.into_iter().find(|certificate| certificate.id == *id).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_by_a_new_challenge_takes_the_place_of_the_one_before() {
    let house = House::new().await;
    let app = &house.server.app;
    house.assign(ordinary(&["one", "two"])).await;
    let (mut device, mut other) = (house.enroll(1).await, house.enroll(2).await);
    device.settle().await.unwrap();
    other.settle().await.unwrap();
    let before = live(&house).await;
    assert_eq!(before.len(), 4);
    house.server.clock.advance(300 * DAY);
    // The device asks and is given, and does not come back to say that it got them.
    device.session().await.unwrap();
    device.work().await;
    let after = live(&house).await;
    let id = after.last().unwrap().grant.device_id.clone();
    assert_eq!(after.len(), 6, "the old ones are good for a while, in case the answer was lost");
    for old in &before {
        let new = after.iter().find(|c| c.created_at > old.created_at && c.grant.payload == old.grant.payload).unwrap();
        let wanted = (old.grant.device_id == id).then(|| new.id.clone());
        assert_eq!(of(&house, &old.id).await.superseded_by, wanted, "{:?}", old.grant);
        assert_eq!(new.superseded_by, None);
    }
    house.server.clock.advance(7 * DAY);
    assert_eq!(revoke::revoke_superseded(app).await.unwrap(), 0);
    house.server.clock.advance(MINUTE);
    assert_eq!(revoke::revoke_superseded(app).await.unwrap(), 2);
    for old in before.iter().filter(|old| old.grant.device_id == id) {
        let old = of(&house, &old.id).await;
        assert_eq!((old.status, old.revocation_reason), (CertificateStatus::Revoked, Some(RevocationReason::Superseded)));
    }
    assert_eq!(live(&house).await.len(), 4);
}

/// A device with a certificate of a profile that has come to demand approval since, late enough for the certificate to renew itself.
async fn late(house: &House) -> (Identity, Certificate) {
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let held = device.certificates.values().next().unwrap().identity.clone();
    let old = live(house).await.remove(0);
    house.server.clock.advance(190 * DAY);
    let demanding = draft(&["one"], "needs-approval = true", "subject = \"CN={{DeviceId}}\"\ndays = 365");
    profile::apply(&house.server.app, demanding, &by()).await.unwrap();
    (held, old)
}

struct Asking {
    http: Client,
    server: Server,
}

impl Asking {
    async fn new(house: &House) -> Self {
        let mut http = Client::new(&house.roots(), None).unwrap();
        let url = format!("{}/scep/issuing", house.server.web);
        let server = Server::discover(&mut http, &url, Options::default()).await.unwrap();
        Self { http, server }
    }

    async fn renew(&mut self, device: &DeviceId, current: &Identity) -> Result<Outcome, ScepError> {
        let san = vec![GeneralName::Uri(format!("urn:muster:one:{device}"))];
        let wish = Wish { san, ..Wish::common_name(device.as_str()) };
        self.server.renew(&mut self.http, &wish, current).await
    }

    /// Asks for a renewal, which has to wait.
    async fn waits(&mut self, device: &DeviceId, current: &Identity) -> Waiting {
        match self.renew(device, current).await {
            Ok(Outcome::Pending(waiting)) => *waiting,
            other => panic!("{other:?}"),
        }
    }
}

/// The only request that waits.
async fn waiting(app: &App) -> String {
    let mut waiting = scep::list_pending(app, 10).await.unwrap();
    assert_eq!(waiting.len(), 1);
    waiting.remove(0).transaction_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_waits_when_the_profile_demands_approval() {
    let house = House::new().await;
    let app = &house.server.app;
    house.assign(ordinary(&["one"])).await;
    let (held, old) = late(&house).await;
    let id = house.device_ids().await.remove(0);
    let mut asking = Asking::new(&house).await;
    let asked = asking.waits(&id, &held).await;
    assert_eq!(live(&house).await, std::slice::from_ref(&old), "nothing is issued yet");
    let shown = scep::list_waiting(app, 10).await.unwrap().remove(0);
    assert_eq!((shown.renews.as_ref(), &shown.user.unwrap()[..]), (Some(&old.serial), crate::support::windows::UPN));
    assert!(shown.profile.is_some() && shown.device.is_some() && shown.challenged_by.is_none());
    let new = scep::approve(app, "issuing", &waiting(app).await, "cli:test", "local").await.unwrap();
    let Ok(Outcome::Issued(renewed)) = asking.server.poll(&mut asking.http, &asked).await else { panic!("waits on") };
    assert_eq!(renewed.certificate, of(&house, &new).await.der);
    assert_eq!(of(&house, &old.id).await.superseded_by, Some(new));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_waits_is_over_with_the_certificate_or_the_profile() {
    let house = House::new().await;
    let app = &house.server.app;
    let profile = house.assign(ordinary(&["one"])).await;
    let (held, old) = late(&house).await;
    let id = house.device_ids().await.remove(0);
    let mut asking = Asking::new(&house).await;
    asking.waits(&id, &held).await;
    let transaction = waiting(app).await;
    revoke::revoke(app, &old.id, RevocationReason::CertificateHold, "cli:test", "local").await.unwrap();
    match scep::approve(app, "issuing", &transaction, "cli:test", "local").await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.code(), "CRT0002"),
        other => panic!("{other:?}"),
    }
    assert_eq!(certificates(&house).await.len(), 1);
    revoke::release(app, &old.id, "cli:test", "local").await.unwrap();
    profile::unassign(app, &profile, Mode::Include, Target::AllDevices, &by()).await.unwrap();
    match scep::approve(app, "issuing", &transaction, "cli:test", "local").await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.code(), "SCP0004"),
        other => panic!("{other:?}"),
    }
    muster::service::device::give_up_device(app, &id, &by()).await.unwrap();
    assert!(scep::list_pending(app, 10).await.unwrap().is_empty(), "the end of the enrolment decides");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_that_wait_count_with_the_certificates_that_they_would_become() {
    let house = House::new().await;
    house.assign(ordinary(&["one"])).await;
    let (held, _) = late(&house).await;
    let id = house.device_ids().await.remove(0);
    let mut asking = Asking::new(&house).await;
    for _ in 1..house.server.app.config.scep.live_certificates {
        asking.waits(&id, &held).await;
    }
    let refused_now = asking.renew(&id, &held).await;
    assert!(matches!(refused_now, Err(ScepError::Refused(FailInfo::BadRequest))), "{refused_now:?}");
    assert_eq!(refused(&house).await, ("RenewalTooMany".into(), "SCP0003".into()));
}

/// Another certificate of the same kind.
async fn another(house: &House, old: &Certificate, days: u32) -> Identity {
    let app = &house.server.app;
    let key = rsa(2048);
    let grant = Grant { days, ..old.grant.clone() };
    let made = issue::issue(app, &old.authority_id, &grant, &key.public_key_to_der().unwrap(), "cli:test", "local").await.unwrap();
    Identity { certificate: made.der, key }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_of_two_certificates_of_a_kind_count_together_and_are_counted_again_when_they_are_approved() {
    let house = House::new().await;
    let app = &house.server.app;
    house.assign(ordinary(&["one"])).await;
    let (held, old) = late(&house).await;
    let id = house.device_ids().await.remove(0);
    let twin = another(&house, &old, 2).await;
    house.server.clock.advance(DAY + DAY / 2);
    let mut asking = Asking::new(&house).await;
    // Two are good, and five may be.
    asking.waits(&id, &held).await;
    asking.waits(&id, &held).await;
    asking.waits(&id, &twin).await;
    let refused_now = asking.renew(&id, &twin).await;
    assert!(matches!(refused_now, Err(ScepError::Refused(FailInfo::BadRequest))), "{refused_now:?}");
    assert_eq!(refused(&house).await, ("RenewalTooMany".into(), "SCP0003".into()));
    // Meanwhile one more comes to be by another way.
    another(&house, &old, 30).await;
    let mut said = Vec::new();
    for waiting in scep::list_pending(app, 10).await.unwrap() {
        said.push(match scep::approve(app, "issuing", &waiting.transaction_id, "cli:test", "local").await {
            Ok(_) => "approved",
            Err(Error::Refused(refusal)) => refusal.code(),
            Err(other) => panic!("{other:?}"),
        });
    }
    assert_eq!(said, ["approved", "approved", "SCP0003"]);
    assert_eq!(live(&house).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_has_ended_meanwhile_is_not_renewed() {
    let house = House::new().await;
    house.assign(ordinary(&["one"])).await;
    let (_, old) = late(&house).await;
    let id = house.device_ids().await.remove(0);
    let short = another(&house, &old, 2).await;
    house.server.clock.advance(DAY + DAY / 2);
    let mut asking = Asking::new(&house).await;
    asking.waits(&id, &short).await;
    house.server.clock.advance(DAY);
    match scep::approve(&house.server.app, "issuing", &waiting(&house.server.app).await, "cli:test", "local").await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.code(), "CRT0002"),
        other => panic!("{other:?}"),
    }
}

/// A challenge for a certificate of that device and user.
async fn challenge(app: &App, device: &DeviceId, user: Option<&UserId>) -> String {
    let new = NewChallenge {
        authority: scep::resolve(app, scep::DEFAULT).await.unwrap().id.clone(),
        grant: Grant::client(Purpose::Authentication, "PC", 30),
        device: Some(device.clone()),
        user: user.cloned(),
        enrollment: None,
        profile: None,
        needs_approval: false,
        expires: None,
    };
    let text = scep_challenge::mint(app, new, "test", "local").await.unwrap();
    String::from_utf8(text.expose().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_speaks_for_another_key_of_its_own_device_and_user_only() {
    let house = House::new().await;
    let app = &house.server.app;
    house.assign(ordinary(&["one"])).await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    house.enroll(2).await;
    let own = live(&house).await.remove(0).grant.device_id.unwrap();
    let other = house.device_ids().await.into_iter().find(|id| *id != own).unwrap();
    let held = device.certificates.values().next().unwrap().identity.clone();
    let mut speaker = Speaker { certificate: held.certificate, ..Speaker::with_key(app, held.key) };
    let key = rsa(2048);
    for (device, user, good) in [(&other, Some(&house.user), false), (&own, None, false), (&own, Some(&house.user), true)] {
        let wish = Wish { challenge: Some(challenge(app, device, user).await), ..Wish::common_name("PC") };
        let answer = speaker.ask_for_key(app, "default", &wish, &key).await;
        if good {
            assert!(X509::from_der(&answer.unwrap()).unwrap().public_key().unwrap().public_eq(&key));
        } else {
            assert_eq!(answer, Err(Answer::Failure(FailInfo::BadRequest)));
            assert_eq!(refused(&house).await.0, "RegisteredKeyMismatch");
        }
    }
}
