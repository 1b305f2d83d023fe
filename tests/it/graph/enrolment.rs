//! How devices enrol, over the API: PCs for Windows Autopilot, servers of Apple Business Manager, and what may enrol.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::clock::{DAY, MINUTE};
use muster::domain::access::{Reach, Scope};
use muster::domain::group::Member;
use muster::service::{autopilot, directory};
use muster::sim::windows::enroll::Machine;
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{delegated, give_within};
use super::{Caller, by, names, register, token, user};
use crate::apple_ade;
use crate::both_backends;
use crate::cli::{self, refused};
use crate::support::ade::{Ade, TOKEN};
use crate::support::server::{Options, Server};
use crate::support::windows::House;

const PCS: &str = "/v1.0/deviceManagement/windowsAutopilotDeviceIdentities";
const IMPORTS: &str = "/v1.0/deviceManagement/importedWindowsAutopilotDeviceIdentities";
const SERVERS: &str = "/beta/deviceManagement/depOnboardingSettings";
const CONFIGURATIONS: &str = "/v1.0/deviceManagement/deviceEnrollmentConfigurations";

/// As Windows makes them, without what only Microsoft reads.
fn hash() -> String {
    let mut bytes = b"OA".to_vec();
    bytes.resize(3000, 1);
    STANDARD.encode(bytes)
}

async fn everything(house: House) -> Caller {
    let scopes: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| !scope.is_of_a_person()).collect();
    let (application, secret) = register(&house.server, &scopes).await;
    let token = token(&house.server, &application, &secret).await;
    Caller::of(house.server, token)
}

fn pc(serial: &str, tag: &str, upn: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.importedWindowsAutopilotDeviceIdentity", "serialNumber": serial, "groupTag": tag,
        "hardwareIdentifier": hash(), "productKey": "", "importId": "today", "assignedUserPrincipalName": upn,
        "state": { "@odata.type": "microsoft.graph.importedWindowsAutopilotDeviceIdentityState", "deviceImportStatus": "pending" },
    })
}

#[actix_web::test]
async fn a_pc_is_registered_enrols_as_the_organisations_own_and_is_told_by_its_tag() {
    let house = House::tweaked(|config| config.enrollment.windows.personal = false).await;
    let machine = Machine::windows_11(7);
    let refused = house.join(&machine).await.unwrap_err();
    assert!(format!("{refused:?}").contains("ENR0031"), "{refused:?}");
    let drafts = vec![autopilot_draft("SIM-00000007", "Sales")];
    let registered = autopilot::import(&house.server.app, drafts, &by()).await.unwrap();
    let id = registered[0].outcome.as_ref().unwrap().to_string();
    house.join(&machine).await.unwrap();
    let caller = everything(house).await;

    let one = caller.get(&format!("{PCS}/{id}")).await;
    assert_eq!(
        (&one["enrollmentState"], &one["serialNumber"], &one["groupTag"]),
        (&json!("enrolled"), &json!("SIM-00000007"), &json!("Sales"))
    );
    let managed = caller.get("/v1.0/deviceManagement/managedDevices").await;
    assert_eq!((&one["managedDeviceId"], &one["model"]), (&managed["value"][0]["id"], &managed["value"][0]["model"]));
    assert_eq!(one["azureActiveDirectoryDeviceId"], managed["value"][0]["azureADDeviceId"]);
    let devices = async |filter: &str| caller.get(&format!("/v1.0/devices?$filter={filter}")).await["value"].as_array().unwrap().clone();
    let found = devices("physicalIds/any(p:startswith(p,'[ZTDID]'))").await;
    assert_eq!(found[0]["physicalIds"], json!([format!("[ZTDID]:{id}"), "[OrderID]:Sales"]));
    assert_eq!(devices("physicalIds/any(p:p eq '[OrderID]:Sales')").await.len(), 1);
    assert_eq!(devices("physicalIds/any(p:p eq '[OrderID]:Research')").await.len(), 0);

    let link = caller.get("/v1.0/devices/delta?$deltatoken=latest").await["@odata.deltaLink"].as_str().unwrap().to_owned();
    let before = caller.server.app.now();
    caller.server.clock.advance(MINUTE);
    let change = json!({ "groupTag": "Research", "displayName": "PC 7" });
    assert_eq!(caller.send(Method::POST, &format!("{PCS}/{id}/updateDeviceProperties"), Some(change)).await.status(), 204);
    assert_eq!(devices("physicalIds/any(p:p eq '[OrderID]:Research')").await.len(), 1);
    let changed = caller.get(link.strip_prefix(&caller.server.web).unwrap()).await;
    assert_eq!(changed["value"][0]["physicalIds"][1], "[OrderID]:Research", "who follows changes is told");
    let touched = caller.server.app.store.read(move |c| {
        use diesel::prelude::*;
        use muster::store::schema::devices::dsl::{devices, updated_at};
        let rows: i64 = match c {
            muster::store::Conn::Sqlite(c) => devices.filter(updated_at.gt(before.0)).count().get_result(c)?,
            muster::store::Conn::Postgres(c) => devices.filter(updated_at.gt(before.0)).count().get_result(c)?,
        };
        Ok(rows)
    });
    assert_eq!(touched.await.unwrap(), 1, "rules look at it again");
    assert_eq!(caller.send(Method::DELETE, &format!("{PCS}/{id}"), None).await.status(), 204);
    assert_eq!(caller.refused(Method::GET, &format!("{PCS}/{id}"), None).await.0, 404);
    assert_eq!(devices("physicalIds/any(p:startswith(p,'[ZTDID]'))").await.len(), 0);
}

fn autopilot_draft(serial: &str, tag: &str) -> muster::domain::autopilot::Draft {
    muster::domain::autopilot::Draft {
        serial: serial.into(),
        group_tag: tag.into(),
        hardware_hash: hash(),
        ..muster::domain::autopilot::Draft::default()
    }
}

#[actix_web::test]
async fn pcs_are_imported_each_by_itself_and_belong_to_people() {
    let caller = Caller::everything().await;
    user(&caller.server, "ana@x.example", "Ana").await;
    let bad_hash = |serial: &str, text: &str| {
        let mut one = pc(serial, "", "");
        one["hardwareIdentifier"] = text.into();
        one
    };
    let all = json!({ "importedWindowsAutopilotDeviceIdentities": [
        pc("5CG1", "Sales", "ana@x.example"), pc("5CG1", "", ""), bad_hash("5CG2", "AAAA"), pc(" ", "", ""), pc("5CG3", "", "nobody@x.example"),
        pc("5CG4", &"t".repeat(300), ""), pc("5CG5", "", ""),
    ] });
    let answer = caller.post(&format!("{IMPORTS}/import"), all).await;
    let states: Vec<(&str, i64, &Value)> = answer["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["state"])
        .map(|state| (state["deviceImportStatus"].as_str().unwrap(), state["deviceErrorCode"].as_i64().unwrap(), &state["deviceErrorName"]))
        .collect();
    let failed = |number, name: &'static str| ("error", number, json!(name));
    let wanted = [
        ("complete", 0, Value::Null),
        failed(806, "ZtdDeviceAlreadyAssigned"),
        failed(802, "InvalidZtdHardwareHash"),
        failed(400, "InvalidSerialNumber"),
        failed(400, "UserNotFound"),
        failed(400, "InvalidText"),
        ("complete", 0, Value::Null),
    ];
    assert_eq!(states.len(), wanted.len());
    for (got, wanted) in states.iter().zip(&wanted) {
        assert_eq!((got.0, got.1, got.2), (wanted.0, wanted.1, &wanted.2));
    }
    assert!(!answer.to_string().contains(&hash()[..100]), "no hash is shown");
    let errors = caller.get(&format!("{IMPORTS}?$filter=state/deviceImportStatus eq 'error'&$count=true")).await;
    assert_eq!(errors["@odata.count"], 5);
    let first = &answer["value"][0];
    let path = format!("{IMPORTS}/{}", first["id"].as_str().unwrap());
    assert_eq!(caller.get(&path).await["state"]["deviceRegistrationId"], first["state"]["deviceRegistrationId"]);
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(caller.refused(Method::GET, &path, None).await.0, 404);
    let audited = caller.get("/v1.0/deviceManagement/auditEvents?$filter=activity eq 'autopilot.delete-import'").await;
    assert_eq!((audited["value"].as_array().unwrap().len(), &audited["value"][0]["actor"]["auditActorType"]), (1, &json!("Application")));
    let single = caller.send(Method::POST, IMPORTS, Some(pc("5CG6", "", ""))).await;
    assert_eq!((single.status().as_u16(), single.headers().contains_key("location")), (201, true));
    let none =
        caller.refused(Method::POST, &format!("{IMPORTS}/import"), Some(json!({ "importedWindowsAutopilotDeviceIdentities": [] }))).await;
    assert_eq!(none, (400, "Request_BadRequest".into()));

    let found = caller.get(&format!("{PCS}?$filter=contains(serialNumber,'5cg')&$orderby=serialNumber desc")).await;
    assert_eq!(names(&found, "serialNumber"), ["5CG6", "5CG5", "5CG1"]);
    let own = caller.get(&format!("{PCS}?$filter=userPrincipalName eq 'ana@x.example' and groupTag eq 'sales'")).await;
    assert_eq!((names(&own, "serialNumber"), &own["value"][0]["enrollmentState"]), (vec!["5CG1".to_owned()], &json!("notContacted")));
    let path = format!("{PCS}/{}", own["value"][0]["id"].as_str().unwrap());
    assert_eq!(caller.send(Method::POST, &format!("{path}/unassignUserFromDevice"), None).await.status(), 204);
    assert_eq!(caller.get(&path).await["userPrincipalName"], Value::Null);
    let to = |upn: &str| Some(json!({ "userPrincipalName": upn, "addressableUserName": "Ana" }));
    assert_eq!(caller.send(Method::POST, &format!("{path}/assignUserToDevice"), to("ana@x.example")).await.status(), 204);
    let shown = caller.get(&path).await;
    assert_eq!((&shown["userPrincipalName"], &shown["addressableUserName"]), (&json!("ana@x.example"), &json!("Ana")));
    for (method, wrong, code) in [
        ("assignUserToDevice", to("nobody@x.example"), "Request_BadRequest"),
        ("assignUserToDevice", to(""), "ModelValidationFailure"),
        ("updateDeviceProperties", Some(json!({ "groupTag": "t".repeat(300) })), "Request_BadRequest"),
    ] {
        assert_eq!(caller.refused(Method::POST, &format!("{path}/{method}"), wrong).await, (400, code.into()), "{method}");
    }
    caller.server.clock.advance(31 * DAY);
    muster::service::jobs::run_due(&caller.server.app).await.unwrap();
    let (application, secret) = register(&caller.server, &[Scope::ServiceConfigReadAll]).await;
    let token = token(&caller.server, &application, &secret).await;
    let caller = Caller { token, ..caller };
    assert_eq!(names(&caller.get(IMPORTS).await, "id"), [""; 0], "what came of imports is kept for a while");
    assert_eq!(caller.get(PCS).await["value"].as_array().unwrap().len(), 3);
}

#[actix_web::test]
async fn whoever_is_bound_to_groups_sees_their_pcs_and_registers_none() {
    let everybody = Caller::everything().await;
    let ana = user(&everybody.server, "ana@x.example", "Ana").await;
    let all = json!({ "importedWindowsAutopilotDeviceIdentities": [pc("NEAR", "", "ana@x.example"), pc("FAR", "", "")] });
    everybody.post(&format!("{IMPORTS}/import"), all).await;
    let server = everybody.server;
    let helper = user(&server, "helper@x.example", "Helper").await;
    let sales = directory::create_group(&server.app, "Sales", "", &by()).await.unwrap().id;
    directory::add_members(&server.app, &sales, vec![Member::User(ana.id)], &by()).await.unwrap();
    give_within(&server, "administrator", &helper.id, Reach::Groups([sales].into())).await;
    let token = delegated(&server, "helper@x.example", Scope::ALL).await;
    let helper = Caller::of(server, token);
    let found = helper.get(PCS).await;
    assert_eq!(names(&found, "serialNumber"), ["NEAR"]);
    assert_eq!(names(&helper.get(IMPORTS).await, "id"), [""; 0]);
    let path = format!("{PCS}/{}", found["value"][0]["id"].as_str().unwrap());
    for (method, path) in [
        (Method::POST, IMPORTS.to_owned()),
        (Method::POST, format!("{IMPORTS}/import")),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/updateDeviceProperties")),
        (Method::POST, SERVERS.to_owned()),
    ] {
        let body = json!({ "importedWindowsAutopilotDeviceIdentities": [], "tokenName": "x" });
        assert_eq!(helper.refused(method, &path, Some(body)).await, (403, "Authorization_RequestDenied".to_owned()), "{path}");
    }
}

both_backends! {
    async fn a_letter_that_no_text_has_fails_its_own_row_only(store: Store) {
        let caller = Caller::on(Server::with(Options { store: Some(store), ..Options::default() }).await).await;
        let wrong = |name: &str| {
            let mut one = pc("5CG2", "Sales", "ana@x.example");
            one[name] = format!("5\0{}", one[name].as_str().unwrap()).into();
            one
        };
        let all = json!({ "importedWindowsAutopilotDeviceIdentities": [
            pc("5CG1", "", ""), wrong("serialNumber"), wrong("groupTag"), wrong("assignedUserPrincipalName"), wrong("productKey"),
            wrong("importId"), wrong("hardwareIdentifier"), pc("\0", "\0", "\0"), pc("5CG3", "", ""),
        ] });
        let answer = caller.post(&format!("{IMPORTS}/import"), all).await;
        let got: Vec<&Value> = answer["value"].as_array().unwrap().iter().map(|one| &one["state"]["deviceErrorName"]).collect();
        let text = || json!("InvalidText");
        let wanted = [
            Value::Null, json!("InvalidSerialNumber"), text(), text(), text(), text(), json!("InvalidZtdHardwareHash"),
            json!("InvalidSerialNumber"), Value::Null,
        ];
        assert_eq!(got, wanted.iter().collect::<Vec<_>>());
        assert!(!caller.get(IMPORTS).await.to_string().contains("u0000"), "what is noted of them is without it");
        let known = caller.get(PCS).await;
        assert_eq!(names(&known, "serialNumber"), ["5CG1", "5CG3"]);

        let path = format!("{PCS}/{}", known["value"][0]["id"].as_str().unwrap());
        let ana = user(&caller.server, "ana@x.example", "Ana").await;
        let bad = (400, "BadRequest".to_owned());
        for (method, path, body) in [
            (Method::POST, format!("{path}/assignUserToDevice"), Some(json!({ "userPrincipalName": "a\0@x.example" }))),
            (Method::POST, format!("{path}/updateDeviceProperties"), Some(json!({ "groupTag": "\0" }))),
            (Method::PATCH, format!("/v1.0/users/{}", ana.id), Some(json!({ "jobTitle": "\0" }))),
            (Method::POST, "/v1.0/groups".to_owned(), Some(json!({ "displayName": "a", "description": "\0" }))),
            (Method::GET, "/v1.0/users/a%00@x.example".to_owned(), None),
            (Method::GET, "/v1.0/users('a%00')".to_owned(), None),
            (Method::GET, "/v1.0/users?$filter=userPrincipalName eq 'a%00'".to_owned(), None),
            (Method::GET, "/v1.0/groups?$search=\"displayName:a%00\"".to_owned(), None),
            (Method::GET, "/beta/deviceManagement/cloudCertificationAuthorityLeafCertificate/a%00".to_owned(), None),
            (Method::GET, "/beta/deviceManagement/cloudCertificationAuthority/a%00/cloudCertificationAuthorityLeafCertificate".to_owned(), None),
        ] {
            assert_eq!(caller.refused(method, &path, body).await, bad, "{path}");
        }
        // In a batch it is one call that fails.
        let batch = json!({ "requests": [
            { "id": "1", "method": "GET", "url": "/users/a\0" },
            { "id": "2", "method": "PATCH", "url": format!("/users/{}", ana.id), "body": { "jobTitle": "\0" },
              "headers": { "Content-Type": "application/json" } },
            { "id": "3", "method": "GET", "url": format!("/users/{}", ana.id) },
        ] });
        let answers = caller.post("/v1.0/$batch", batch).await;
        let mut statuses: Vec<(&str, i64)> = answers["responses"].as_array().unwrap().iter()
            .map(|one| (one["id"].as_str().unwrap(), one["status"].as_i64().unwrap())).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [("1", 400), ("2", 400), ("3", 200)]);

        for (method, path, body, status) in [
            (Method::GET, "/api/certificates?serial=%00", None, 400),
            (Method::GET, "/api/certificates/%00", None, 404),
            (Method::POST, "/api/authorities", Some(json!({ "name": "a\0", "common_name": "a\0" })), 400),
            (Method::POST, "/api/signals/receivers", Some(json!({ "name": "a", "endpoint_url": "https://x.example/\0" })), 400),
        ] {
            assert_eq!(caller.send(method, path, body).await.status().as_u16(), status, "{path}");
        }
    }
}

#[test]
fn the_command_line_takes_the_table_of_a_script() {
    let folder = tempfile::tempdir().unwrap();
    cli::json(folder.path(), &["init", "--admin", "ana@example.org"]);
    let text = format!(
        "Device Serial Number,Windows Product ID,Hardware Hash,Group Tag,Assigned User\r\n5CG1,,{0},Sales,ana@example.org\r\n5CG2,,{0},,\r\n5CG2,,AAAA,,\r\n",
        hash()
    );
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.path().join("pcs.csv"), [&[0xff, 0xfe], wide.as_slice()].concat()).unwrap();
    let imported = cli::json(folder.path(), &["device", "autopilot", "import", "pcs.csv"]);
    assert_eq!((&imported[0]["refused"], &imported[1]["refused"]), (&Value::Null, &Value::Null));
    assert!(imported[2]["refused"].as_str().unwrap().starts_with("WAP0002"), "{imported}");
    let again = cli::json(folder.path(), &["device", "autopilot", "import", "pcs.csv"]);
    assert!(again[0]["refused"].as_str().unwrap().starts_with("WAP0003"), "{again}");
    let listed = cli::json(folder.path(), &["device", "autopilot", "list", "--group-tag", "sales"]);
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["user"]), (1, &json!("ana@example.org")));
    let changed = cli::json(folder.path(), &["device", "autopilot", "change", "5CG1", "--group-tag", "Research", "--user", ""]);
    assert_eq!((&changed["group_tag"], &changed["user"]), (&json!("Research"), &Value::Null));
    let long = "t".repeat(300);
    assert!(refused(folder.path(), &["device", "autopilot", "change", "5CG1", "--group-tag", &long]).contains("WAP0005"));
    assert_eq!(cli::json(folder.path(), &["device", "autopilot", "remove", "5CG1"])["removed"], "5CG1");
    assert_eq!(cli::json(folder.path(), &["device", "autopilot", "list"]).as_array().unwrap().len(), 1);
    std::fs::write(folder.path().join("short.csv"), "Device Serial Number,Hardware Hash\n1,2\n").unwrap();
    let said = refused(folder.path(), &["device", "autopilot", "import", "short.csv"]);
    assert!(said.contains("WAP0001") && said.contains("Windows Product ID"), "{said}");
    std::fs::write(folder.path().join("none.csv"), "Device Serial Number,Windows Product ID,Hardware Hash\n,x,\n").unwrap();
    let none = cli::json(folder.path(), &["device", "autopilot", "import", "none.csv"]);
    assert!(none[0]["refused"].as_str().unwrap().starts_with("WAP0004"), "{none}");
}

#[actix_web::test]
async fn a_server_of_apple_business_manager_is_connected_and_read() {
    let service = Ade::start().await;
    let caller = everything(apple_ade::house(&service, |_| ()).await).await;
    let made = caller.post(SERVERS, json!({ "@odata.type": "#microsoft.graph.depOnboardingSetting", "tokenName": "default" })).await;
    assert_eq!((&made["tokenName"], &made["tokenType"], &made["syncedDeviceCount"]), (&json!("default"), &json!("none"), &json!(0)));
    let path = format!("{SERVERS}/{}", made["id"].as_str().unwrap());
    let again = caller.refused(Method::POST, SERVERS, Some(json!({ "tokenName": "default" }))).await;
    assert_eq!(again, (409, "NameConflict".into()));
    assert_eq!(caller.refused(Method::POST, SERVERS, Some(json!({}))).await, (400, "ModelValidationFailure".into()));
    let bad = caller.send(Method::POST, SERVERS, Some(json!({ "tokenName": "Bad Name" }))).await.text().await.unwrap();
    assert!(bad.contains("ADE0001"), "{bad}");
    let early = caller.send(Method::POST, &format!("{path}/syncWithAppleDeviceEnrollmentProgram"), None).await.text().await.unwrap();
    assert!(early.contains("ADE0007"), "{early}");
    let key = caller.get(&format!("{path}/getEncryptionPublicKey()")).await["value"].as_str().unwrap().to_owned();
    let fresh = caller.post(&format!("{path}/generateEncryptionPublicKey"), json!({})).await["value"].as_str().unwrap().to_owned();
    assert!(fresh.starts_with("-----BEGIN CERTIFICATE") && fresh != key);

    let message = apple_ade::message("2030-01-01T00:00:00Z");
    let Some(stale) = apple_ade::encrypted(&message, &key, "-aes256") else { return };
    let token = |file: &[u8]| Some(json!({ "appleId": "abm@x.example", "depToken": STANDARD.encode(file) }));
    let upload = format!("{path}/uploadDepToken");
    let said = caller.send(Method::POST, &upload, token(&stale)).await.text().await.unwrap();
    assert!(said.contains("ADE0003"), "{said}");
    let file = apple_ade::encrypted(&message, &fresh, "-aes256").unwrap();
    let done =
        caller.send(Method::POST, &upload, Some(json!({ "appleId": "abm@x.example", "depToken": String::from_utf8(file).unwrap() }))).await;
    assert_eq!(done.status(), 204);
    service.state().add(["C02SIM00001".to_owned(), "C02SIM00002".to_owned()]);
    assert_eq!(caller.send(Method::POST, &format!("{path}/syncWithAppleDeviceEnrollmentProgram"), None).await.status(), 204);
    let soon = caller.send(Method::POST, &format!("{path}/syncWithAppleDeviceEnrollmentProgram"), None).await;
    assert!(soon.status() == 429 && soon.headers()["retry-after"] == "900", "{soon:?}");
    let shown = caller.get(&path).await;
    assert_eq!(
        (&shown["tokenType"], &shown["syncedDeviceCount"], &shown["appleIdentifier"]),
        (&json!("dep"), &json!(2), &json!("abm@x.example"))
    );
    assert_eq!(shown["tokenExpirationDateTime"], "2030-01-01T00:00:00Z");
    let whole = shown.to_string();
    assert!(TOKEN.iter().all(|(_, text)| !whole.contains(text)), "{whole}");
    let profiles = caller.get(&format!("{path}/enrollmentProfiles")).await;
    let profile = &profiles["value"][0];
    assert_eq!(
        (&profile["displayName"], &profile["isMandatory"], &profile["siriDisabled"]),
        (&json!("Muster"), &json!(true), &json!(false))
    );
    let one = caller.get(&format!("{path}/enrollmentProfiles/{}", profile["id"].as_str().unwrap())).await;
    assert_eq!(one["displayName"], "Muster");
    let devices = format!("{path}/importedAppleDeviceIdentities");
    let first = caller.get(&format!("{devices}?$top=1&$count=true")).await;
    assert_eq!((names(&first, "serialNumber"), &first["@odata.count"]), (vec!["C02SIM00001".to_owned()], &json!(2)));
    let next = first["@odata.nextLink"].as_str().unwrap().strip_prefix(&caller.server.web).unwrap().to_owned();
    let second = caller.get(&next).await;
    assert_eq!(names(&second, "serialNumber"), ["C02SIM00002"]);
    assert_eq!((&second["value"][0]["platform"], &second["value"][0]["enrollmentState"]), (&json!("macOS"), &json!("notContacted")));
    assert_eq!(names(&caller.get(&format!("{devices}?$filter=serialNumber eq 'c02sim00002'")).await, "id"), ["C02SIM00002"]);
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(caller.refused(Method::GET, &path, None).await.0, 404);
}

#[actix_web::test]
async fn what_may_enrol_is_shown_as_it_is_configured() {
    let house = House::tweaked(|config| {
        config.windows.devices_per_user = 1;
        config.enrollment.ios.allowed = false;
        config.enrollment.windows.minimum_os_version = "10.0.19041".into();
        config.enrollment.macos.personal = false;
    })
    .await;
    house.enroll(1).await;
    let beyond = house.join(&Machine::windows_11(2)).await.unwrap_err();
    assert!(format!("{beyond:?}").contains("ENR0004"), "what is shown is what holds: {beyond:?}");
    let caller = everything(house).await;
    let all = caller.get(CONFIGURATIONS).await;
    let [limit, platforms, hello] = all["value"].as_array().unwrap().as_slice() else { panic!("{all}") };
    assert_eq!((&limit["@odata.type"], &limit["limit"]), (&json!("#microsoft.graph.deviceEnrollmentLimitConfiguration"), &json!(1)));
    assert_eq!(
        (&platforms["iosRestriction"]["platformBlocked"], &platforms["androidRestriction"]["platformBlocked"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(platforms["windowsRestriction"]["osMinimumVersion"], "10.0.19041");
    assert_eq!(platforms["macOSRestriction"]["personalDeviceEnrollmentBlocked"], true);
    assert!(hello["id"].as_str().unwrap().ends_with("_DefaultWindowsHelloForBusiness") && hello["state"] == "notConfigured");
    let path = format!("{CONFIGURATIONS}/{}", limit["id"].as_str().unwrap());
    assert_eq!(caller.get(&path).await["limit"], 1);
    assert_eq!(
        names(&caller.get(&format!("{path}/assignments")).await, "@odata.type"),
        ["#microsoft.graph.enrollmentConfigurationAssignment"]
    );
    assert_eq!(caller.refused(Method::GET, &format!("{CONFIGURATIONS}/x"), None).await.0, 404);
    let body = || Some(json!({ "@odata.type": limit["@odata.type"], "limit": 3 }));
    assert_eq!(caller.refused(Method::PATCH, &format!("{CONFIGURATIONS}/x"), body()).await.0, 404);
    let fixed: Value = caller.send(Method::PATCH, &path, body()).await.json().await.unwrap();
    assert!(fixed["error"]["message"].as_str().unwrap().starts_with("ENR0040: "), "{fixed}");
    assert_eq!(caller.get(&path).await["limit"], limit["limit"]);
    assert!(caller.get(&path.replace("v1.0", "beta")).await["deviceEnrollmentConfigurationType"] == "defaultLimit");
}
