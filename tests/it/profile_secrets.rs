//! Secrets in profiles: sealed in the database and its copies, hidden from those who do not ask for them, and audited for those who do.

use muster::domain::device::Platform;
use muster::domain::profile::Kind;
use muster::service::backup;
use muster::service::directory::By;
use muster::service::profile::{self, Draft};
use muster::service::{Error, reseal};
use muster::store::{audit, sealed};
use serde_json::json;

use crate::support::server::Server;

const PASSWORD: &str = "correct horse battery staple 4711";

fn wifi() -> Draft {
    let payload =
        json!({ "type": "com.apple.wifi.managed", "name": "net", "SSID_STR": "Office", "EncryptionType": "WPA2", "Password": PASSWORD });
    let elsewhere = format!(
        r#"<plist version="1.0"><dict><key>PayloadType</key><string>Configuration</string><key>PayloadVersion</key><integer>1</integer>
        <key>PayloadIdentifier</key><string>x</string><key>PayloadUUID</key><string>X</string><key>PayloadContent</key><array><dict>
        <key>PayloadType</key><string>com.apple.vpn.managed</string><key>PayloadVersion</key><integer>1</integer><key>PayloadIdentifier</key>
        <string>x.y</string><key>PayloadUUID</key><string>Y</string><key>SharedSecret</key><string>{PASSWORD}</string></dict></array></dict></plist>"#
    );
    let uploaded = json!({ "type": "mobileconfig", "name": "vpn", "content": elsewhere });
    Draft {
        display_name: "Net".into(),
        kind: Kind::Configuration,
        platform: Platform::MacOs,
        document: serde_json::from_value(json!({ "description": "For the office", "payloads": [payload, uploaded] })).unwrap(),
    }
}

fn holds(folder: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file()).any(|entry| {
        let bytes = std::fs::read(entry.path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secrets_of_a_profile_are_in_no_file_of_the_database_nor_in_its_copy_and_move_to_a_new_master_key() {
    let server = Server::start().await;
    let (app, by) = (&server.app, By::local("cli:ana"));
    app.sealer().write(&app.config.master_key_path()).unwrap();
    let id = profile::apply(app, wifi(), &by).await.unwrap().profile.id;
    backup::back_up(app, &server.folder().join("copy.db"), "cli:ana").await.unwrap();
    assert!(holds(server.folder(), "Net"), "the files are those of the database");
    assert!(!holds(server.folder(), PASSWORD));
    // A new version as well as the old one move to the new key.
    let mut next = wifi();
    next.document.description = "Everywhere".into();
    profile::apply(app, next, &by).await.unwrap();
    let column = *sealed::COLUMNS.iter().find(|column| column.purpose == sealed::PROFILE_DOCUMENT).unwrap();
    reseal::prepare(app, "cli:ana").await.unwrap();
    reseal::rotate(app, "cli:ana").await.unwrap();
    let rows = app.store.read(move |c| sealed::list_values(c, column, "", 10)).await.unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| app.sealer().is_current(&row.sealed)));
    let read = profile::read(app, &id, true, &by).await.unwrap();
    assert_eq!((read.version, read.document.description.as_str()), (2, "Everywhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_masked_unless_they_are_asked_for_which_is_audited_and_a_mask_is_not_applied() {
    let server = Server::start().await;
    let (app, by) = (&server.app, By::local("cli:ana"));
    let id = profile::apply(app, wifi(), &by).await.unwrap().profile.id;
    let reads = async || {
        let rows = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
        assert!(rows.iter().all(|row| !format!("{row:?}").contains(PASSWORD)), "the audit log has the secret");
        rows.into_iter().filter(|row| row.action == "profile.read_secrets").map(|row| row.actor).collect::<Vec<_>>()
    };

    let masked = profile::export(app, &id, false, &by).await.unwrap();
    assert!(!masked.contains(PASSWORD) && masked.contains("Office") && masked.contains("(secret)"), "{masked}");
    assert!(reads().await.is_empty());
    match profile::apply(app, Draft::parse(&masked).unwrap(), &by).await {
        Err(Error::Invalid(refusal, at)) => assert!(refusal.code() == "PRF0012" && at.contains("payloads"), "{refusal:?} {at}"),
        other => panic!("{other:?}"),
    }

    let whole = profile::export(app, &id, true, &by).await.unwrap();
    assert_eq!(whole.matches(PASSWORD).count(), 2);
    assert_eq!(reads().await, ["cli:ana"]);
    assert!(profile::apply(app, Draft::parse(&whole).unwrap(), &by).await.unwrap().changes.is_empty());
}
