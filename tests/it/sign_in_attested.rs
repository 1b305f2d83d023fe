//! Passkeys for whose authenticators their maker vouches.

use muster::domain::passkey::{Enforcement, KeyRestrictions, Policy};
use muster::service::directory::By;
use muster::service::identity::{passkey, policy};
use muster::store::audit;

use crate::sign_in::{house, register, signed_in};
use crate::support::passkey::{Authenticator, Maker};

const MODEL: &str = "7fd635b3-2ef9-4542-8d9d-164f2c771efc";
const OTHER: &str = "08987058-cadc-4b81-b6e1-30de50dcbe96";

fn model(text: &str) -> [u8; 16] {
    *uuid::Uuid::try_parse(text).unwrap().as_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attested_passkey_of_a_model_that_is_allowed_is_registered_and_no_other() {
    let (server, ana) = house().await;
    let app = &server.app;
    let (maker, stranger) = (Maker::new(), Maker::new());
    let trusted = Policy {
        is_attestation_enforced: true,
        attestation_authorities: vec![maker.root_pem()],
        key_restrictions: KeyRestrictions { is_enforced: true, enforcement_type: Enforcement::Allow, aa_guids: vec![MODEL.into()] },
        ..Policy::default()
    };
    policy::update_passkey(app, trusted, &By::local("cli:test")).await.unwrap();
    let mut browser = signed_in(&server, &ana).await;
    let key = |aaguid: &str, voucher| Authenticator { aaguid: model(aaguid), voucher, ..Authenticator::new(&server.web) };
    for (what, aaguid, voucher) in [
        ("another model", OTHER, Some(maker.voucher(&model(OTHER)))),
        ("another model than its certificate says", MODEL, Some(maker.voucher(&model(OTHER)))),
        ("another maker", MODEL, Some(stranger.voucher(&model(MODEL)))),
        ("nobody vouches", MODEL, None),
    ] {
        let refused = register(&mut browser, &mut key(aaguid, voucher)).await;
        assert!(refused.status == 200 && refused.html.contains("(AUT0015)"), "{what}: {}", refused.html);
    }
    assert!(passkey::list(app, &ana).await.unwrap().is_empty());
    let rows = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    let reasons: std::collections::BTreeSet<_> = rows.iter().filter(|row| row.action == "passkey.refused").map(|row| &row.after).collect();
    assert_eq!(reasons.len(), 4, "each for its own reason: {reasons:?}");

    let added = register(&mut browser, &mut key(MODEL, Some(maker.voucher(&model(MODEL))))).await;
    assert_eq!((added.status, added.location.as_str()), (303, "/account/security?said=added"), "{}", added.html);
    let known = passkey::list(app, &ana).await.unwrap();
    assert_eq!((known.len(), known[0].attested, known[0].aa_guid.as_str()), (1, true, MODEL));
    assert_eq!(known[0].attestation_certificates.len(), 1);
}
