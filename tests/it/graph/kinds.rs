//! Kinds of configurations over the API that are profiles of the command line, and identities of people.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::domain::access::{Reach, Scope};
use muster::domain::device::Platform;
use muster::domain::group::Member;
use muster::domain::profile::{Document, Kind, Payload};
use muster::service::profile::{self, Draft};
use muster::service::{directory, pfx_password};
use muster::store::audit;
use openssl::encrypt::Encrypter;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Padding;
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{delegated, give_within};
use super::{Caller, by, names, user};
use crate::support::ca::Ca;

const CONFIGURATIONS: &str = "/beta/deviceManagement/deviceConfigurations";
const IDENTITIES: &str = "/beta/deviceManagement/userPfxCertificates";

fn path(made: &Value) -> String {
    format!("{CONFIGURATIONS}/{}", made["id"].as_str().unwrap())
}

/// The profile as the command line has it.
async fn document(caller: &Caller, made: &Value) -> Document {
    let id = muster::ids::ProfileId::parse(made["id"].as_str().unwrap()).unwrap();
    profile::read(&caller.server.app, &id, true, &by()).await.unwrap().document
}

async fn patched(caller: &Caller, made: &Value, body: Value) -> Value {
    let answer = caller.send(Method::PATCH, &path(made), Some(body)).await;
    let status = answer.status();
    let body = answer.text().await.unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[actix_web::test]
async fn keys_of_the_server_and_of_people_are_profiles_of_the_command_line() {
    let caller = Caller::everything().await;
    let body = json!({
        "@odata.type": "#microsoft.graph.macOSPkcsCertificateProfile", "displayName": "Key", "subjectNameFormat": "custom",
        "subjectNameFormatString": "CN={{UserPrincipalName}},O=X", "certificateStore": "user", "certificateValidityPeriodValue": 2,
        "certificateValidityPeriodScale": "years", "allowAllAppsAccess": true, "renewalThresholdPercentage": 30,
    });
    let made = caller.post(CONFIGURATIONS, body).await;
    assert_eq!((&made["deploymentChannel"], &made["certificationAuthorityName"]), (&json!("deviceChannel"), &json!("issuing")));
    let kept = document(&caller, &made).await.payloads.remove(0);
    let template = json!({ "scope": "user", "subject": "CN={{UserPrincipalName}},O=X", "days": 730 });
    assert_eq!((kept.kind.as_str(), &kept.body["template"], &kept.body["renew-percent"]), ("pkcs12", &template, &json!(30)));
    // What only the command line says stays.
    let mut payload = kept;
    payload.body.insert("key".into(), json!("rsa-4096"));
    payload.body.insert("extractable".into(), json!(true));
    let draft = Draft {
        display_name: "Key".into(),
        kind: Kind::Configuration,
        platform: Platform::MacOs,
        document: Document { payloads: vec![payload], ..Document::default() },
    };
    profile::apply(&caller.server.app, draft, &by()).await.unwrap();
    let changed = patched(&caller, &made, json!({ "allowAllAppsAccess": false, "certificateValidityPeriodValue": 1 })).await;
    assert_eq!((&changed["allowAllAppsAccess"], &changed["certificateValidityPeriodScale"]), (&json!(false), &json!("years")));
    let kept = document(&caller, &made).await.payloads.remove(0).body;
    assert_eq!((&kept["key"], &kept["extractable"], &kept["template"]["days"]), (&json!("rsa-4096"), &json!(true), &json!(365)));

    let mail =
        json!({ "@odata.type": "#microsoft.graph.iosImportedPFXCertificateProfile", "displayName": "Mail", "intendedPurpose": "vpn" });
    let made = caller.post(CONFIGURATIONS, mail).await;
    let kept = document(&caller, &made).await.payloads.remove(0);
    assert_eq!((kept.kind.as_str(), &kept.body["purpose"]), ("imported-pfx", &json!("vpn")));
    assert_eq!(patched(&caller, &made, json!({ "intendedPurpose": "wifi" })).await["intendedPurpose"], "wifi");

    let kind = |name: &str, more: Value| {
        let mut body = json!({ "@odata.type": format!("#microsoft.graph.{name}"), "displayName": "X" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (name, more, says) in [
        ("macOSPkcsCertificateProfile", json!({ "certificationAuthority": "ca.elsewhere.example" }), "certificationAuthority"),
        ("macOSPkcsCertificateProfile", json!({ "certificationAuthorityName": "Other" }), "certificationAuthorityName"),
        ("macOSPkcsCertificateProfile", json!({ "certificateTemplateName": "User" }), "certificateTemplateName"),
        ("macOSPkcsCertificateProfile", json!({ "deploymentChannel": "both" }), "deploymentChannel"),
        ("iosPkcsCertificateProfile", json!({ "deploymentChannel": "deviceChannel" }), "deploymentChannel"),
        ("iosPkcsCertificateProfile", json!({ "allowAllAppsAccess": true }), "allowAllAppsAccess"),
        ("iosImportedPFXCertificateProfile", json!({ "intendedPurpose": "unassigned" }), "intendedPurpose"),
        ("macOSImportedPFXCertificateProfile", json!({ "renewalThresholdPercentage": 20 }), "renewalThresholdPercentage"),
        ("windows10PkcsCertificateProfile", json!({}), "windows81SCEPCertificateProfile"),
        ("windows81PkcsCertificateProfile", json!({}), "windows81SCEPCertificateProfile"),
        ("windows10ImportedPFXCertificateProfile", json!({}), "windows10ImportedPFXCertificateProfile"),
    ] {
        let answer = caller.send(Method::POST, CONFIGURATIONS, Some(kind(name, more))).await;
        assert_eq!(answer.status(), 400, "{name}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(says), "{name}: {text}");
    }
    let channel = caller.post(CONFIGURATIONS, kind("macOSScepCertificateProfile", json!({ "certificateStore": "machine", "subjectNameFormat": "commonNameAsSerialNumber", "deploymentChannel": "userChannel", "allowAllAppsAccess": true }))).await;
    assert_eq!((&channel["deploymentChannel"], &channel["allowAllAppsAccess"]), (&json!("userChannel"), &json!(true)));
    assert_eq!(document(&caller, &channel).await.scope, Some(muster::domain::profile::Scope::User));
}

#[actix_web::test]
async fn an_extension_is_a_profile_and_its_data_stay_hidden() {
    let caller = Caller::everything().await;
    let pair = |kind: &str, key: &str, value: Value| json!({ "@odata.type": format!("#microsoft.graph.key{kind}ValuePair"), "key": key, "value": value });
    let extension = |pairs: Value| {
        json!({ "@odata.type": "#microsoft.graph.macOSRedirectSingleSignOnExtension", "extensionIdentifier": "org.example.sso",
            "teamIdentifier": "ABCDE12345", "urlPrefixes": ["https://idp.example.org/"], "configurations": pairs })
    };
    let body = json!({
        "@odata.type": "#microsoft.graph.macOSDeviceFeaturesConfiguration", "displayName": "SSO",
        "macOSSingleSignOnExtension": extension(json!([pair("String", "secret", json!("hunter2")), pair("Integer", "attempts", json!(3))])),
    });
    let made = caller.post(CONFIGURATIONS, body).await;
    let hidden = json!([pair("String", "secret", json!("(secret)")), pair("Integer", "attempts", json!(3))]);
    assert_eq!(made["macOSSingleSignOnExtension"], extension(hidden.clone()), "texts may be secrets");
    // What comes back as it was shown stays; what is not there any more goes, and what Graph has no property for stays.
    let mut payload = document(&caller, &made).await.payloads.remove(0);
    payload.body.insert("ScreenLockedBehavior".into(), json!("DoNotHandle"));
    let draft = Draft {
        display_name: "SSO".into(),
        kind: Kind::Configuration,
        platform: Platform::MacOs,
        document: Document { payloads: vec![payload], ..Document::default() },
    };
    profile::apply(&caller.server.app, draft, &by()).await.unwrap();
    patched(&caller, &made, json!({ "macOSSingleSignOnExtension": extension(json!([hidden[0], pair("Boolean", "quiet", json!(true))])) }))
        .await;
    let kept = document(&caller, &made).await.payloads.remove(0).body;
    assert_eq!(kept["ExtensionData"], json!({ "secret": "hunter2", "quiet": true }));
    assert_eq!((&kept["ScreenLockedBehavior"], &kept["Type"]), (&json!("DoNotHandle"), &json!("Redirect")));

    let kerberos = json!({ "@odata.type": "#microsoft.graph.macOSKerberosSingleSignOnExtension", "realm": "X.EXAMPLE", "domains": ["x.example"], "blockAutomaticLogin": true });
    let changed = patched(&caller, &made, json!({ "macOSSingleSignOnExtension": kerberos })).await;
    assert_eq!(changed["macOSSingleSignOnExtension"]["blockAutomaticLogin"], true);
    let kept = document(&caller, &made).await.payloads.remove(0).body;
    assert_eq!((&kept["Type"], &kept["TeamIdentifier"], &kept["Hosts"]), (&json!("Credential"), &json!("apple"), &json!(["x.example"])));
    assert_eq!(kept["ExtensionData"]["allowAutomaticLogin"], false);
    assert!(!kept.contains_key("URLs"), "{kept:?}");

    let plain = |extension: Value| json!({ "macOSSingleSignOnExtension": extension });
    let twice = extension(json!([pair("Integer", "n", json!(1)), pair("Integer", "n", json!(2))]));
    let mut unknown = kerberos.clone();
    unknown["domainRealms"] = json!(["Y.EXAMPLE"]);
    let mut shape = kerberos.clone();
    shape["realm"] = json!(7);
    for (body, says) in [
        (plain(Value::Null), "macOSSingleSignOnExtension"),
        (plain(json!({ "@odata.type": "#microsoft.graph.macOSAzureAdSingleSignOnExtension" })), "macOSRedirectSingleSignOnExtension"),
        (plain(json!({ "@odata.type": "#microsoft.graph.iosRedirectSingleSignOnExtension" })), "macOSRedirectSingleSignOnExtension"),
        (plain(unknown), "domainRealms"),
        (plain(shape), "realm"),
        (plain(twice), "configurations"),
        (plain(extension(json!([{ "key": "a", "value": "b" }]))), "configurations"),
        (json!({ "adminShowHostInfo": true }), "adminShowHostInfo"),
        (json!({ "singleSignOnExtension": { "@odata.type": "#microsoft.graph.kerberosSingleSignOnExtension" } }), "singleSignOnExtension"),
    ] {
        let answer = caller.send(Method::PATCH, &path(&made), Some(body.clone())).await;
        assert_eq!(answer.status(), 400, "{body}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(says), "{body}: {text}");
    }
    let platform = Payload {
        kind: "com.apple.extensiblesso".into(),
        name: "sso".into(),
        body: json!({ "ExtensionIdentifier": "org.example.sso", "TeamIdentifier": "ABCDE12345", "Type": "Redirect",
            "URLs": ["https://other.example.org/"], "PlatformSSO": { "AuthenticationMethod": "Password" } })
        .as_object()
        .unwrap()
        .clone(),
    };
    let document = Document { payloads: vec![platform], ..Document::default() };
    let draft = Draft { display_name: "Platform SSO".into(), kind: Kind::Configuration, platform: Platform::MacOs, document };
    profile::apply(&caller.server.app, draft, &by()).await.unwrap();
    let found = caller.get(&format!("{CONFIGURATIONS}?$filter=displayName%20eq%20'Platform%20SSO'")).await;
    assert_eq!(found["value"][0]["@odata.type"], "#microsoft.graph.macOSCustomConfiguration", "it is more than its extension");
}

/// A file, its password encrypted for the server's key, and the thumbprint.
pub(super) async fn file(caller: &Caller, password: &[u8]) -> (Vec<u8>, Vec<u8>, String) {
    let key = pfx_password::public(&caller.server.app).await.unwrap();
    let public = PKey::public_key_from_pem(key.pem.as_bytes()).unwrap();
    let leaf = Ca::new("Mail CA").leaf("ana", &[]);
    let mut builder = openssl::pkcs12::Pkcs12::builder();
    builder.pkey(&leaf.key).cert(&leaf.certificate);
    let content = builder.build2("p").unwrap().to_der().unwrap();
    let thumbprint = hex::encode_upper(leaf.certificate.digest(MessageDigest::sha1()).unwrap());
    let mut encrypter = Encrypter::new(&public).unwrap();
    encrypter.set_rsa_padding(Padding::PKCS1_OAEP).unwrap();
    encrypter.set_rsa_oaep_md(MessageDigest::sha384()).unwrap();
    encrypter.set_rsa_mgf1_md(MessageDigest::sha384()).unwrap();
    let mut sealed = vec![0; encrypter.encrypt_len(password).unwrap()];
    let length = encrypter.encrypt(password, &mut sealed).unwrap();
    sealed.truncate(length);
    (content, sealed, thumbprint)
}

async fn identity(caller: &Caller, upn: &str) -> Value {
    let (content, password, thumbprint) = file(caller, b"p").await;
    let key = pfx_password::public(&caller.server.app).await.unwrap();
    json!({
        "userPrincipalName": upn, "encryptedPfxBlob": STANDARD.encode(content), "encryptedPfxPassword": STANDARD.encode(password),
        "keyName": key.key_name, "providerName": "Muster", "paddingScheme": "oaepSha384", "intendedPurpose": "smimeSigning",
        "thumbprint": thumbprint, "startDateTime": "2026-01-01T00:00:00Z",
    })
}

#[actix_web::test]
async fn an_identity_comes_in_and_its_key_never_out() {
    let caller = Caller::everything().await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let bob = user(&caller.server, "bob@x.example", "Bob").await;
    let body = identity(&caller, "ana@x.example").await;
    let made = caller.post(IDENTITIES, body.clone()).await;
    let thumbprint = body["thumbprint"].as_str().unwrap();
    assert_eq!(made["id"], format!("{}-{thumbprint}", ana.id));
    for property in ["userPrincipalName", "keyName", "providerName", "paddingScheme", "intendedPurpose", "thumbprint"] {
        assert_eq!(made[property], body[property], "{property}");
    }
    assert!(made["encryptedPfxBlob"].is_null() && made["encryptedPfxPassword"].is_null());
    caller.post(IDENTITIES, identity(&caller, "bob@x.example").await).await;
    let found = caller.get(&format!("{IDENTITIES}?$filter=userPrincipalName%20eq%20'ANA@x.example'&$count=true")).await;
    assert_eq!((names(&found, "thumbprint"), &found["@odata.count"]), (vec![thumbprint.to_owned()], &json!(1)));
    let one = format!("{IDENTITIES}/{}", made["id"].as_str().unwrap());
    let changed = caller.send(Method::PATCH, &one, Some(json!({ "intendedPurpose": "wifi" }))).await.json::<Value>().await.unwrap();
    assert_eq!((&changed["intendedPurpose"], &changed["keyName"]), (&json!("wifi"), &body["keyName"]));
    // The whole object as scripts send it again.
    assert_eq!(caller.send(Method::PATCH, &one, Some(body.clone())).await.status(), 200);

    let other = identity(&caller, "ana@x.example").await;
    let with = |property: &str, value: Value| {
        let mut body = other.clone();
        body[property] = value;
        body
    };
    let (_, pkcs1, _) = file(&caller, b"wrong").await;
    for (body, says) in [
        (with("keyName", json!("other")), "PFX0005"),
        (with("providerName", json!("Microsoft Software Key Storage Provider")), "PFX0005"),
        (with("encryptedPfxPassword", json!("AAAA")), "PFX0005"),
        (with("paddingScheme", json!("oaepSha256")), "PFX0005"),
        (with("paddingScheme", json!("pkcs1")), "paddingScheme"),
        (with("encryptedPfxPassword", json!(STANDARD.encode(pkcs1))), "PFX0001"),
        (with("thumbprint", json!("00")), "PFX0006"),
        (with("userPrincipalName", json!("nobody@x.example")), "userPrincipalName"),
        (with("intendedPurpose", json!("unassigned")), "intendedPurpose"),
        (with("intendedPurpose", Value::Null), "intendedPurpose"),
        (with("encryptedPfxBlob", Value::Null), "encryptedPfxBlob"),
        (with("keyName", Value::Null), "keyName"),
        (with("colour", json!("blue")), "colour"),
        (body.clone(), "PFX0003"),
    ] {
        let answer = caller.send(Method::POST, IDENTITIES, Some(body)).await;
        assert_eq!(answer.status(), 400, "{says}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(says), "{says}: {text}");
    }
    for (body, says) in [
        (other.clone(), "PFX0006"),
        (with("thumbprint", body["thumbprint"].clone()), "PFX0006"),
        (json!({ "userPrincipalName": "bob@x.example" }), "userPrincipalName"),
        (json!({ "encryptedPfxPassword": "AAAA" }), "encryptedPfxBlob"),
    ] {
        let text = caller.send(Method::PATCH, &one, Some(body)).await.text().await.unwrap();
        assert!(text.contains(says), "{says}: {text}");
    }

    // Who is bound to a group sees and brings those of its people; certificates are another role's than profiles.
    let sales = directory::create_group(&caller.server.app, "Sales", "", &by()).await.unwrap().id;
    directory::add_members(&caller.server.app, &sales, vec![Member::User(ana.id.clone())], &by()).await.unwrap();
    for (word, name) in [("certificate-manager", "cert@x.example"), ("policy-manager", "pol@x.example")] {
        let person = user(&caller.server, name, name).await;
        give_within(&caller.server, word, &person.id, Reach::Groups([sales.clone()].into())).await;
    }
    let token = delegated(&caller.server, "cert@x.example", Scope::ALL).await;
    let policies = delegated(&caller.server, "pol@x.example", Scope::ALL).await;
    let bound = Caller::of(caller.server, token);
    assert_eq!(names(&bound.get(IDENTITIES).await, "userPrincipalName"), ["ana@x.example"]);
    assert_eq!(bound.refused(Method::POST, IDENTITIES, Some(with("userPrincipalName", json!("bob@x.example")))).await.0, 400);
    assert_eq!(bound.refused(Method::GET, &format!("{IDENTITIES}/{}-00", bob.id), None).await.0, 404);
    bound.post(IDENTITIES, other.clone()).await;
    assert_eq!(bound.send(Method::DELETE, &one, None).await.status(), 204);
    assert_eq!(bound.refused(Method::GET, &one, None).await.0, 404);
    let policies = Caller::of(bound.server, policies);
    assert_eq!(policies.refused(Method::POST, IDENTITIES, Some(other)).await, (403, "Authorization_RequestDenied".to_owned()));
    let rows = policies.server.app.store.read(|conn| audit::list(conn, 0, 1000)).await.unwrap();
    let said: Vec<&str> = rows.iter().map(|row| row.action.as_str()).filter(|action| action.starts_with("pfx.")).collect();
    assert_eq!(said, ["pfx.import", "pfx.import", "pfx.update", "pfx.update", "pfx.import", "pfx.delete"]);
}
