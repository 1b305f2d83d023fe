//! Policies and configurations over the API, down to a simulated PC that gets them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::domain::access::{Reach, Scope};
use muster::domain::group::Member;
use muster::service::pki::authority;
use muster::service::{directory, profile};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Caller, by, names, register, token};
use crate::support::windows::{House, UPN};

const POLICIES: &str = "/beta/deviceManagement/deviceCompliancePolicies";
const CONFIGURATIONS: &str = "/beta/deviceManagement/deviceConfigurations";

fn block(hours: u32) -> Value {
    json!([{ "ruleName": "PasswordRequired", "scheduledActionConfigurations": [{
        "actionType": "block", "gracePeriodHours": hours, "notificationTemplateId": "00000000-0000-0000-0000-000000000000",
        "notificationMessageCCList": [],
    }] }])
}

fn windows(name: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.windows10CompliancePolicy", "displayName": name, "bitLockerEnabled": true, "secureBootEnabled": true,
        "osMinimumVersion": "10.0.19045.0", "passwordRequiredType": "deviceDefault", "earlyLaunchAntiMalwareDriverEnabled": false,
        "passwordMinimumLength": null, "scheduledActionsForRule": block(48),
    })
}

#[actix_web::test]
async fn a_policy_lives_and_loses_nothing() {
    let caller = Caller::everything().await;
    let made = caller.post(POLICIES, windows("Baseline")).await;
    assert_eq!((&made["@odata.type"], &made["version"]), (&json!("#microsoft.graph.windows10CompliancePolicy"), &json!(1)));
    assert_eq!(
        (&made["bitLockerEnabled"], &made["tpmRequired"], &made["osMinimumVersion"]),
        (&json!(true), &json!(false), &json!("10.0.19045.0"))
    );
    assert!(made.get("scheduledActionsForRule").is_none(), "only when it is expanded");
    let path = format!("{POLICIES}/{}", made["id"].as_str().unwrap());
    let whole = caller.get(&format!("{path}?$expand=assignments,scheduledActionsForRule($expand=scheduledActionConfigurations)")).await;
    assert_eq!(whole["scheduledActionsForRule"][0]["scheduledActionConfigurations"][0]["gracePeriodHours"], 48);
    assert_eq!(whole["assignments"], json!([]));
    let changed =
        caller.send(Method::PATCH, &path, Some(json!({ "tpmRequired": true, "secureBootEnabled": false, "displayName": "New" }))).await;
    let changed: Value = changed.json().await.unwrap();
    assert_eq!((&changed["version"], &changed["tpmRequired"], &changed["bitLockerEnabled"]), (&json!(2), &json!(true), &json!(true)));
    assert_eq!((&changed["secureBootEnabled"], &changed["displayName"]), (&json!(false), &json!("New")));
    let v1 = path.replacen("/beta", "/v1.0", 1);
    assert_eq!(caller.refused(Method::PATCH, &v1, Some(json!({ "tpmRequired": true }))).await, (400, "ModelValidationFailure".to_owned()));
    let shown = caller.get(&v1).await;
    assert!(shown.get("tpmRequired").is_none() && shown["bitLockerEnabled"] == true, "only beta has it: {shown}");
    assert_eq!(caller.send(Method::PATCH, &v1, Some(json!({ "bitLockerEnabled": false }))).await.status(), 200);
    assert_eq!(caller.get(&path).await["tpmRequired"], true, "what is not shown stays");
    let schedule = json!({ "deviceComplianceScheduledActionForRules": block(0) });
    assert_eq!(caller.send(Method::POST, &format!("{path}/scheduleActionsForRules"), Some(schedule)).await.status(), 204);

    let mut wrong = windows("X");
    wrong.as_object_mut().unwrap().remove("scheduledActionsForRule");
    let mut base = windows("X");
    base["@odata.type"] = json!("#microsoft.graph.deviceCompliancePolicy");
    let mut two = windows("X");
    two["scheduledActionsForRule"] = json!([block(1)[0], block(2)[0]]);
    let mut lost = windows("X");
    lost["earlyLaunchAntiMalwareDriverEnabled"] = json!(true);
    let mut unread = windows("X");
    unread["osMinimumVersion"] = json!("eleven");
    for (body, code) in [
        (wrong, "ModelValidationFailure"),
        (base, "ModelValidationFailure"),
        (two, "ModelValidationFailure"),
        (lost, "ModelValidationFailure"),
        (unread, "Request_BadRequest"),
    ] {
        assert_eq!(caller.refused(Method::POST, POLICIES, Some(body.clone())).await, (400, code.to_owned()), "{body}");
    }
    assert_eq!(caller.refused(Method::POST, POLICIES, Some(windows("New"))).await, (409, "NameConflict".to_owned()));
    caller.post(POLICIES, json!({ "@odata.type": "#microsoft.graph.macOSCompliancePolicy", "displayName": "Mac", "firewallEnabled": true, "scheduledActionsForRule": block(0) })).await;
    let macs = caller.get(&format!("{POLICIES}?$filter=isof('microsoft.graph.macOSCompliancePolicy')&$count=true")).await;
    assert_eq!((names(&macs, "displayName"), &macs["@odata.count"]), (vec!["Mac".to_owned()], &json!(1)));
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(caller.refused(Method::GET, &path, None).await.0, 404);
}

#[actix_web::test]
async fn assignments_are_replaced_as_a_whole_and_within_reach() {
    let caller = Caller::everything().await;
    let policy = caller.post(POLICIES, windows("Baseline")).await;
    let path = format!("{POLICIES}/{}", policy["id"].as_str().unwrap());
    let (one, two) = (
        caller.post("/v1.0/groups", json!({ "displayName": "One" })).await,
        caller.post("/v1.0/groups", json!({ "displayName": "Two" })).await,
    );
    let group = |group: &Value| json!({ "target": { "@odata.type": "#microsoft.graph.groupAssignmentTarget", "groupId": group["id"] } });
    let all = json!({ "target": { "@odata.type": "#microsoft.graph.allDevicesAssignmentTarget" } });
    let out = json!({ "target": { "@odata.type": "#microsoft.graph.exclusionGroupAssignmentTarget", "groupId": two["id"] } });
    let answer = caller.post(&format!("{path}/assign"), json!({ "assignments": [group(&one), out, group(&one)] })).await;
    assert_eq!(answer["value"].as_array().unwrap().len(), 2);
    let answer = caller.post(&format!("{path}/assign"), json!({ "assignments": [all] })).await;
    assert_eq!(answer["value"][0]["target"]["@odata.type"], "#microsoft.graph.allDevicesAssignmentTarget");
    assert_eq!(caller.get(&format!("{path}/assignments")).await["value"].as_array().unwrap().len(), 1);
    for target in [
        json!({ "@odata.type": "#microsoft.graph.configurationManagerCollectionAssignmentTarget" }),
        json!({ "@odata.type": "#microsoft.graph.groupAssignmentTarget" }),
        json!({ "@odata.type": "#microsoft.graph.groupAssignmentTarget", "groupId": "01900000-0000-7000-8000-000000000000" }),
        json!({ "@odata.type": "#microsoft.graph.allDevicesAssignmentTarget", "deviceAndAppManagementAssignmentFilterId": "x" }),
    ] {
        let body = json!({ "assignments": [{ "target": target }] });
        assert_eq!(caller.refused(Method::POST, &format!("{path}/assign"), Some(body.clone())).await.0, 400, "{body}");
    }

    // Whoever is bound to a group assigns to it and to nobody else, and makes no policies.
    let bounded = super::user(&caller.server, "pol@x.example", "Pol").await;
    let sales = muster::ids::GroupId::parse(one["id"].as_str().unwrap()).unwrap();
    super::access::give_within(&caller.server, "policy-manager", &bounded.id, Reach::Groups([sales].into())).await;
    let token = super::access::delegated(&caller.server, "pol@x.example", Scope::ALL).await;
    let bound = Caller::of(caller.server, token);
    let denied = (403, "Authorization_RequestDenied".to_owned());
    assert_eq!(bound.refused(Method::POST, POLICIES, Some(windows("Mine"))).await, denied);
    assert_eq!(bound.refused(Method::PATCH, &path, Some(json!({ "tpmRequired": true }))).await, denied);
    let others = json!({ "assignments": [group(&two)] });
    let answer = bound.send(Method::POST, &format!("{path}/assign"), Some(others)).await;
    assert_eq!(answer.status(), 403);
    assert!(answer.text().await.unwrap().contains("ACC0014"), "it would take it from all devices, too");
    let own = json!({ "assignments": [{ "target": { "@odata.type": "#microsoft.graph.allDevicesAssignmentTarget" } }, group(&one)] });
    assert_eq!(bound.send(Method::POST, &format!("{path}/assign"), Some(own)).await.status(), 200);
}

#[actix_web::test]
async fn configurations_keep_what_they_were_given() {
    let caller = Caller::everything().await;
    let root = STANDARD.encode(authority::root_certificate(&caller.server.app).await.unwrap());
    let web = caller.server.web.clone();
    let trusted = json!({
        "@odata.type": "#microsoft.graph.windows81TrustedRootCertificate", "displayName": "Root", "trustedRootCertificate": root,
        "certFileName": "root.cer", "destinationStore": "computerCertStoreRoot",
    });
    let trusted_made = caller.post(CONFIGURATIONS, trusted.clone()).await;
    let bind = |id: &Value| format!("{web}/beta/deviceManagement/deviceConfigurations('{}')", id.as_str().unwrap());
    let bodies = [
        (trusted, trusted_made.clone()),
        (
            json!({
                "@odata.type": "#microsoft.graph.windowsIdentityProtectionConfiguration", "displayName": "Hello", "windowsHelloForBusinessBlocked": false,
                "pinMinimumLength": 6, "pinMaximumLength": 127, "pinUppercaseCharactersUsage": "notConfigured", "pinLowercaseCharactersUsage": "blocked",
                "pinRecoveryEnabled": true, "securityDeviceRequired": true, "unlockWithBiometricsEnabled": true, "useSecurityKeyForSignin": true,
                "enhancedAntiSpoofingForFacialFeaturesEnabled": true,
            }),
            Value::Null,
        ),
        (
            json!({
                "@odata.type": "#microsoft.graph.windows81SCEPCertificateProfile", "displayName": "User auth", "renewalThresholdPercentage": 25,
                "keyStorageProvider": "useTpmKspOtherwiseFail", "subjectNameFormat": "custom", "subjectNameFormatString": "CN={{UserPrincipalName}},O=X",
                "subjectAlternativeNameType": "none", "customSubjectAlternativeNames": [{ "sanType": "userPrincipalName", "name": "{{UserPrincipalName}}" }],
                "certificateValidityPeriodValue": 2, "certificateValidityPeriodScale": "years", "certificateStore": "user", "keySize": "size4096",
                "keyUsage": "digitalSignature,keyEncipherment", "hashAlgorithm": "sha2",
                "extendedKeyUsages": [{ "name": "Client Authentication", "objectIdentifier": "1.3.6.1.5.5.7.3.2" }],
                "scepServerUrls": [format!("{web}/scep/issuing")],
            }),
            Value::Null,
        ),
        (
            json!({
                "@odata.type": "#microsoft.graph.macOSScepCertificateProfile", "displayName": "Mac auth", "renewalThresholdPercentage": 20,
                "subjectNameFormat": "commonNameAsSerialNumber", "customSubjectAlternativeNames": [], "certificateValidityPeriodValue": 6,
                "certificateValidityPeriodScale": "months", "certificateStore": "machine", "keySize": "size2048", "keyUsage": "digitalSignature",
            }),
            Value::Null,
        ),
        (
            json!({
                "@odata.type": "#microsoft.graph.windows10CustomConfiguration", "displayName": "Nodes", "omaSettings": [
                    { "@odata.type": "#microsoft.graph.omaSettingInteger", "displayName": "A", "description": null, "omaUri": "./Device/Vendor/MSFT/Policy/Config/Camera/AllowCamera", "value": 0 },
                    { "@odata.type": "#microsoft.graph.omaSettingString", "displayName": "B", "description": null, "omaUri": "./Device/Vendor/MSFT/Other/Node", "value": "x" },
                    { "@odata.type": "#microsoft.graph.omaSettingBoolean", "displayName": "C", "description": null, "omaUri": "./Device/Vendor/MSFT/Other/Flag", "value": true },
                ],
            }),
            Value::Null,
        ),
    ];
    for (body, made) in bodies {
        let mut body = body;
        if body["@odata.type"].as_str().unwrap().ends_with("windows81SCEPCertificateProfile") {
            body["rootCertificate@odata.bind"] = json!(bind(&trusted_made["id"]));
        }
        let made = if made.is_null() { caller.post(CONFIGURATIONS, body.clone()).await } else { made };
        let shown = caller.get(&format!("{CONFIGURATIONS}/{}", made["id"].as_str().unwrap())).await;
        // A text may be a secret, and is shown to nobody who does not ask for it.
        if let Some(text) = body.pointer_mut("/omaSettings/1/value") {
            *text = json!("(secret)");
        }
        for (name, value) in body.as_object().unwrap().iter().filter(|(name, _)| !name.ends_with("bind")) {
            assert_eq!(&shown[name], value, "{name} of {}", body["@odata.type"]);
        }
        let renamed = caller
            .send(Method::PATCH, &format!("{CONFIGURATIONS}/{}", made["id"].as_str().unwrap()), Some(json!({ "description": "d" })))
            .await;
        let renamed: Value = renamed.json().await.unwrap();
        assert_eq!((&renamed["description"], &renamed["@odata.type"]), (&json!("d"), &body["@odata.type"]));
    }
    let mac = names(&caller.get(&format!("{CONFIGURATIONS}?$filter=displayName%20eq%20'Mac%20auth'")).await, "id").remove(0);
    let path = format!("{CONFIGURATIONS}/{mac}");
    let years: Value =
        caller.send(Method::PATCH, &path, Some(json!({ "certificateValidityPeriodScale": "days" }))).await.json().await.unwrap();
    assert_eq!((&years["certificateValidityPeriodValue"], &years["certificateValidityPeriodScale"]), (&json!(6), &json!("days")));
    for (body, name) in [
        (json!({ "@odata.type": "#microsoft.graph.deviceConfiguration", "displayName": "X" }), "abstract"),
        (
            json!({ "@odata.type": "#microsoft.graph.windowsIdentityProtectionConfiguration", "displayName": "X", "pinMinimumLength": 3 }),
            "too short",
        ),
        (
            json!({ "@odata.type": "#microsoft.graph.windowsIdentityProtectionConfiguration", "displayName": "X", "pinLowercaseCharactersUsage": "maybe" }),
            "no word",
        ),
        (
            json!({ "@odata.type": "#microsoft.graph.windows81TrustedRootCertificate", "displayName": "X", "trustedRootCertificate": "AAAA" }),
            "no certificate",
        ),
        (
            json!({ "@odata.type": "#microsoft.graph.windows81SCEPCertificateProfile", "displayName": "X", "scepServerUrls": ["https://evil.example/scep"] }),
            "elsewhere",
        ),
        (
            json!({ "@odata.type": "#microsoft.graph.windows81SCEPCertificateProfile", "displayName": "X", "rootCertificate@odata.bind": bind(&json!("01900000-0000-7000-8000-000000000000")) }),
            "no root",
        ),
        (
            json!({ "@odata.type": "#microsoft.graph.windows81SCEPCertificateProfile", "displayName": "X", "rootCertificate@odata.bind": format!("https://evil.example/beta/deviceManagement/deviceConfigurations('{}')", trusted_made["id"].as_str().unwrap()) }),
            "elsewhere's root",
        ),
        (
            json!({ "@odata.type": "#microsoft.graph.windows81SCEPCertificateProfile", "displayName": "X", "keyUsage": "cRLSign" }),
            "no such usage",
        ),
        (json!({ "@odata.type": "#microsoft.graph.windows10CustomConfiguration", "displayName": "X", "cameraBlocked": true }), "unknown"),
    ] {
        assert_eq!(caller.refused(Method::POST, CONFIGURATIONS, Some(body)).await.0, 400, "{name}");
    }
    let v1 = caller
        .refused(
            Method::POST,
            "/v1.0/deviceManagement/deviceConfigurations",
            Some(json!({ "@odata.type": "#microsoft.graph.windows81SCEPCertificateProfile", "displayName": "X" })),
        )
        .await;
    assert_eq!(v1, (400, "ModelValidationFailure".to_owned()), "only beta has the type");
    // Profiles of the command line that no type has a shape for are there, too.
    for (_, draft) in profile::ready().unwrap() {
        if profile::apply(&caller.server.app, draft, &by()).await.is_err() {
            // Those that need something of the organisation's first.
            continue;
        }
    }
    let all = caller.get(&format!("{CONFIGURATIONS}?$top=100&$orderby=displayName")).await;
    assert!(all["value"].as_array().unwrap().len() > 12);
    assert!(
        all["value"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["@odata.type"].as_str().is_some_and(|kind| kind.starts_with("#microsoft.graph.")))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_pc_gets_what_was_assigned_over_the_api() {
    let house = House::new().await;
    let all: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| !scope.is_of_a_person()).collect();
    let (application, secret) = register(&house.server, &all).await;
    let token = token(&house.server, &application, &secret).await;
    let mut device = house.enroll(1).await;
    let group = directory::create_group(&house.server.app, "PCs", "", &by()).await.unwrap();
    directory::add_members(&house.server.app, &group.id, vec![Member::User(house.user.clone())], &by()).await.unwrap();
    let user = house.user.clone();
    let House { server, .. } = house;
    let caller = Caller::of(server, token);
    let assign = async |path: &str, made: &Value| {
        let target = json!({ "@odata.type": "#microsoft.graph.groupAssignmentTarget", "groupId": group.id });
        let path = format!("{path}/{}/assign", made["id"].as_str().unwrap());
        caller.post(&path, json!({ "assignments": [{ "target": target }] })).await;
    };
    let hello = json!({
        "@odata.type": "#microsoft.graph.windowsIdentityProtectionConfiguration", "displayName": "Hello", "windowsHelloForBusinessBlocked": false,
        "pinMinimumLength": 8,
    });
    let scep = json!({
        "@odata.type": "#microsoft.graph.windows81SCEPCertificateProfile", "displayName": "Device", "subjectNameFormat": "commonNameAsIntuneDeviceId",
        "certificateStore": "machine", "certificateValidityPeriodValue": 1, "certificateValidityPeriodScale": "years", "keySize": "size2048",
        "keyUsage": "digitalSignature",
    });
    for body in [hello, scep] {
        let made = caller.post(CONFIGURATIONS, body).await;
        assign(CONFIGURATIONS, &made).await;
    }
    let made = caller.post(POLICIES, windows("Baseline")).await;
    assign(POLICIES, &made).await;
    device.settle().await.unwrap();
    let lengths = device.tree.leaves("./Device/Vendor/MSFT/PassportForWork");
    assert!(lengths.iter().any(|(uri, value)| uri.ends_with("MinimumPINLength") && value == "8"), "{lengths:?}");
    let certificates = device.tree.leaves("./Device/Vendor/MSFT/ClientCertificateInstall/SCEP");
    assert!(certificates.iter().any(|(uri, value)| uri.ends_with("/CertThumbprint") && !value.is_empty()), "{certificates:?}");
    assert!(certificates.iter().any(|(uri, value)| uri.ends_with("/KeyUsage") && value == "128"), "{certificates:?}");
    let managed = caller.get(&format!("/v1.0/deviceManagement/managedDevices?$filter=userId%20eq%20'{user}'")).await;
    let shown = &managed["value"][0];
    assert_eq!((&shown["userPrincipalName"], &shown["complianceState"]), (&json!(UPN), &json!("compliant")), "{shown}");
    assert_eq!(shown["managedDeviceOwnerType"], "personal", "nobody listed it");
    assert!(shown["managementCertificateExpirationDate"].as_str().unwrap() > "2026", "{shown}");
    let path = format!("/v1.0/deviceManagement/managedDevices/{}", shown["id"].as_str().unwrap());
    let states = caller.get(&format!("{path}/deviceCompliancePolicyStates")).await;
    let ours = states["value"].as_array().unwrap().iter().find(|one| one["displayName"] == "Baseline").unwrap();
    assert_eq!((&ours["state"], &ours["platformType"]), (&json!("compliant"), &json!("windows10AndLater")));
    assert!(
        ours["settingStates"].as_array().unwrap().iter().any(|one| one["setting"] == "bitLockerEnabled" && one["state"] == "compliant")
    );
    let states = caller.get(&format!("{path}/deviceConfigurationStates")).await;
    let states = states["value"].as_array().unwrap();
    assert_eq!(states.len(), 2, "{states:?}");
    for one in states {
        let held = ["compliant", "remediated"].contains(&one["state"].as_str().unwrap());
        assert!(held && one["platformType"] == "windows10AndLater" && one["version"] == 1, "{one}");
        let settings = one["settingStates"].as_array().unwrap();
        assert!(!settings.is_empty() && one["settingCount"] == settings.len() && settings.iter().all(|one| one["errorCode"] == 0), "{one}");
    }
    assert_eq!(caller.send(Method::POST, &format!("{path}/rebootNow"), None).await.status(), 204);
    device.session().await.unwrap();
    let results = caller.get(&path).await["deviceActionResults"].clone();
    assert_eq!((&results[0]["actionName"], &results[0]["actionState"]), (&json!("rebootNow"), &json!("done")), "{results}");
}
