//! The settings catalogue over the API: policies are profiles, and what there is no payload for is refused by name.

use muster::domain::profile::Document;
use muster::service::profile;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Caller, by, names};

const POLICIES: &str = "/beta/deviceManagement/configurationPolicies";
const SETTINGS: &str = "/beta/deviceManagement/configurationSettings";
const ROOT: &str = "com.apple.extensiblesso_com.apple.extensiblesso";
const TENANT: &str = "device_vendor_msft_passportforwork_{tenantid}";

fn of(kind: &str, id: &str, property: &str, value: Value) -> Value {
    let kind = format!("#microsoft.graph.deviceManagementConfiguration{kind}SettingInstance");
    let mut whole = json!({ "@odata.type": kind, "settingDefinitionId": id });
    whole[property] = value;
    whole
}

fn choice(id: &str, end: &str) -> Value {
    of("Choice", id, "choiceSettingValue", json!({ "value": format!("{id}_{end}"), "children": [] }))
}

fn text(id: &str, value: &str) -> Value {
    of(
        "Simple",
        id,
        "simpleSettingValue",
        json!({ "@odata.type": "#microsoft.graph.deviceManagementConfigurationStringSettingValue", "value": value }),
    )
}

fn number(id: &str, value: i64) -> Value {
    of(
        "Simple",
        id,
        "simpleSettingValue",
        json!({ "@odata.type": "#microsoft.graph.deviceManagementConfigurationIntegerSettingValue", "value": value }),
    )
}

fn texts(id: &str, all: &[&str]) -> Value {
    let kind = "#microsoft.graph.deviceManagementConfigurationStringSettingValue";
    let all: Vec<Value> = all.iter().map(|one| json!({ "@odata.type": kind, "value": one })).collect();
    of("", id, "simpleSettingCollectionValue", json!(all)).tap_kind("SimpleSettingCollectionInstance")
}

fn group(id: &str, children: &[Value]) -> Value {
    of("", id, "groupSettingCollectionValue", json!([{ "children": children }])).tap_kind("GroupSettingCollectionInstance")
}

fn choices(id: &str, ends: &[&str]) -> Value {
    let all: Vec<Value> = ends.iter().map(|end| json!({ "value": format!("{id}_{end}"), "children": [] })).collect();
    of("", id, "choiceSettingCollectionValue", json!(all)).tap_kind("ChoiceSettingCollectionInstance")
}

trait Kind {
    fn tap_kind(self, name: &str) -> Self;
}

impl Kind for Value {
    fn tap_kind(mut self, name: &str) -> Self {
        self["@odata.type"] = json!(format!("#microsoft.graph.deviceManagementConfiguration{name}"));
        self
    }
}

fn policy(name: &str, platform: &str, instances: &[Value]) -> Value {
    let settings: Vec<Value> = instances.iter().map(|one| json!({ "settingInstance": one })).collect();
    json!({ "name": name, "description": "d", "platforms": platform, "technologies": "mdm", "settings": settings })
}

fn sso(at: &str) -> String {
    format!("com.apple.extensiblesso_{at}")
}

/// Platform SSO as Intune's own policies have it.
fn platform_sso() -> Value {
    group(
        ROOT,
        &[
            text(&sso("extensionidentifier"), "org.example.sso"),
            group(
                &sso("platformsso"),
                &[
                    text(&sso("platformsso_accountdisplayname"), "Work"),
                    choice(&sso("platformsso_authenticationmethod"), "0"),
                    choices(&sso("platformsso_filevaultpolicy"), &["0"]),
                    number(&sso("platformsso_loginfrequency"), 7200),
                    group(
                        &sso("platformsso_tokentousermapping"),
                        &[text(&sso("platformsso_tokentousermapping_accountname"), "preferred_username")],
                    ),
                    choice(&sso("platformsso_useshareddevicekeys"), "true"),
                ],
            ),
            text(&sso("registrationtoken"), "{{DEVICEREGISTRATION}}"),
            choice(&sso("screenlockedbehavior"), "1"),
            text(&sso("teamidentifier"), "ABCDE12345"),
            choice(&sso("type"), "1"),
            texts(&sso("urls"), &["https://idp.example.org/"]),
        ],
    )
}

async fn document(caller: &Caller, made: &Value) -> Document {
    let id = muster::ids::ProfileId::parse(made["id"].as_str().unwrap()).unwrap();
    profile::read(&caller.server.app, &id, true, &by()).await.unwrap().document
}

fn instances(settings: &Value) -> Vec<Value> {
    settings["value"].as_array().unwrap().iter().map(|one| one["settingInstance"].clone()).collect()
}

#[actix_web::test]
async fn a_policy_of_the_catalogue_is_a_profile_and_a_profile_a_policy() {
    let caller = Caller::everything().await;
    let made = caller.post(POLICIES, policy("Platform SSO", "macOS", &[platform_sso()])).await;
    assert_eq!((&made["name"], &made["platforms"], &made["settingCount"]), (&json!("Platform SSO"), &json!("macOS"), &json!(1)));
    assert_eq!((&made["isAssigned"], &made["technologies"]), (&json!(false), &json!("mdm")));
    let kept = document(&caller, &made).await.payloads.remove(0);
    assert_eq!(kept.kind, "com.apple.extensiblesso");
    let expected = json!({
        "AuthenticationMethod": "Password", "AccountDisplayName": "Work", "FileVaultPolicy": ["AttemptAuthentication"],
        "LoginFrequency": 7200, "TokenToUserMapping": { "AccountName": "preferred_username" }, "UseSharedDeviceKeys": true,
    });
    assert_eq!(kept.body["PlatformSSO"], expected);
    assert_eq!((&kept.body["Type"], &kept.body["RegistrationToken"]), (&json!("Redirect"), &json!("{{DEVICEREGISTRATION}}")));
    let path = format!("{POLICIES}/{}", made["id"].as_str().unwrap());
    let shown = instances(&caller.get(&format!("{path}/settings")).await);
    let mut hidden = platform_sso();
    hidden["groupSettingCollectionValue"][0]["children"][2]["simpleSettingValue"]["value"] = json!("(secret)");
    assert_eq!(shown, [hidden.clone()], "all comes back, but for the token");
    let whole = caller.get(&format!("{path}?$expand=settings,assignments&$select=name,settings")).await;
    assert_eq!((&whole["settings"][0]["id"], &whole["assignments"]), (&json!("0"), &json!([])));

    // What was shown goes back with a change: the token stays, and so does what the catalogue has no setting for.
    let mut body = hidden;
    body["groupSettingCollectionValue"][0]["children"][1]["groupSettingCollectionValue"][0]["children"].as_array_mut().unwrap().remove(2);
    body["groupSettingCollectionValue"][0]["children"][3] = choice(&sso("screenlockedbehavior"), "0");
    let put = caller.send(Method::PUT, &path, Some(policy("SSO", "macOS", &[body]))).await;
    assert_eq!(put.status(), 200, "{}", put.text().await.unwrap());
    let kept = document(&caller, &made).await.payloads.remove(0).body;
    assert_eq!((&kept["RegistrationToken"], kept["PlatformSSO"].get("FileVaultPolicy")), (&json!("{{DEVICEREGISTRATION}}"), None));
    assert_eq!(kept["ScreenLockedBehavior"], "Cancel");
    let renamed =
        caller.send(Method::PATCH, &path, Some(json!({ "name": "Mac SSO", "description": "" }))).await.json::<Value>().await.unwrap();
    assert_eq!((&renamed["name"], &renamed["description"], &renamed["settingCount"]), (&json!("Mac SSO"), &json!(""), &json!(1)));

    // The ready profiles are policies, too.
    for (file, draft) in profile::ready().unwrap() {
        if ["macos-platform-sso", "windows-hello-for-business", "macos-passcode", "ios-sso-extension"]
            .iter()
            .any(|name| file.starts_with(name))
        {
            profile::apply(&caller.server.app, draft, &by()).await.unwrap();
        }
    }
    let all = caller.get(&format!("{POLICIES}?$orderby=name&$count=true")).await;
    assert_eq!(names(&all, "name"), ["Mac SSO", "Platform SSO (Mac)", "Single sign-on (iPhone and iPad)", "Windows Hello for Business"]);
    assert_eq!(all["@odata.count"], 4);
    let windows = caller.get(&format!("{POLICIES}?$filter=platforms%20eq%20'windows10'&$expand=settings")).await;
    let settings: Vec<Value> =
        windows["value"][0]["settings"].as_array().unwrap().iter().map(|one| one["settingInstance"].clone()).collect();
    let tenant = settings.iter().find(|one| one["settingDefinitionId"] == TENANT).unwrap();
    let held = tenant["groupSettingCollectionValue"][0]["children"].as_array().unwrap();
    assert!(held.contains(&choice(&format!("{TENANT}_policies_usepassportforwork"), "true")), "{held:?}");
    assert!(held.contains(&number(&format!("{TENANT}_policies_pincomplexity_minimumpinlength"), 6)));
    assert!(settings.contains(&choice("device_vendor_msft_passportforwork_biometrics_usebiometrics", "true")), "{settings:?}");
    assert!(settings.contains(&choice("device_vendor_msft_passportforwork_securitykey_usesecuritykeyforsignin", "1")));
    // Each of them goes back as it came, and changes nothing.
    for one in all["value"].as_array().unwrap() {
        let path = format!("{POLICIES}/{}", one["id"].as_str().unwrap());
        let before = document(&caller, one).await;
        let shown = instances(&caller.get(&format!("{path}/settings")).await);
        let answer =
            caller.send(Method::PUT, &path, Some(policy(one["name"].as_str().unwrap(), one["platforms"].as_str().unwrap(), &shown))).await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        assert_eq!(document(&caller, one).await, Document { description: "d".into(), ..before });
    }
    let group = caller.post("/v1.0/groups", json!({ "displayName": "Macs" })).await;
    let target = json!({ "@odata.type": "#microsoft.graph.groupAssignmentTarget", "groupId": group["id"] });
    caller.post(&format!("{path}/assign"), json!({ "assignments": [{ "target": target }] })).await;
    assert_eq!(caller.get(&path).await["isAssigned"], true);
    assert_eq!(caller.get(&format!("{path}/assignments")).await["value"][0]["target"], target);
    assert_eq!(caller.send(Method::GET, &format!("{POLICIES}/$count"), None).await.text().await.unwrap(), "4");
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(caller.refused(Method::GET, &path, None).await.0, 404);
    let passcode = caller.get("/beta/deviceManagement/deviceConfigurations?$filter=displayName%20eq%20'Passcode%20(Mac)'&$select=id").await;
    if let Some(other) = passcode["value"].as_array().unwrap().first() {
        assert_eq!(caller.refused(Method::GET, &format!("{POLICIES}/{}", other["id"].as_str().unwrap()), None).await.0, 404);
    }
}

#[actix_web::test]
async fn what_no_payload_is_for_is_refused_by_its_id() {
    let caller = Caller::everything().await;
    let mac = |children: &[Value]| policy("X", "macOS", &[group(ROOT, children)]);
    let pc = |children: &[Value]| policy("X", "windows10", &[group(TENANT, children)]);
    let length = format!("{TENANT}_policies_pincomplexity_minimumpinlength");
    let wrong_kind = text(&length, "6");
    let with = |property: &str, value: Value| {
        let mut body = mac(&[choice(&sso("type"), "1")]);
        body[property] = value;
        body
    };
    let mut nested = choice(&sso("type"), "1");
    nested["choiceSettingValue"]["children"] = json!([text(&sso("realm"), "x")]);
    for (body, says) in [
        (
            policy("X", "windows10", &[choice("device_vendor_msft_policy_config_camera_allowcamera", "0")]),
            "device_vendor_msft_policy_config_camera_allowcamera",
        ),
        (mac(&[text(&sso("extensiondata"), "x")]), "com.apple.extensiblesso_extensiondata"),
        (mac(&[number(&length, 6)]), "it is not for macOS"),
        (policy("X", "iOS", &[group(ROOT, &[group(&sso("platformsso"), &[])])]), "it is not for iOS"),
        (policy("X", "windows10", &[number(&length, 6)]), "it belongs into device_vendor_msft_passportforwork_{tenantid}"),
        (policy("X", "macOS", &[text(&sso("realm"), "x")]), "it belongs into com.apple.extensiblesso_com.apple.extensiblesso"),
        (pc(&[number(&length, 6), number(&length, 7)]), "it is there twice"),
        (pc(&[wrong_kind]), "its value is a whole number"),
        (pc(&[choice(&length, "6")]), "its @odata.type is #microsoft.graph.deviceManagementConfigurationSimpleSettingInstance"),
        (pc(&[number(&length, 200)]), "PRF"),
        (mac(&[choice(&sso("type"), "7")]), "its values are com.apple.extensiblesso_type_0, _1"),
        (mac(&[nested]), "its values hold no settings"),
        (mac(&[number(&sso("realm"), 7)]), "its value is a text"),
        (policy("X", "macOS", &[]), "settings is a list"),
        (policy("X", "linux", &[platform_sso()]), "platforms"),
        (with("technologies", json!("exchangeOnline")), "technologies"),
        (with("templateReference", json!({ "templateId": "0f2b_1" })), "templateReference"),
        (with("colour", json!("blue")), "colour"),
        (with("settings", Value::Null), "settings"),
        (with("settings", json!([{}])), "settingInstance"),
        (with("name", Value::Null), "name"),
    ] {
        let answer = caller.send(Method::POST, POLICIES, Some(body.clone())).await;
        assert_eq!(answer.status(), 400, "{body}");
        let said = answer.text().await.unwrap();
        assert!(said.contains(says), "{says}: {said}");
    }
    let made = caller.post(POLICIES, pc(&[number(&length, 6)])).await;
    let path = format!("{POLICIES}/{}", made["id"].as_str().unwrap());
    for (method, body, says) in [
        (Method::PATCH, json!({ "settings": [] }), "PUT"),
        (Method::PUT, json!({ "name": "Y" }), "PUT"),
        (Method::PUT, policy("X", "macOS", &[platform_sso()]), "platforms"),
    ] {
        let said = caller.send(method, &path, Some(body)).await.text().await.unwrap();
        assert!(said.contains(says), "{says}: {said}");
    }
    assert_eq!(caller.refused(Method::GET, &path.replacen("/beta", "/v1.0", 1), None).await.0, 400, "only beta has it");
    assert_eq!(document(&caller, &made).await.settings["passport-for-work.pin-complexity.minimum-pin-length"], 6);
}

#[actix_web::test]
async fn definitions_say_what_each_setting_takes() {
    let caller = Caller::everything().await;
    let categories = caller.get("/beta/deviceManagement/configurationCategories").await;
    assert_eq!(names(&categories, "platforms"), ["macOS", "windows10"]);
    let id = categories["value"][1]["id"].as_str().unwrap();
    assert_eq!(
        caller.get(&format!("/beta/deviceManagement/configurationCategories/{id}")).await["displayName"],
        "Windows Hello For Business"
    );
    let all = caller.get(&format!("{SETTINGS}?$count=true")).await;
    let hello = caller.get(&format!("{SETTINGS}?$filter=categoryId%20eq%20'{id}'&$select=id")).await;
    let ids = names(&hello, "id");
    assert!(ids.len() > 20 && all["@odata.count"].as_u64().unwrap() > ids.len() as u64);
    assert!(ids.iter().all(|id| id.contains("_vendor_msft_")), "{ids:?}");
    let one = caller.get(&format!("{SETTINGS}/com.apple.extensiblesso_platformsso_authenticationmethod")).await;
    let options: Vec<_> = one["options"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["itemId"].as_str().unwrap(), one["displayName"].as_str().unwrap()))
        .collect();
    assert_eq!(options[1], ("com.apple.extensiblesso_platformsso_authenticationmethod_1", "UserSecureEnclaveKey"));
    assert_eq!(one["rootDefinitionId"], ROOT);
    // What a definition holds is there, and each but the roots is held by one.
    let defined = all["value"].as_array().unwrap();
    let held: Vec<&str> =
        defined.iter().flat_map(|one| one["childIds"].as_array().into_iter().flatten()).filter_map(Value::as_str).collect();
    for one in defined {
        let (id, root) = (one["id"].as_str().unwrap(), one["rootDefinitionId"].as_str().unwrap());
        assert_eq!(held.iter().filter(|held| **held == id).count(), usize::from(id != root), "{id}");
    }
    assert_eq!(caller.refused(Method::GET, &format!("{SETTINGS}/device_vendor_msft_bitlocker"), None).await.0, 404);
    assert_eq!(caller.get("/beta/deviceManagement/configurationPolicyTemplates").await["value"], json!([]));
}
