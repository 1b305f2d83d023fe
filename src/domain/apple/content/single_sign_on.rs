//! `single-sign-on`: the organisation's build of the extension signs people in at this server's identity service, on Macs with Platform SSO.
//! The profile says what the organisation chooses; what the server knows better (addresses, extension, token) it fills in.

use serde_json::{Map, Value, json};

use crate::catalogue::payload::System;
use crate::domain::Refusal;
use crate::domain::apple::sso;
use crate::domain::profile::Payload;
use crate::wire::apple::profile::{Content, Profile};
use crate::wire::plist::{self, Dict};

/// The payload's type in documents.
pub const KIND: &str = "single-sign-on";
const DOMAINS: &str = "com.apple.associated-domains";
/// Keys of Apple's payload that a profile may say.
const FREE: [&str; 4] = ["ScreenLockedBehavior", "DeniedBundleIdentifiers", DATA, PLATFORM_SSO];
/// The key of the associated domains that a profile for Macs may say.
pub const DIRECT: &str = "EnableDirectDownloads";
const PLATFORM_SSO: &str = "PlatformSSO";
const TOKEN: &str = "RegistrationToken";
const BASE_URL: &str = "BaseURL";
const DATA: &str = "ExtensionData";
/// How people prove who they are: what the identity service speaks.
const METHODS: [&str; 3] = ["UserSecureEnclaveKey", "Password", "SmartCard"];
/// Those that macOS 13 knows, and where it looks for them.
const OLD_METHODS: [&str; 2] = ["UserSecureEnclaveKey", "Password"];
/// Letters of a team's identifier.
const TEAM: usize = 10;
/// Longest identifier of a bundle.
const LONGEST: usize = 155;

/// An application or extension: who signed it, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The team.
    pub team: String,
    /// The bundle's identifier.
    pub id: String,
}

impl Bundle {
    /// Reads `TEAMID.bundle.id`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (team, id) = text.split_once('.')?;
        let signed = team.len() == TEAM && team.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (signed && id.len() <= LONGEST && id.split('.').all(label)).then(|| Self { team: team.to_owned(), id: id.to_owned() })
    }
}

impl std::fmt::Display for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.team, self.id)
    }
}

/// This server as extensions see it, and which they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityService {
    /// The web face, without a slash at the end.
    pub url: String,
    /// Its host.
    pub host: String,
    /// The organisation's id, below which the service answers.
    pub tenant: String,
    /// Applications beside the extensions that stand for the host.
    pub apps: Vec<Bundle>,
    /// The extension on Macs.
    pub macos: Option<Bundle>,
    /// The extension on iPhones and iPads.
    pub ios: Option<Bundle>,
}

impl IdentityService {
    /// One with both extensions: shows what is wrong with the rest of a profile.
    #[must_use]
    pub fn samples() -> Self {
        let bundle = |id: &str| Some(Bundle { team: "CHECK00000".into(), id: id.into() });
        Self {
            url: "https://check".into(),
            host: "check".into(),
            tenant: "check".into(),
            apps: Vec::new(),
            macos: bundle("check.mac"),
            ios: bundle("check.ios"),
        }
    }

    /// The extension on a system.
    ///
    /// # Errors
    /// [`Refusal::SsoExtensionUnset`].
    pub fn extension(&self, system: System) -> Result<&Bundle, Refusal> {
        let own = match system {
            System::Mac => &self.macos,
            System::Ios => &self.ios,
        };
        own.as_ref().ok_or(Refusal::SsoExtensionUnset)
    }

    /// Every application and extension that stands for the host, each once.
    #[must_use]
    pub fn associated(&self) -> Vec<&Bundle> {
        let mut all: Vec<&Bundle> = Vec::new();
        for bundle in self.apps.iter().chain(&self.macos).chain(&self.ios) {
            if !all.contains(&bundle) {
                all.push(bundle);
            }
        }
        all
    }
}

/// Whether a payload is one of these.
#[must_use]
pub fn is_own(payload: &Payload) -> bool {
    payload.kind == KIND
}

/// The payloads with Apple's own in the place of these.
///
/// # Errors
/// The name of the payload and what is wrong with it.
pub fn expanded(payloads: &[Payload], service: &IdentityService, system: System) -> Result<Vec<Payload>, (String, String)> {
    let mut all = Vec::new();
    for payload in payloads {
        if !is_own(payload) {
            all.push(payload.clone());
            continue;
        }
        let own = expand(payload, service, system).map_err(|why| (payload.name.clone(), why))?;
        if let Some(taken) = own.iter().skip(1).find(|own| payloads.iter().any(|other| other.name == own.name)) {
            return Err((payload.name.clone(), format!("name: it takes {} for itself, too", taken.name)));
        }
        all.extend(own);
    }
    Ok(all)
}

fn expand(payload: &Payload, service: &IdentityService, system: System) -> Result<Vec<Payload>, String> {
    let extension = service.extension(system).map_err(|refusal| refusal.to_string())?;
    let mac = system == System::Mac;
    let mut said = payload.body.clone();
    let direct = if mac { said.remove(DIRECT) } else { None };
    if let Some(key) = said.keys().find(|key| !FREE.contains(&key.as_str())) {
        return Err(format!("{key}: {KIND} has no such key, or the server fills it in"));
    }
    if said.contains_key(PLATFORM_SSO) && !mac {
        return Err(format!("{PLATFORM_SSO}: only Macs have it"));
    }
    let data = said.get(DATA).and_then(Value::as_object);
    if let Some(key) = [BASE_URL, TOKEN].into_iter().find(|key| data.is_some_and(|data| data.contains_key(*key))) {
        return Err(format!("{DATA}/{key}: the server fills it in"));
    }
    let mut body = json!({
        "ExtensionIdentifier": extension.id, "Type": "Redirect", "URLs": [format!("{}/", service.url)], "ScreenLockedBehavior": "DoNotHandle",
        DATA: { BASE_URL: format!("{}/{}", service.url, service.tenant) },
    });
    let known = if mac {
        // A place for the token: it is filled in when the profile is delivered.
        json!({
            "TeamIdentifier": extension.team, TOKEN: "",
            PLATFORM_SSO: {
                "AuthenticationMethod": METHODS[0], "UseSharedDeviceKeys": true, "AllowDeviceIdentifiersInAttestation": true,
                "TokenToUserMapping": { "AccountName": "preferred_username", "FullName": "name" },
            },
        })
    } else {
        json!({ DATA: { TOKEN: "" } })
    };
    lay_over(&mut body, known);
    lay_over(&mut body, Value::Object(said));
    let Value::Object(mut body) = body else { return Err("no table".into()) };
    if mac {
        let method = body.get(PLATFORM_SSO).and_then(|own| own.get("AuthenticationMethod")).and_then(Value::as_str).unwrap_or_default();
        if !METHODS.contains(&method) {
            return Err(format!("{PLATFORM_SSO}/AuthenticationMethod: one of {}", METHODS.join(", ")));
        }
        if let Some(method) = OLD_METHODS.into_iter().find(|old| *old == method) {
            body.insert("AuthenticationMethod".into(), method.into());
        }
    }
    let mut own = vec![Payload { kind: sso::PAYLOAD.into(), name: payload.name.clone(), body }];
    if mac {
        own.push(Payload { kind: DOMAINS.into(), name: format!("{}-domains", payload.name), body: domains(service, direct.as_ref()) });
    }
    Ok(own)
}

/// The payload by which a Mac believes that the extension stands for the host; iPhones and iPads read it out of the application.
fn domains(service: &IdentityService, direct: Option<&Value>) -> Map<String, Value> {
    let one = |bundle: &Bundle| {
        let mut entry = json!({ "ApplicationIdentifier": bundle.to_string(), "AssociatedDomains": [format!("authsrv:{}", service.host)] });
        if let Some((direct, entry)) = direct.zip(entry.as_object_mut()) {
            entry.insert(DIRECT.into(), direct.clone());
        }
        entry
    };
    let all: Vec<Value> = service.associated().into_iter().filter(|bundle| service.ios.as_ref() != Some(bundle)).map(one).collect();
    Map::from_iter([("Configuration".to_owned(), all.into())])
}

/// Puts what `over` says over what stands there, table by table.
fn lay_over(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// Whether a payload has a place for a token: the device's version may have none.
#[must_use]
pub fn takes_token(body: &Dict) -> bool {
    body.get(TOKEN).is_some() || body.dict(DATA).is_some_and(|data| data.get(TOKEN).is_some())
}

/// Puts the token into a payload of a profile that is put together. The profile's UUID does not depend on it.
pub fn fill_token(profile: &mut Profile, payload: &str, token: &str) {
    let name = format!("{}.{payload}", profile.identifier);
    let Content::Plain(payloads) = &mut profile.content else { return };
    let Some(payload) = payloads.iter_mut().find(|payload| payload.kind == sso::PAYLOAD && payload.identifier == name) else { return };
    if payload.body.get(TOKEN).is_some() {
        payload.body.insert(TOKEN, token);
    } else if let Some(plist::Value::Dict(data)) = payload.body.remove(DATA) {
        payload.body.insert(DATA, data.with(TOKEN, token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> IdentityService {
        IdentityService {
            url: "https://id.example.org".into(),
            host: "id.example.org".into(),
            tenant: "t".into(),
            apps: vec![Bundle::parse("ABCDE12345.org.example.app").unwrap()],
            macos: Bundle::parse("ABCDE12345.org.example.app.sso"),
            ios: Bundle::parse("ABCDE12345.org.example.phone.sso"),
        }
    }

    fn payload(body: Value) -> Payload {
        let Value::Object(body) = body else { panic!() };
        Payload { kind: KIND.into(), name: "sso".into(), body }
    }

    fn made(body: Value, system: System) -> Result<Vec<Payload>, String> {
        expanded(&[payload(body)], &service(), system).map_err(|(at, why)| {
            assert_eq!(at, "sso");
            why
        })
    }

    #[test]
    fn bundles_are_a_team_and_an_identifier() {
        assert_eq!(Bundle::parse("ABCDE12345.org.example.sso").unwrap().to_string(), "ABCDE12345.org.example.sso");
        for wrong in ["", "org.example.sso", "ABCDE12345", "ABCDE12345.", "abcde12345.org.example", "ABCDE12345.a..b", "ABCDE12345.a b"] {
            assert_eq!(Bundle::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_mac_gets_platform_sso_with_a_key_in_its_secure_enclave() {
        let own = made(json!({}), System::Mac).unwrap();
        assert_eq!((own[0].kind.as_str(), own[0].name.as_str()), ("com.apple.extensiblesso", "sso"));
        let expected = json!({
            "ExtensionIdentifier": "org.example.app.sso", "TeamIdentifier": "ABCDE12345", "Type": "Redirect", "URLs": ["https://id.example.org/"],
            "ScreenLockedBehavior": "DoNotHandle", "AuthenticationMethod": "UserSecureEnclaveKey", "RegistrationToken": "",
            "ExtensionData": { "BaseURL": "https://id.example.org/t" },
            "PlatformSSO": { "AuthenticationMethod": "UserSecureEnclaveKey", "UseSharedDeviceKeys": true, "AllowDeviceIdentifiersInAttestation": true,
                "TokenToUserMapping": { "AccountName": "preferred_username", "FullName": "name" } },
        });
        assert_eq!(Value::Object(own[0].body.clone()), expected);
        assert_eq!((own[1].kind.as_str(), own[1].name.as_str()), ("com.apple.associated-domains", "sso-domains"));
        let domain = json!(["authsrv:id.example.org"]);
        let expected = json!([{ "ApplicationIdentifier": "ABCDE12345.org.example.app", "AssociatedDomains": domain },
            { "ApplicationIdentifier": "ABCDE12345.org.example.app.sso", "AssociatedDomains": domain }]);
        assert_eq!(own[1].body["Configuration"], expected);
    }

    #[test]
    fn what_the_profile_says_goes_over_what_the_server_takes_for_granted() {
        for (method, old) in [("Password", Some("Password")), ("SmartCard", None)] {
            let said = json!({ "PlatformSSO": { "AuthenticationMethod": method, "TokenToUserMapping": { "FullName": "display" } },
                "ExtensionData": { "Colour": 7 }, "EnableDirectDownloads": true });
            let own = made(said, System::Mac).unwrap();
            assert_eq!(own[0].body.get("AuthenticationMethod").and_then(Value::as_str), old, "macOS 13 knows no smart cards");
            let sso = &own[0].body["PlatformSSO"];
            assert_eq!((sso["AuthenticationMethod"].as_str(), sso["UseSharedDeviceKeys"].as_bool()), (Some(method), Some(true)));
            assert_eq!(sso["TokenToUserMapping"], json!({ "AccountName": "preferred_username", "FullName": "display" }));
            assert_eq!(own[0].body["ExtensionData"], json!({ "BaseURL": "https://id.example.org/t", "Colour": 7 }));
            assert_eq!(own[1].body["Configuration"][1]["EnableDirectDownloads"], json!(true));
        }
    }

    #[test]
    fn an_iphone_gets_the_extension_with_its_token_among_the_data() {
        let own = made(json!({}), System::Ios).unwrap();
        let expected = json!({ "ExtensionIdentifier": "org.example.phone.sso", "Type": "Redirect", "URLs": ["https://id.example.org/"],
            "ScreenLockedBehavior": "DoNotHandle", "ExtensionData": { "BaseURL": "https://id.example.org/t", "RegistrationToken": "" } });
        assert_eq!((own.len(), Value::Object(own[0].body.clone())), (1, expected));
    }

    #[test]
    fn what_the_server_fills_in_nobody_writes() {
        for (body, system, at) in [
            (json!({ "TeamIdentifier": "ABCDE12345" }), System::Mac, "TeamIdentifier"),
            (json!({ "RegistrationToken": "t" }), System::Mac, "RegistrationToken"),
            (json!({ "URLs": [] }), System::Ios, "URLs"),
            (json!({ "ExtensionData": { "BaseURL": "x" } }), System::Mac, "ExtensionData/BaseURL"),
            (json!({ "ExtensionData": { "RegistrationToken": "x" } }), System::Ios, "ExtensionData/RegistrationToken"),
            (json!({ "PlatformSSO": {} }), System::Ios, "PlatformSSO"),
            (json!({ "PlatformSSO": 1 }), System::Mac, "PlatformSSO/AuthenticationMethod"),
            (json!({ "PlatformSSO": { "AuthenticationMethod": "OpenID" } }), System::Mac, "PlatformSSO/AuthenticationMethod"),
            (json!({ "EnableDirectDownloads": true }), System::Ios, "EnableDirectDownloads"),
        ] {
            let why = made(body, system).unwrap_err();
            assert!(why.starts_with(&format!("{at}: ")), "{why}");
        }
        let domains = Payload { kind: "com.apple.wifi.managed".into(), name: "sso-domains".into(), body: Map::new() };
        let taken = expanded(&[payload(json!({})), domains], &service(), System::Mac).unwrap_err();
        assert!(taken.1.contains("sso-domains"), "{taken:?}");
        let none = IdentityService { macos: None, ..service() };
        let (_, why) = expanded(&[payload(json!({}))], &none, System::Mac).unwrap_err();
        assert!(why.starts_with("PRF0013"), "{why}");
    }

    #[test]
    fn each_bundle_stands_for_the_host_once() {
        let twice = IdentityService { apps: vec![service().macos.unwrap()], ..service() };
        let names: Vec<String> = twice.associated().into_iter().map(Bundle::to_string).collect();
        assert_eq!(names, ["ABCDE12345.org.example.app.sso", "ABCDE12345.org.example.phone.sso"]);
    }
}
