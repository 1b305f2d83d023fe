//! Rows of authorities, certificates, revocation lists and OCSP answers, on both databases.

use std::time::Duration;

use muster::clock::Time;
use muster::domain::authority::{Kind, Record, Status};
use muster::domain::certificate::{Certificate, CertificateStatus, Grant, KeyAlgorithm, Purpose, RevocationReason};
use muster::domain::device::Platform;
use muster::ids::{AuthorityId, CertificateId, ProfileId};
use muster::store::certificates::{self, Search, Standing};
use muster::store::crls::{self, Crl};
use muster::store::ocsp_responses::{self, Answer};
use muster::store::{Error, Store, Tx, authorities, devices, users};

use crate::both_backends;
use crate::desired::{device, user};

pub fn authority() -> Record {
    Record {
        id: AuthorityId::new(),
        name: "issuing".into(),
        kind: Kind::Issuing,
        status: Status::Active,
        parent_id: None,
        key_algorithm: KeyAlgorithm::P256,
        certificate: vec![1],
        sealed_key: vec![2],
        crl_number: 0,
        crl_due_at: Time(1_000),
        not_before: Time(0),
        not_after: Time(1_000_000),
        created_at: Time(5),
        upper_chain: vec![vec![0x30, 1, 7], vec![0x30, 0]],
        display_name: "Issuing".into(),
        description: String::new(),
        updated_at: Time(5),
        version: 1,
    }
}

pub fn certificate(authority: &AuthorityId, serial: &str) -> Certificate {
    Certificate {
        id: CertificateId::new(),
        authority_id: authority.clone(),
        serial: serial.into(),
        sha1: format!("sha1 {serial}"),
        sha256: format!("sha256 {serial}"),
        subject: "CN=a".into(),
        status: CertificateStatus::Active,
        not_before: Time(0),
        not_after: Time(500_000),
        revoked_at: None,
        revocation_reason: None,
        superseded_by: None,
        grant: Grant::client(Purpose::Authentication, "a", 30),
        der: vec![3],
        created_at: Time(10),
    }
}

const GOOD: Standing = Standing { status: CertificateStatus::Active, revoked_at: None, reason: None };

fn answer(hash: &str) -> Answer {
    Answer { serial: "41".into(), hash: hash.into(), der: vec![9], this_update: Time(1), next_update: Time(99) }
}

/// How long one of two transactions stays open for the other one to get in its way.
const OPEN: Duration = Duration::from_millis(300);

/// A store with one certificate, of which "good" was signed, and two transactions: the first says when it has written and stays open until
/// the second is through, or clearly waits. Says what is kept in the end.
async fn raced<A, B>(store: Store, first: A, second: B) -> Option<Answer>
where
    A: Fn(&mut Tx<'_>, &Certificate) -> muster::store::Result<()> + Send + 'static,
    B: Fn(&mut Tx<'_>, &Certificate) -> muster::store::Result<()> + Send + 'static,
{
    let record = authority();
    let (leaf, id) = (certificate(&record.id, "41"), record.id.clone());
    let kept = leaf.clone();
    store
        .write(move |tx| {
            authorities::insert_authority(tx, &record)?;
            certificates::insert_certificate(tx, &kept, Time(10))
        })
        .await
        .unwrap();
    let (written, has_written) = std::sync::mpsc::channel();
    let (through, is_through) = std::sync::mpsc::channel::<()>();
    let (one, other) = (leaf.clone(), leaf);
    let early = store.clone();
    let early = tokio::spawn(async move {
        early
            .write(move |tx| {
                first(tx, &one)?;
                written.send(()).unwrap();
                let _ = is_through.recv_timeout(OPEN);
                Ok(())
            })
            .await
    });
    tokio::task::spawn_blocking(move || has_written.recv().unwrap()).await.unwrap();
    store.write(move |tx| second(tx, &other)).await.unwrap();
    let _ = through.send(());
    early.await.unwrap().unwrap();
    store.read(move |c| ocsp_responses::find_answer(c, &id, "41", "sha1")).await.unwrap()
}

fn revoke(tx: &mut Tx<'_>, leaf: &Certificate) -> muster::store::Result<()> {
    certificates::update_revoked(tx, &leaf.id, RevocationReason::KeyCompromise, Time(600))
}

fn keep(tx: &mut Tx<'_>, leaf: &Certificate) -> muster::store::Result<()> {
    ocsp_responses::claim_answer(tx, &leaf.authority_id, &answer("sha1"), GOOD).map(|_| ())
}

fn publish(tx: &mut Tx<'_>, leaf: &Certificate, number: i64) -> muster::store::Result<()> {
    let list = Crl { number, der: vec![9], this_update: Time(1), next_update: Time(2) };
    crls::upsert_crl(tx, &leaf.authority_id, &list).map(|_| ())
}

both_backends! {
    async fn an_older_list_never_takes_the_place_of_one_that_another_node_is_about_to_publish(store: Store) {
        raced(store.clone(), |tx, leaf| publish(tx, leaf, 2), |tx, leaf| publish(tx, leaf, 1)).await;
        let id = store.read(authorities::list_authorities).await.unwrap().remove(0).id;
        assert_eq!(store.read(move |c| crls::find_crl(c, &id)).await.unwrap().unwrap().number, 2);
    }

    async fn answers_about_ended_certificates_are_dropped(store: Store) {
        raced(store.clone(), keep, |_, _| Ok(())).await;
        let id = store.read(authorities::list_authorities).await.unwrap().remove(0).id;
        let purge = |before| {
            let id = id.clone();
            store.write(move |tx| ocsp_responses::purge_ended(tx, &id, Time(before), 10))
        };
        assert_eq!(purge(500_000).await.unwrap(), 0);
        assert_eq!(purge(500_001).await.unwrap(), 1);
    }

    async fn an_answer_is_not_kept_over_a_revocation_that_another_node_is_about_to_commit(store: Store) {
        assert_eq!(raced(store, revoke, keep).await, None);
    }

    async fn a_revocation_drops_the_answer_that_another_node_is_about_to_keep(store: Store) {
        assert_eq!(raced(store, keep, revoke).await, None);
    }

    async fn a_serial_number_is_there_once_per_authority(store: Store) {
        let record = authority();
        let (first, second) = (certificate(&record.id, "41"), Certificate { sha256: "other".into(), ..certificate(&record.id, "41") });
        let kept = first.clone();
        store.write(move |tx| {
            authorities::insert_authority(tx, &record)?;
            certificates::insert_certificate(tx, &first, Time(10))
        }).await.unwrap();
        let again = store.write(move |tx| certificates::insert_certificate(tx, &second, Time(10))).await;
        assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
        let id = kept.id.clone();
        assert_eq!(store.read(move |c| certificates::load_certificate(c, &id)).await.unwrap(), kept);
    }

    async fn revoking_makes_the_list_due_and_drops_what_ocsp_had_signed(store: Store) {
        let record = authority();
        let (leaf, id) = (certificate(&record.id, "41"), record.id.clone());
        let kept = leaf.clone();
        store.write(move |tx| {
            authorities::insert_authority(tx, &record)?;
            certificates::insert_certificate(tx, &leaf, Time(10))?;
            for hash in ["sha1", "sha1", "sha256"] {
                assert!(ocsp_responses::claim_answer(tx, &record.id, &answer(hash), GOOD)?);
            }
            Ok(())
        }).await.unwrap();
        let due = |at| store.read(move |c| authorities::list_crl_due(c, Time(at)));
        assert!(due(600).await.unwrap().is_empty());
        let leaf = kept.id.clone();
        store.write(move |tx| certificates::update_revoked(tx, &leaf, RevocationReason::Superseded, Time(600))).await.unwrap();
        assert_eq!(due(600).await.unwrap(), std::slice::from_ref(&id));
        let kept = { let id = id.clone(); store.read(move |c| ocsp_responses::find_answer(c, &id, "41", "sha1")).await.unwrap() };
        assert_eq!(kept, None);
        let revoked = { let id = id.clone(); store.read(move |c| certificates::list_revoked(c, &id, Time(500_000))).await.unwrap() };
        assert_eq!(revoked, [("41".to_owned(), Time(600), 4)]);
        let ended = { let id = id.clone(); store.read(move |c| certificates::list_revoked(c, &id, Time(500_001))).await.unwrap() };
        assert!(ended.is_empty());
        let unknown = store.write(|tx| certificates::update_revoked(tx, &CertificateId::new(), RevocationReason::Superseded, Time(1))).await;
        assert!(matches!(unknown, Err(Error::NotFound)), "{unknown:?}");
    }

    async fn a_list_number_is_taken_once_and_an_older_list_never_replaces_a_newer(store: Store) {
        let record = authority();
        let id = record.id.clone();
        store.write(move |tx| authorities::insert_authority(tx, &record)).await.unwrap();
        let claim = |due: Option<i64>| {
            let id = id.clone();
            store.write(move |tx| authorities::claim_crl_number(tx, &id, due.map(Time), Time(5_000)))
        };
        assert_eq!(claim(Some(999)).await.unwrap(), None);
        assert_eq!(claim(Some(1_000)).await.unwrap(), Some(1));
        assert_eq!(claim(Some(1_000)).await.unwrap(), None, "another node has it");
        assert_eq!(claim(None).await.unwrap(), Some(2));
        let publish = |number| {
            let id = id.clone();
            let list = Crl { number, der: vec![u8::try_from(number).unwrap()], this_update: Time(1), next_update: Time(2) };
            store.write(move |tx| crls::upsert_crl(tx, &id, &list))
        };
        assert!(publish(2).await.unwrap());
        assert!(!publish(1).await.unwrap());
        let found = { let id = id.clone(); store.read(move |c| crls::find_crl(c, &id)).await.unwrap() };
        assert_eq!(found.unwrap().number, 2);
        // A revocation between claim and publishing keeps the list due.
        let marked = id.clone();
        store.write(move |tx| {
            authorities::update_crl_due(tx, &marked, Time(3_000))?;
            authorities::claim_crl_published(tx, &marked, 2, Time(5_000), Time(90_000))
        }).await.unwrap();
        assert_eq!(store.read(|c| authorities::list_crl_due(c, Time(3_000))).await.unwrap(), std::slice::from_ref(&id));
        // So does one from a clock ahead, or after publishing has stalled beyond the moment of the next try.
        let marked = id.clone();
        store.write(move |tx| {
            let number = authorities::claim_crl_number(tx, &marked, None, Time(5_000))?.unwrap();
            authorities::update_crl_due(tx, &marked, Time(7_000))?;
            authorities::claim_crl_published(tx, &marked, number, Time(5_000), Time(90_000))
        }).await.unwrap();
        assert_eq!(store.read(|c| authorities::list_crl_due(c, Time(7_000))).await.unwrap(), [id]);
    }

    async fn search_matches_every_field_that_is_set(store: Store) {
        let record = authority();
        let id = record.id.clone();
        let leaves = [certificate(&id, "aa"), certificate(&id, "bb")];
        let (older, newer) = (leaves[0].id.clone(), leaves[1].id.clone());
        store.write(move |tx| {
            authorities::insert_authority(tx, &record)?;
            for leaf in &leaves {
                certificates::insert_certificate(tx, leaf, Time(10))?;
            }
            certificates::update_superseded(tx, &leaves[0].id, &leaves[1].id)
        }).await.unwrap();
        let found = |search: Search| store.read(move |c| certificates::list_certificates(c, &search, 10));
        assert_eq!(found(Search::default()).await.unwrap().len(), 2);
        assert_eq!(found(Search { serial: Some("BB".into()), ..Search::default() }).await.unwrap()[0].id, newer);
        assert_eq!(found(Search { after: Some(older.clone()), ..Search::default() }).await.unwrap().len(), 1);
        assert!(found(Search { status: Some(CertificateStatus::Revoked), ..Search::default() }).await.unwrap().is_empty());
        assert_eq!(store.read(|c| certificates::list_superseded(c, Time(11), Time(11), 10)).await.unwrap(), [older]);
        assert!(store.read(|c| certificates::list_superseded(c, Time(10), Time(11), 10)).await.unwrap().is_empty());
        store.write(move |tx| certificates::update_revoked(tx, &newer, RevocationReason::KeyCompromise, Time(11))).await.unwrap();
        assert!(store.read(|c| certificates::list_superseded(c, Time(11), Time(11), 10)).await.unwrap().is_empty(), "it was the better one");
    }

    async fn a_new_certificate_takes_the_place_of_those_of_the_same_device_user_and_payload(store: Store) {
        let record = authority();
        let user = user("ana@example.org");
        let devices = [device("PC-1", Platform::Windows, None), device("PC-2", Platform::Windows, None)];
        let (own, other, holder, profile) = (devices[0].id.clone(), devices[1].id.clone(), user.id.clone(), ProfileId::new());
        let given = |serial: &str, change: &dyn Fn(&mut Grant)| {
            let mut leaf = certificate(&record.id, serial);
            leaf.grant.device_id = Some(own.clone());
            leaf.grant.user_id = Some(holder.clone());
            leaf.grant.profile_id = Some(profile.clone());
            leaf.grant.payload = Some("one".into());
            change(&mut leaf.grant);
            leaf
        };
        let leaves = [
            given("01", &|_| ()),
            given("02", &|_| ()),
            given("03", &|grant| grant.device_id = Some(other.clone())),
            given("04", &|grant| grant.user_id = None),
            given("05", &|grant| grant.profile_id = Some(ProfileId::new())),
            given("06", &|grant| grant.payload = Some("two".into())),
            given("07", &|grant| grant.purpose = Purpose::MdmIdentity),
            Certificate { status: CertificateStatus::Revoked, ..given("08", &|_| ()) },
            Certificate { not_after: Time(11), ..given("09", &|_| ()) },
            given("0a", &|_| ()),
        ];
        let newest = leaves[9].clone();
        let superseded = store.write(move |tx| {
            users::insert_user(tx, &user, Time(1))?;
            for device in &devices {
                devices::insert_device(tx, device, Time(1))?;
            }
            authorities::insert_authority(tx, &record)?;
            for leaf in &leaves {
                certificates::insert_certificate(tx, leaf, Time(10))?;
            }
            certificates::update_superseded_alike(tx, &leaves[9], Time(11))
        }).await.unwrap();
        assert_eq!(superseded, 2);
        let all = store.read(|c| certificates::list_certificates(c, &Search::default(), 20)).await.unwrap();
        for leaf in all {
            let wanted = ["01", "02"].contains(&leaf.serial.as_str()).then(|| newest.id.clone());
            assert_eq!(leaf.superseded_by, wanted, "{}", leaf.serial);
        }
        let unknown = Certificate { grant: Grant { profile_id: None, ..newest.grant.clone() }, ..newest };
        assert_eq!(store.write(move |tx| certificates::update_superseded_alike(tx, &unknown, Time(11))).await.unwrap(), 0);
    }

    async fn what_another_node_is_about_to_pause_issues_nothing(store: Store) {
        let pause = |tx: &mut Tx<'_>, leaf: &Certificate| authorities::claim_status(tx, &leaf.authority_id, Status::Paused, Time(9)).map(|_| ());
        let (said, hears) = std::sync::mpsc::channel();
        let issue = move |tx: &mut Tx<'_>, leaf: &Certificate| {
            let next = Certificate { id: CertificateId::new(), serial: "42".into(), sha256: "next".into(), ..leaf.clone() };
            said.send(certificates::insert_certificate(tx, &next, Time(10)).map_err(|error| error.to_string())).unwrap();
            Ok(())
        };
        raced(store, pause, issue).await;
        let refused = hears.recv().unwrap().unwrap_err();
        assert!(refused.contains("CRT0011"), "{refused}");
    }

    async fn an_authority_is_paused_after_what_another_node_is_about_to_issue(store: Store) {
        let issue = |tx: &mut Tx<'_>, leaf: &Certificate| {
            let next = Certificate { id: CertificateId::new(), serial: "42".into(), sha256: "next".into(), ..leaf.clone() };
            certificates::insert_certificate(tx, &next, Time(10))
        };
        let (said, hears) = std::sync::mpsc::channel();
        let pause = move |tx: &mut Tx<'_>, leaf: &Certificate| {
            assert_eq!(authorities::claim_status(tx, &leaf.authority_id, Status::Paused, Time(9))?, Status::Active);
            said.send(certificates::find_certificate_by_sha256(tx.conn(), "next")?.is_some()).unwrap();
            Ok(())
        };
        raced(store, issue, pause).await;
        assert!(hears.recv().unwrap(), "the pause waits until the certificate is committed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_issue_wait_neither_for_each_other_nor_for_a_list_that_is_published() {
    let Some(store) = crate::support::db::postgres() else { return };
    let record = authority();
    let (id, leaf) = (record.id.clone(), |serial: &str, id: &AuthorityId| certificate(id, serial));
    store.write(move |tx| authorities::insert_authority(tx, &record)).await.unwrap();
    let (written, has_written) = std::sync::mpsc::channel();
    let (through, is_through) = std::sync::mpsc::channel::<()>();
    let (first, early) = (leaf("41", &id), store.clone());
    let early = tokio::spawn(async move {
        early
            .write(move |tx| {
                certificates::insert_certificate(tx, &first, Time(10))?;
                written.send(()).unwrap();
                // Were the others to wait for this transaction, they would never be through.
                is_through.recv_timeout(Duration::from_secs(60)).expect("the others are through");
                Ok(())
            })
            .await
    });
    tokio::task::spawn_blocking(move || has_written.recv().unwrap()).await.unwrap();
    let second = leaf("42", &id);
    store.write(move |tx| certificates::insert_certificate(tx, &second, Time(10))).await.unwrap();
    store.write(move |tx| authorities::update_crl_due(tx, &id, Time(1))).await.unwrap();
    through.send(()).unwrap();
    early.await.unwrap().unwrap();
}
