//! Lines of certificates that took each other's place, in the store.

use muster::clock::Time;
use muster::domain::certificate::{Certificate, CertificateStatus, Grant, Purpose, RevocationReason, San};
use muster::domain::device::Platform;
use muster::ids::ProfileId;
use muster::store::{authorities, certificates, devices};

use crate::both_backends;
use crate::desired::device;
use crate::store_certificates::{authority, certificate};

both_backends! {
    async fn a_line_is_known_from_each_of_its_certificates(store: Store) {
        let record = authority();
        let mut leaves: Vec<Certificate> = ["01", "02", "03", "04"].map(|serial| certificate(&record.id, serial)).into();
        leaves.sort_by(|a, b| a.id.cmp(&b.id));
        let ids: Vec<_> = leaves.iter().map(|leaf| leaf.id.clone()).collect();
        let own = ids.clone();
        store.write(move |tx| {
            authorities::insert_authority(tx, &record)?;
            leaves.iter().try_for_each(|leaf| certificates::insert_certificate(tx, leaf, Time(10)))?;
            // The first one is renewed three times: two answers were lost.
            own[1..].iter().try_for_each(|newer| certificates::update_superseded(tx, &own[0], newer))?;
            // Said twice, it is the same.
            certificates::update_superseded(tx, &own[0], &own[3])
        }).await.unwrap();
        let lines = {
            let ids = ids.clone();
            store.read(move |c| {
                let mut lines = Vec::new();
                for id in &ids {
                    lines.push((certificates::list_predecessors(c, id, Time(11))?, certificates::list_successors(c, id, Time(11))?));
                }
                Ok(lines)
            }).await.unwrap()
        };
        for (at, (before, after)) in lines.into_iter().enumerate() {
            assert_eq!((before, after), (ids[..at].to_vec(), ids[at + 1..].to_vec()), "{at}");
        }
        let (first, third) = (ids[0].clone(), ids[2].clone());
        let barred = || { let first = first.clone(); store.read(move |c| certificates::is_barred(c, &first)) };
        assert!(!barred().await.unwrap());
        let hold = third.clone();
        store.write(move |tx| certificates::update_revoked(tx, &hold, RevocationReason::CertificateHold, Time(12))).await.unwrap();
        assert!(barred().await.unwrap());
        store.write(move |tx| certificates::update_released(tx, &third, Time(13))).await.unwrap();
        assert!(barred().await.unwrap(), "it was on hold");
    }

    async fn one_on_hold_is_superseded_too_and_released_for_the_rest_of_its_week_only(store: Store) {
        let record = authority();
        let pc = device("PC-1", Platform::Windows, None);
        let profile = ProfileId::new();
        let given = |serial: &str| {
            let mut leaf = certificate(&record.id, serial);
            (leaf.grant.device_id, leaf.grant.profile_id, leaf.grant.payload) =
                (Some(pc.id.clone()), Some(profile.clone()), Some("one".into()));
            leaf
        };
        let (held, newer) = (given("01"), given("02"));
        let (id, place, own) = (held.id.clone(), newer.grant.clone(), newer.clone());
        let is_held = |grant: &Grant| { let grant = grant.clone(); store.read(move |c| certificates::has_held(c, &grant, Time(11))) };
        let hold = id.clone();
        let device = pc.clone();
        store.write(move |tx| {
            authorities::insert_authority(tx, &record)?;
            devices::insert_device(tx, &device, Time(1))?;
            certificates::insert_certificate(tx, &held, Time(10))?;
            certificates::update_revoked(tx, &hold, RevocationReason::CertificateHold, Time(10))
        }).await.unwrap();
        assert!(is_held(&place).await.unwrap());
        assert!(!is_held(&Grant { payload: Some("two".into()), ..place.clone() }).await.unwrap());
        assert!(!is_held(&Grant { purpose: Purpose::Manual, ..place.clone() }).await.unwrap());
        assert!(!is_held(&Grant { profile_id: None, ..place.clone() }).await.unwrap());
        let superseded = store.write(move |tx| {
            certificates::insert_certificate(tx, &own, Time(10))?;
            certificates::update_superseded_alike(tx, &own, Time(11))
        }).await.unwrap();
        assert_eq!(superseded, 1);
        assert!(!is_held(&place).await.unwrap(), "the place has another holder");
        let due = || store.read(|c| certificates::list_superseded(c, Time(11), Time(11), 10));
        assert!(due().await.unwrap().is_empty(), "on hold");
        let release = id.clone();
        store.write(move |tx| certificates::update_released(tx, &release, Time(11))).await.unwrap();
        assert_eq!(due().await.unwrap(), [id]);
    }

    async fn where_there_is_no_device_certificates_are_alike_by_all_their_names(store: Store) {
        let record = authority();
        let named = |serial: &str, sans: &[San]| {
            let mut leaf = Certificate { subject: String::new(), ..certificate(&record.id, serial) };
            leaf.grant.subject.clear();
            leaf.grant.sans = sans.to_vec();
            leaf
        };
        let dns = |name: &str| San::Dns(name.into());
        let leaves = [
            named("01", &[dns("a.example"), dns("b.example")]),
            named("02", &[dns("B.example"), dns("a.example")]),
            named("03", &[dns("a.example")]),
            named("04", &[San::Upn("a.example".into()), dns("b.example")]),
            Certificate { subject: "O=x".into(), ..named("05", &[dns("a.example"), dns("b.example")]) },
        ];
        let (first, ids) = (leaves[0].clone(), leaves.iter().map(|leaf| leaf.id.clone()).collect::<Vec<_>>());
        store.write(move |tx| {
            authorities::insert_authority(tx, &record)?;
            leaves.iter().try_for_each(|leaf| certificates::insert_certificate(tx, leaf, Time(10)))
        }).await.unwrap();
        let alike = { let first = first.clone(); store.read(move |c| certificates::list_alike(c, &first, Time(11))).await.unwrap() };
        assert_eq!(alike, ids[..2]);
        let claimed = store.write(move |tx| certificates::claim_renewal(tx, &first.id, Time(11))).await.unwrap();
        assert_eq!(claimed.map(|claimed| claimed.status), Some(CertificateStatus::Active));
    }
}
