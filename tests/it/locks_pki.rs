//! On PostgreSQL: who gives, decides on and revokes certificates takes enrolments, requests, authorities and certificates in this order.

use diesel::connection::SimpleConnection as _;
use muster::domain::audit::Entry;
use muster::domain::certificate::{CertificateStatus, RevocationReason};
use muster::service::pki::authorize::scep_challenge::{self, NewChallenge};
use muster::service::pki::{authority, crl, revoke, scep};
use muster::store::{Conn, audit, certificates};
use muster::wire::pkcs10::Wish;
use muster::wire::scep::MessageType;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;

use crate::locks::{Other, database};
use crate::scep::{Answer, Device, grant, mint, start};
use crate::support::server::Options;
use crate::support::windows::House;
use crate::windows_scep::{live, ordinary};

async fn meanwhile(mut other: Other, then: impl FnOnce(&mut Other) + Send + 'static) {
    let other = tokio::task::spawn_blocking(move || {
        other.is_waited_for();
        then(&mut other);
        other
    });
    other.await.unwrap().commit();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_approves_takes_the_request_before_any_certificate() {
    let Some((url, store)) = database() else { return };
    let tweak = Box::new(|config: &mut muster::config::Config| config.scep.renewal_percent = 100);
    let server = start(Options { store: Some(store), tweak, ..Options::default() }).await;
    let app = server.app.clone();
    let device = Device::new(&app);
    let challenge = mint(&app, grant("PC"), true).await;
    assert_eq!(device.send(&app, &device.csr("PC", &challenge)).await, Err(Answer::Pending));
    // Somebody withdraws it, and will touch authority and certificates, too.
    let other = Other::begin(&url, "SELECT 1 FROM scep_transactions FOR UPDATE");
    let name = device.transaction.clone();
    let approving = tokio::spawn(async move { scep::approve(&app, "default", &name, "cli:test", "local").await });
    meanwhile(other, |other| other.takes("LOCK TABLE certificates IN SHARE ROW EXCLUSIVE MODE")).await;
    approving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_revokes_takes_the_authority_before_any_certificate() {
    let Some((url, store)) = database() else { return };
    let server = start(Options { store: Some(store), ..Options::default() }).await;
    let app = server.app.clone();
    let device = Device::new(&app);
    let challenge = mint(&app, grant("PC"), false).await;
    let der = device.send(&app, &device.csr("PC", &challenge)).await.unwrap();
    let sha256 = hex::encode(openssl::sha::sha256(&der));
    let row = app.store.read(move |c| certificates::find_certificate_by_sha256(c, &sha256)).await.unwrap().unwrap();
    // Somebody revokes another certificate of the authority, and this one next.
    let other = Other::begin(&url, "UPDATE authorities SET crl_due_at = crl_due_at");
    let then = format!("SELECT 1 FROM certificates WHERE id = '{}' FOR UPDATE", row.id);
    let (id, revoking) = (row.id.clone(), app.clone());
    let revoking = tokio::spawn(async move { revoke::revoke(&revoking, &id, RevocationReason::KeyCompromise, "cli:test", "local").await });
    meanwhile(other, move |other| other.takes(&then)).await;
    revoking.await.unwrap().unwrap();
    let row = app.store.read(move |c| certificates::load_certificate(c, &row.id)).await.unwrap();
    assert_eq!(row.status, CertificateStatus::Revoked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_enrolments_of_one_payload_come_one_after_the_other() {
    let Some((url, store)) = database() else { return };
    let house = House::with(Options { store: Some(store), ..Options::default() }).await;
    let app = house.server.app.clone();
    let profile = house.assign(ordinary(&["one"])).await;
    let mut pc = house.enroll(1).await;
    pc.settle().await.unwrap();
    let first = live(&house).await.remove(0);
    let id = first.grant.device_id.clone().unwrap();
    // Two challenges of the payload, and a request for each.
    let mut asking = Vec::new();
    for _ in 0..2 {
        let new = NewChallenge {
            authority: first.authority_id.clone(),
            grant: first.grant.clone(),
            device: Some(id.clone()),
            user: first.grant.user_id.clone(),
            enrollment: first.grant.enrollment_id.clone(),
            profile: Some(profile.clone()),
            needs_approval: false,
            expires: None,
        };
        let text = scep_challenge::mint(&app, new, "test", "local").await.unwrap();
        asking.push((Device::new(&app), String::from_utf8(text.expose().to_vec()).unwrap()));
    }
    // While somebody holds the enrolment, neither is decided on.
    let other = Other::begin(&url, "UPDATE enrollments SET work_at = work_at");
    let mut tasks = Vec::new();
    for (device, challenge) in asking {
        let (app, id) = (app.clone(), id.clone());
        tasks.push(tokio::spawn(async move {
            let san = vec![muster::wire::pkcs10::GeneralName::Uri(format!("urn:muster:one:{id}"))];
            let wish = Wish { san, challenge: Some(challenge), ..Wish::common_name(id.as_str()) };
            device.send(&app, &device.csr_of(&wish)).await
        }));
    }
    meanwhile(other, |other| other.takes("LOCK TABLE certificates IN SHARE ROW EXCLUSIVE MODE")).await;
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let good = live(&house).await;
    assert_eq!(good.len(), 3);
    assert_eq!(good.iter().filter(|certificate| certificate.superseded_by.is_none()).count(), 1, "one of them is the last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_read_after_its_number_is_taken_for_good() {
    let Some((url, store)) = database() else { return };
    let server = start(Options { store: Some(store), ..Options::default() }).await;
    let app = server.app.clone();
    let device = Device::new(&app);
    let challenge = mint(&app, grant("PC"), false).await;
    device.send(&app, &device.csr("PC", &challenge)).await.unwrap();
    let issuing = authority::issuing(&app).await.unwrap();
    let before = crl::find(&app, "issuing").await.unwrap().number;
    // Nobody may read the certificates for a while; whoever publishes waits, and holds up nobody who revokes.
    let other = Other::begin(&url, "LOCK TABLE certificates IN ACCESS EXCLUSIVE MODE");
    let (id, publishing) = (issuing.id.clone(), app.clone());
    let publishing = tokio::spawn(async move { crl::publish(&publishing, &id).await });
    meanwhile(other, |other| {
        other.takes("UPDATE certificates SET status = 'revoked', revoked_at = 1, revocation_reason = 1 WHERE purpose = 'authentication'");
        other.takes("UPDATE authorities SET crl_due_at = crl_due_at - 1");
    })
    .await;
    publishing.await.unwrap().unwrap();
    let list = crl::find(&app, "issuing").await.unwrap();
    assert_eq!(list.number, before + 1);
    let list = openssl::x509::X509Crl::from_der(&list.der).unwrap();
    assert_eq!(list.get_revoked().map_or(0, |revoked| revoked.len()), 1, "what was revoked before the look is in it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_revokes_is_not_kept_from_it_by_somebody_who_revokes_an_older_one() {
    let Some((url, store)) = database() else { return };
    let tweak = Box::new(|config: &mut muster::config::Config| config.scep.renewal_percent = 100);
    let server = start(Options { store: Some(store), tweak, ..Options::default() }).await;
    let app = server.app.clone();
    let device = Device::new(&app);
    let challenge = mint(&app, grant("PC"), false).await;
    let first = device.send(&app, &device.csr("PC", &challenge)).await.unwrap();
    let mut device = device.holding(first.clone(), MessageType::RenewalReq);
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let second = device.ask_for_key(&app, scep::DEFAULT, &Wish::common_name("PC"), &key).await.unwrap();
    let row = async |der: &[u8]| {
        let sha256 = hex::encode(openssl::sha::sha256(der));
        app.store.read(move |c| certificates::find_certificate_by_sha256(c, &sha256)).await.unwrap().unwrap()
    };
    let (first, id) = (row(&first).await, row(&second).await.id);
    // The weekly look at what was replaced is just revoking the first one.
    let sql = format!("UPDATE certificates SET status = 'revoked', revoked_at = 1, revocation_reason = 4 WHERE id = '{}'", first.id);
    let other = Other::begin(&url, &sql);
    let (revoking, of) = (app.clone(), id.clone());
    let revoking = tokio::spawn(async move { revoke::revoke(&revoking, &of, RevocationReason::KeyCompromise, "cli:test", "local").await });
    meanwhile(other, |_| ()).await;
    revoking.await.unwrap().unwrap();
    assert_eq!(row(&second).await.status, CertificateStatus::Revoked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_of_the_audit_log_is_taken_last_whenever_a_row_is_appended() {
    let Some((url, store)) = database() else { return };
    let server = start(Options { store: Some(store), ..Options::default() }).await;
    let app = server.app.clone();
    let other = Other::begin(&url, "UPDATE authorities SET crl_due_at = crl_due_at");
    let writing = tokio::spawn(async move {
        let now = app.now();
        let entry = Entry::new("cli:test", "test.append", "test:1", "local");
        let done = app.store.write(move |tx| {
            audit::append(tx, &entry, now)?;
            match tx.conn() {
                Conn::Postgres(c) => Ok(c.batch_execute("SELECT 1 FROM authorities FOR UPDATE")?),
                Conn::Sqlite(_) => unreachable!(),
            }
        });
        done.await
    });
    meanwhile(other, |other| other.takes("UPDATE audit_head SET seq = seq")).await;
    writing.await.unwrap().unwrap();
    let rows = server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    assert!(rows.iter().any(|row| row.action == "test.append"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_renews_waits_for_somebody_who_puts_the_newer_one_on_hold_and_is_refused() {
    let Some((url, store)) = database() else { return };
    let tweak = Box::new(|config: &mut muster::config::Config| config.scep.renewal_percent = 100);
    let server = start(Options { store: Some(store), tweak, ..Options::default() }).await;
    let app = server.app.clone();
    let device = Device::new(&app);
    let challenge = mint(&app, grant("PC"), false).await;
    let first = device.send(&app, &device.csr("PC", &challenge)).await.unwrap();
    let mut device = device.holding(first, MessageType::RenewalReq);
    let key = || PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let second = device.ask_for_key(&app, scep::DEFAULT, &Wish::common_name("PC"), &key()).await.unwrap();
    let sha256 = hex::encode(openssl::sha::sha256(&second));
    let sql = format!(
        "UPDATE certificates SET status = 'held', revoked_at = 1, revocation_reason = 6, last_held_at = 1 WHERE sha256 = '{sha256}'"
    );
    let other = Other::begin(&url, &sql);
    let again = key();
    let asking = tokio::spawn(async move { device.ask_for_key(&app, scep::DEFAULT, &Wish::common_name("PC"), &again).await.map(drop) });
    meanwhile(other, |_| ()).await;
    assert!(matches!(asking.await.unwrap(), Err(Answer::Failure(_))));
    assert_eq!(crate::scep::reason(&server.app).await, "CertificateHeld");
}
