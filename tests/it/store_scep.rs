//! SCEP challenges and transactions in the store.

use muster::clock::{MINUTE, Time};
use muster::domain::authority::{Kind, Record, Status};
use muster::domain::certificate::{Grant, KeyAlgorithm, Purpose};
use muster::domain::scep::{Challenge, REPLAY, State, Transaction};
use muster::ids::{AuthorityId, CertificateId, DeviceId, ProfileId};
use muster::store::{Error, Store, authorities, scep};

use crate::both_backends;

async fn authority(store: &Store) -> AuthorityId {
    let record = Record {
        id: AuthorityId::new(),
        name: "issuing".into(),
        kind: Kind::Issuing,
        status: Status::Active,
        parent_id: None,
        key_algorithm: KeyAlgorithm::P256,
        certificate: vec![1],
        sealed_key: vec![2],
        crl_number: 0,
        crl_due_at: Time(0),
        not_before: Time(0),
        not_after: Time(1),
        created_at: Time(0),
        upper_chain: Vec::new(),
        display_name: "Issuing".into(),
        description: String::new(),
        updated_at: Time(0),
        version: 1,
    };
    let id = record.id.clone();
    store.write(move |tx| authorities::insert_authority(tx, &record)).await.unwrap();
    id
}

fn challenge(authority: &AuthorityId, id: &str) -> Challenge {
    Challenge {
        id: id.into(),
        authority_id: authority.clone(),
        profile_id: Some(ProfileId::new()),
        enrollment_id: None,
        device_id: Some(DeviceId::new()),
        user_id: None,
        grant: Grant { payload: Some("p".into()), ..Grant::client(Purpose::Authentication, "PC", 30) },
        needs_approval: true,
        expires_at: Time(MINUTE),
        consumed_at: None,
    }
}

fn transaction(authority: &AuthorityId, name: &str, state: State, at: Time) -> Transaction {
    Transaction {
        authority_id: authority.clone(),
        transaction_id: name.into(),
        signer_hash: "s".into(),
        request_hash: "r".into(),
        challenge_id: None,
        state,
        request: vec![1, 2],
        grant: Grant::client(Purpose::Authentication, "PC", 30),
        certificate_id: None,
        created_at: at,
        decided_at: (state != State::Pending).then_some(at),
        decided_by: None,
        renews: Some(CertificateId::new()),
    }
}

both_backends! {
    async fn a_challenge_is_used_once_and_not_after_its_end(store: Store) {
        let authority = authority(&store).await;
        let (one, two) = (challenge(&authority, "1"), challenge(&authority, "2"));
        let (a, b) = (one.clone(), two);
        store.write(move |tx| { scep::insert_challenge(tx, &a, Time(1))?; scep::insert_challenge(tx, &b, Time(1)) }).await.unwrap();
        assert_eq!(store.read(|c| scep::find_challenge(c, "1")).await.unwrap(), Some(one));
        assert_eq!(store.read(|c| scep::find_challenge(c, "3")).await.unwrap(), None);
        assert!(store.write(|tx| scep::claim_challenge(tx, "1", Time(2))).await.unwrap());
        assert!(!store.write(|tx| scep::claim_challenge(tx, "1", Time(3))).await.unwrap());
        assert!(!store.write(|tx| scep::claim_challenge(tx, "2", Time(MINUTE))).await.unwrap());
        assert_eq!(store.read(|c| scep::find_challenge(c, "1")).await.unwrap().unwrap().consumed_at, Some(Time(2)));
    }

    async fn open_challenges_are_withdrawn_and_old_ones_removed(store: Store) {
        let authority = authority(&store).await;
        let (one, two) = (challenge(&authority, "1"), challenge(&authority, "2"));
        let (device, profile, other) = (one.device_id.clone().unwrap(), one.profile_id.clone().unwrap(), two.device_id.clone().unwrap());
        let used = Challenge { id: "3".into(), ..one.clone() };
        let sibling = Challenge { id: "4".into(), grant: Grant { payload: Some("q".into()), ..one.grant.clone() }, ..one.clone() };
        let waiting = Transaction { challenge_id: Some("3".into()), ..transaction(&authority, "w", State::Pending, Time(1)) };
        store.write(move |tx| {
            for challenge in [&one, &two, &used, &sibling] {
                scep::insert_challenge(tx, challenge, Time(1))?;
            }
            scep::claim_challenge(tx, "3", Time(1))?;
            scep::insert_transaction(tx, &waiting, false, Time(1))
        }).await.unwrap();
        let withdrawn = store.write(move |tx| scep::withdraw(tx, &device, Some((&profile, "p")), "cli:test", Time(2))).await.unwrap();
        assert_eq!(withdrawn, 2, "the open challenge and the request that waits");
        assert!(store.read(|c| scep::list_pending(c, 10)).await.unwrap().is_empty());
        let found = store.read(move |c| scep::find_transaction(c, &authority, "w")).await.unwrap().unwrap();
        assert_eq!((found.state, found.decided_by.as_deref()), (State::Refused, Some("cli:test")));
        assert!(store.read(|c| scep::find_challenge(c, "4")).await.unwrap().is_some(), "that of another payload stays");
        assert_eq!(store.write(move |tx| scep::withdraw(tx, &other, None, "cli:test", Time(2))).await.unwrap(), 1);
        assert_eq!(store.write(|tx| scep::purge(tx, Time(MINUTE), 100)).await.unwrap().rows, 1, "the request");
        assert_eq!(store.write(|tx| scep::purge(tx, Time(MINUTE + 1), 100)).await.unwrap().rows, 2, "the used challenge and the sibling's");
    }

    async fn a_transaction_keeps_its_name_while_it_lives_and_is_decided_once(store: Store) {
        let authority = authority(&store).await;
        let issued = transaction(&authority, "a", State::Issued, Time(1));
        let pending = transaction(&authority, "b", State::Pending, Time(1));
        let (i, p) = (issued.clone(), pending.clone());
        store.write(move |tx| { scep::insert_transaction(tx, &i, false, Time(1))?; scep::insert_transaction(tx, &p, false, Time(1)) }).await.unwrap();
        let again = issued.clone();
        let taken = store.write(move |tx| scep::insert_transaction(tx, &again, true, Time(2))).await;
        assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
        let later = transaction(&authority, "a", State::Issued, Time(1 + REPLAY));
        store.write(move |tx| scep::insert_transaction(tx, &later, true, Time(1 + REPLAY))).await.unwrap();
        let still = pending.clone();
        assert!(store.write(move |tx| scep::insert_transaction(tx, &still, true, Time(10 * REPLAY))).await.is_err());
        assert_eq!(store.read(|c| scep::list_pending(c, 10)).await.unwrap(), std::slice::from_ref(&pending));
        let other = Transaction { request_hash: "another".into(), ..pending.clone() };
        assert!(!store.write(move |tx| scep::claim_decision(tx, &other, None, "cli:root", Time(4))).await.unwrap(), "what was not looked at");
        let p = pending.clone();
        assert!(store.write(move |tx| scep::claim_decision(tx, &p, None, "cli:root", Time(5))).await.unwrap());
        assert!(!store.write(move |tx| scep::claim_decision(tx, &pending, None, "cli:root", Time(6))).await.unwrap());
        let found = store.read(move |c| scep::find_transaction(c, &authority, "b")).await.unwrap().unwrap();
        assert_eq!((found.state, found.decided_at, found.decided_by.as_deref()), (State::Refused, Some(Time(5)), Some("cli:root")));
    }
}
