//! Secrets that devices entrusted to the server: who sees them over the API, and that each reading is written down.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::domain::access::{Reach, Scope};
use muster::domain::apple::escrow::Kind;
use muster::domain::device::Platform;
use muster::domain::group::Member;
use muster::ids::EnrollmentId;
use muster::service::directory;
use muster::store::apple::secrets;
use muster::store::sealed::APPLE_SECRET;
use muster::store::{audit, devices, enrollments};
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{delegated, give_within};
use super::{Caller, by, names, user};
use crate::desired::{device, enrollment};

const MANAGED: &str = "/beta/deviceManagement/managedDevices";
const LOCAL: &str = "/v1.0/directory/deviceLocalCredentials";
/// What is kept of each Mac, and where it is asked for.
const FUNCTIONS: [(Kind, &str, &str); 2] =
    [(Kind::FileVault, "getFileVaultKey()", "ABCD-EFGH"), (Kind::RecoveryLock, "retrieveRecoveryLockPasscode()", "recover")];

/// A Mac of a person that entrusted everything.
async fn mac(caller: &Caller, name: &str, owner: &muster::ids::UserId) -> (muster::domain::device::Device, EnrollmentId) {
    let app = &caller.server.app;
    let (now, one) = (app.now(), device(name, Platform::MacOs, Some(owner)));
    let enrolled = enrollment(&one, now);
    let seal = |text: &str| app.sealer().seal(APPLE_SECRET, text.as_bytes()).unwrap();
    let kept: Vec<(Kind, Vec<u8>)> = FUNCTIONS
        .iter()
        .map(|(kind, _, secret)| (*kind, seal(secret)))
        .chain([(Kind::Admin, seal("local")), (Kind::ActivationLock, seal("BYPASS")), (Kind::Bootstrap, seal("token"))])
        .collect();
    let (row, id) = (one.clone(), enrolled.id.clone());
    app.store
        .write(move |tx| {
            devices::insert_device(tx, &row, now)?;
            enrollments::insert_enrollment(tx, &enrolled)?;
            for (kind, sealed) in &kept {
                secrets::upsert_secret(tx, &enrolled.id, *kind, sealed, None, now)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    (one, id)
}

/// Which secrets were read by whom, in the audit log.
async fn read(caller: &Caller) -> Vec<(String, String)> {
    let rows = caller.server.app.store.read(|conn| audit::list(conn, 0, 1000)).await.unwrap();
    let kind = |after: &str| serde_json::from_str::<Value>(after).unwrap()["kind"].as_str().unwrap().to_owned();
    rows.into_iter().filter(|row| row.action == "escrow.read").map(|row| (row.actor, kind(&row.after.unwrap()))).collect()
}

#[actix_web::test]
async fn a_secret_is_shown_to_whoever_may_and_the_log_says_so() {
    let caller = Caller::everything().await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let (one, enrolled) = mac(&caller, "Mac A", &ana.id).await;
    for (_, function, secret) in FUNCTIONS {
        let answer = caller.get(&format!("{MANAGED}/{enrolled}/{function}")).await;
        assert_eq!(answer["value"], *secret, "{function}");
    }
    let admin = caller.get(&format!("{MANAGED}/{enrolled}/retrieveMacOSManagedDeviceLocalAdminAccountDetail()")).await;
    assert_eq!(admin["adminAccountPassword"], "local");
    let listed = caller.get(&format!("{LOCAL}?$count=true")).await;
    assert_eq!((names(&listed, "deviceName"), &listed["@odata.count"]), (vec!["Mac A".to_owned()], &json!(1)));
    let shown = caller.get(&format!("{LOCAL}/{}", one.id)).await;
    assert!(shown.get("credentials").is_none() && shown["lastBackupDateTime"].is_string(), "{shown}");
    let so_far = read(&caller).await;
    let actor = so_far[0].0.clone();
    assert!(actor.starts_with("app:"), "{actor}");
    let by_it = |kind: &str| (actor.clone(), kind.to_owned());
    assert_eq!(so_far, ["fv-prk", "recovery-lock", "admin"].map(by_it), "what shows no secret is no reading");
    let shown = caller.get(&format!("{LOCAL}/{}?$select=credentials", one.id)).await;
    assert_eq!(shown["credentials"][0]["passwordBase64"], STANDARD.encode("local"));
    let usual = caller.get(&format!("{MANAGED}/{enrolled}")).await;
    assert!(usual["activationLockBypassCode"].is_null());
    let selected = caller.get(&format!("{MANAGED}/{enrolled}?$select=id,activationLockBypassCode")).await;
    assert_eq!(selected["activationLockBypassCode"], "BYPASS");
    assert_eq!(selected["@odata.etag"], usual["@odata.etag"], "a secret makes no other version");
    let all = caller.get(&format!("{MANAGED}?$select=activationLockBypassCode")).await;
    assert!(all["value"][0]["activationLockBypassCode"].is_null(), "a list shows no secrets");
    assert_eq!(read(&caller).await.split_off(3), ["admin", "activation-lock"].map(by_it));
    assert_eq!(caller.refused(Method::GET, &format!("{LOCAL}?$select=credentials"), None).await.0, 400);

    // A device that entrusted none, and one that is not there.
    let bare = device("PC", Platform::Windows, Some(&ana.id));
    let (bare_enrolled, now) = (enrollment(&bare, caller.server.app.now()), caller.server.app.now());
    let (row, id) = (bare.clone(), bare_enrolled.id.clone());
    let insert = caller.server.app.store.write(move |tx| {
        devices::insert_device(tx, &row, now)?;
        enrollments::insert_enrollment(tx, &bare_enrolled)
    });
    insert.await.unwrap();
    for path in
        [format!("{MANAGED}/{id}/getFileVaultKey"), format!("{LOCAL}/{}", bare.id), format!("{LOCAL}/{enrolled}?$select=credentials")]
    {
        assert_eq!(caller.refused(Method::GET, &path, None).await.0, 404, "{path}");
    }
    assert_eq!(read(&caller).await.len(), 5);
    // Without its row in the log there is no answer.
    let before = read(&caller).await.len();
    break_log(&caller).await;
    let answer = caller.send(Method::GET, &format!("{MANAGED}/{enrolled}/getFileVaultKey()"), None).await;
    assert!(answer.status().is_server_error(), "{}", answer.status());
    assert!(!answer.text().await.unwrap().contains("ABCD-EFGH"));
    assert_eq!(before, 5);
}

/// The log takes no more rows.
async fn break_log(caller: &Caller) {
    use diesel::connection::SimpleConnection as _;
    caller
        .server
        .app
        .store
        .write(|tx| match tx.conn() {
            muster::store::Conn::Postgres(conn) => Ok(conn.batch_execute("ALTER TABLE audit ADD CONSTRAINT none CHECK (FALSE) NOT VALID")?),
            muster::store::Conn::Sqlite(conn) => {
                Ok(conn.batch_execute("CREATE TRIGGER no_more BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")?)
            }
        })
        .await
        .unwrap();
}

#[actix_web::test]
async fn secrets_take_a_permission_and_an_action_of_their_own_and_end_at_the_group() {
    let caller = Caller::everything().await;
    let (ana, bob) = (user(&caller.server, "ana@x.example", "Ana").await, user(&caller.server, "bob@x.example", "Bob").await);
    let (near, near_enrolled) = mac(&caller, "Mac A", &ana.id).await;
    let (far, far_enrolled) = mac(&caller, "Mac B", &bob.id).await;
    let sales = directory::create_group(&caller.server.app, "Sales", "", &by()).await.unwrap().id;
    directory::add_members(&caller.server.app, &sales, vec![Member::User(ana.id.clone())], &by()).await.unwrap();
    let mut server = caller.server;
    let denied = (403, "Authorization_RequestDenied".to_owned());
    for (number, word) in ["read-only", "helpdesk", "policy-manager", "certificate-manager"].into_iter().enumerate() {
        let name = format!("p{number}@x.example");
        let person = user(&server, &name, word).await;
        give_within(&server, word, &person.id, Reach::All).await;
        let token = delegated(&server, &name, Scope::ALL).await;
        let reader = Caller::of(server, token);
        for (_, function, _) in FUNCTIONS {
            assert_eq!(reader.refused(Method::GET, &format!("{MANAGED}/{near_enrolled}/{function}"), None).await, denied, "{word}");
        }
        assert_eq!(reader.refused(Method::GET, &format!("{LOCAL}/{}?$select=credentials", near.id), None).await, denied, "{word}");
        assert!(reader.get(&format!("{LOCAL}/{}", near.id)).await.get("credentials").is_none());
        let selected = reader.get(&format!("{MANAGED}/{near_enrolled}?$select=activationLockBypassCode")).await;
        assert!(selected["activationLockBypassCode"].is_null(), "{word}");
        assert!(read(&reader).await.is_empty());
        server = reader.server;
    }
    let person = user(&server, "adm@x.example", "Adm").await;
    give_within(&server, "administrator", &person.id, Reach::Groups([sales].into())).await;
    let token = delegated(&server, "adm@x.example", Scope::ALL).await;
    let bound = Caller::of(server, token);
    assert_eq!(bound.get(&format!("{MANAGED}/{near_enrolled}/getFileVaultKey()")).await["value"], "ABCD-EFGH");
    assert_eq!(names(&bound.get(LOCAL).await, "deviceName"), ["Mac A"]);
    assert_eq!(bound.refused(Method::GET, &format!("{MANAGED}/{far_enrolled}/getFileVaultKey()"), None).await.0, 404);
    assert_eq!(bound.refused(Method::GET, &format!("{LOCAL}/{}?$select=credentials", far.id), None).await.0, 404);
    assert_eq!(read(&bound).await, [(format!("user:{}", person.id), "fv-prk".to_owned())]);
}
