//! What an SSO extension's payload must say beyond types and versions: the rules that devices enforce only by not working.

use serde_json::{Map, Value};

use crate::domain::profile::Payload;

/// The payload of an extension that signs people in.
pub const PAYLOAD: &str = "com.apple.extensiblesso";
/// The same as a declaration.
pub const DECLARATION: &str = "com.apple.configuration.extensible-sso";
/// The places of keys in the declaration that have another place in the payload. The rules are the same.
const PLACES: [(&str, &str); 16] = [
    ("PlatformSSO/UserCreation/EnableAtLogin", "PlatformSSO/EnableCreateUserAtLogin"),
    ("PlatformSSO/UserCreation/EnableRegistrationDuringSetup", "PlatformSSO/EnableRegistrationDuringSetup"),
    ("PlatformSSO/UserCreation/NewUserAuthenticationMethods", "PlatformSSO/NewUserAuthenticationMethods"),
    ("PlatformSSO/Authorization/EnableIdentityProviderAccounts", "PlatformSSO/EnableAuthorization"),
    ("PlatformSSO/Authorization/AdministratorGroups", "PlatformSSO/AdministratorGroups"),
    ("PlatformSSO/Authorization/AdditionalGroups", "PlatformSSO/AdditionalGroups"),
    ("PlatformSSO/AccessKey/ReaderGroupIdentifier", "PlatformSSO/AccessKeyReaderGroupIdentifier"),
    ("PlatformSSO/AccessKey/TerminalIdentityAssetReference", "PlatformSSO/AccessKeyTerminalIdentityUUID"),
    ("PlatformSSO/AccessKey/ReaderIssuerCertificateAssetReference", "PlatformSSO/AccessKeyReaderIssuerCertificateUUID"),
    ("PlatformSSO/Policies/FileVault", "PlatformSSO/FileVaultPolicy"),
    ("PlatformSSO/Policies/Login", "PlatformSSO/LoginPolicy"),
    ("PlatformSSO/Policies/Unlock", "PlatformSSO/UnlockPolicy"),
    ("PlatformSSO/Policies/OfflineGracePeriod", "PlatformSSO/OfflineGracePeriod"),
    ("PlatformSSO/Policies/AuthenticationGracePeriod", "PlatformSSO/AuthenticationGracePeriod"),
    ("PlatformSSO/Policies/NonPlatformSSOAccounts", "PlatformSSO/NonPlatformSSOAccounts"),
    ("PlatformSSO/WebAuthentication/URLAllowList", "PlatformSSO/WebLoginURLAllowList"),
];
/// Most groups that one key may name.
const MOST_GROUPS: usize = 100;
/// Most HTTP headers that the system adds to its requests.
const MOST_HEADERS: usize = 20;

/// Where the payload is to be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// A Mac; otherwise an iPhone or iPad.
    pub mac: bool,
    /// A user's channel; otherwise the device's.
    pub user_channel: bool,
}

/// Checks the keys of a payload [`PAYLOAD`]. What comes back are warnings: allowed, and dangerous.
///
/// # Errors
/// The place and what is wrong there.
pub fn check(body: &Map<String, Value>, place: Place) -> Result<Vec<String>, String> {
    let fail = |at: &str, why: &str| Err(format!("{at}: {why}"));
    let redirect = text(body, "Type") == Some("Redirect");
    if place.mac && text(body, "TeamIdentifier").is_none_or(str::is_empty) {
        return fail("TeamIdentifier", "a Mac needs the team that signed the extension");
    }
    let platform = body.get("PlatformSSO").and_then(Value::as_object).filter(|_| place.mac);
    if redirect {
        let urls = texts(body, "URLs");
        if urls.is_empty() && platform.is_none() {
            return fail("URLs", "an extension that answers redirects needs the addresses it answers for");
        }
        if let Some(url) = urls.iter().find(|url| !is_prefix(url)) {
            return fail("URLs", &format!("{url} is no http or https address without query and fragment"));
        }
    } else if texts(body, "Hosts").is_empty() {
        return fail("Hosts", "an extension that answers challenges needs the hosts it answers for");
    }
    let method = platform.and_then(|sso| text(sso, "AuthenticationMethod")).or_else(|| text(body, "AuthenticationMethod"));
    if place.mac && body.contains_key("RegistrationToken") && method.is_none() {
        return fail("RegistrationToken", "has an effect only with an AuthenticationMethod");
    }
    let Some(sso) = platform else { return Ok(Vec::new()) };
    if !redirect {
        return fail("PlatformSSO", "works only with the type Redirect");
    }
    shared_keys(sso, method, place)?;
    if let Some(list) = ["AdministratorGroups", "AdditionalGroups"].into_iter().find(|list| texts(sso, list).len() > MOST_GROUPS) {
        return fail(&format!("PlatformSSO/{list}"), &format!("names more than {MOST_GROUPS} groups"));
    }
    if sso.get("AdditionalHTTPHeaders").and_then(Value::as_object).is_some_and(|headers| headers.len() > MOST_HEADERS) {
        return fail("PlatformSSO/AdditionalHTTPHeaders", &format!("has more than {MOST_HEADERS} headers"));
    }
    let methods = texts(sso, "NewUserAuthenticationMethods");
    if method == Some("OpenID") && texts(sso, "WebLoginURLAllowList").is_empty() {
        return fail("PlatformSSO/WebLoginURLAllowList", "OpenID needs the addresses that the login window may show");
    }
    if methods.contains(&"AccessKey") {
        let needed = ["AccessKeyReaderGroupIdentifier", "AccessKeyTerminalIdentityUUID", "AccessKeyReaderIssuerCertificateUUID"];
        if let Some(missing) = needed.into_iter().find(|key| !sso.contains_key(*key)) {
            return fail(&format!("PlatformSSO/{missing}"), "access keys need it");
        }
    }
    policies(sso, method)
}

/// Checks the keys of a declaration [`DECLARATION`], by the rules of the payload and in the declaration's own words.
///
/// # Errors
/// As [`check`].
pub fn check_declared(body: &Map<String, Value>, place: Place) -> Result<Vec<String>, String> {
    const IDENTIFIER: &str = "ExtensionComposedIdentifier";
    let composed = text(body, IDENTIFIER).unwrap_or_default();
    let team =
        composed.strip_suffix(')').and_then(|rest| rest.split_once(" (")).filter(|(bundle, team)| !bundle.is_empty() && !team.is_empty());
    match (place.mac, team) {
        (true, None) => {
            return Err(format!("{IDENTIFIER}: on Macs it is the extension with its team, as in \"org.example.sso (ABCDE12345)\""));
        }
        (false, Some(_)) => return Err(format!("{IDENTIFIER}: on iPhones and iPads it is the extension alone, without a team")),
        _ => {}
    }
    let mut as_payload = body.clone();
    if let Some((_, team)) = team {
        as_payload.insert("TeamIdentifier".into(), team.into());
    }
    if let Some(Value::Object(flat)) = as_payload.get_mut("PlatformSSO") {
        for (ours, theirs) in PLACES {
            if let (Some(value), Some((_, key))) = (at(body, ours), theirs.split_once('/')) {
                flat.insert(key.to_owned(), value.clone());
            }
        }
    }
    if let Some(token) = at(body, "PlatformSSO/RegistrationToken") {
        as_payload.insert("RegistrationToken".into(), token.clone());
    }
    check(&as_payload, place).map_err(|why| in_declared_words(&why))
}

/// What is wrong, with the places as the declaration has them.
fn in_declared_words(why: &str) -> String {
    let Some((at, what)) = why.split_once(": ") else { return why.to_owned() };
    let at = match at {
        "RegistrationToken" => "PlatformSSO/RegistrationToken",
        _ => PLACES.iter().find(|(_, theirs)| *theirs == at).map_or(at, |(ours, _)| ours),
    };
    format!("{at}: {what}")
}

/// The bodies of those that say which extension answers for which addresses, as payload or as declaration.
pub fn extensions<'a>(payloads: impl IntoIterator<Item = &'a Payload>) -> impl Iterator<Item = &'a Map<String, Value>> {
    let extensions = payloads.into_iter().filter(|payload| matches!(payload.kind.as_str(), PAYLOAD | DECLARATION));
    extensions.map(|payload| &payload.body)
}

/// The address that two payloads of one device claim: no two extensions may answer for one address. Scheme and host are compared without
/// regard to case.
#[must_use]
pub fn doubled<'a>(payloads: impl IntoIterator<Item = &'a Map<String, Value>>) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    for body in payloads {
        let own: std::collections::BTreeSet<String> =
            texts(body, "URLs").into_iter().map(folded).chain(texts(body, "Hosts").into_iter().map(str::to_ascii_lowercase)).collect();
        for address in own {
            if !seen.insert(address.clone()) {
                return Some(address);
            }
        }
    }
    None
}

fn folded(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    format!("{}://{}/{}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase(), path.unwrap_or_default())
}

fn is_prefix(url: &str) -> bool {
    let rest = ["https://", "http://"].into_iter().find_map(|scheme| {
        let head = url.get(..scheme.len())?;
        url.get(scheme.len()..).filter(|_| head.eq_ignore_ascii_case(scheme))
    });
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', ' ']))
}

/// What needs keys that all users of the Mac share, and with them the device's channel.
fn shared_keys(sso: &Map<String, Value>, method: Option<&str>, place: Place) -> Result<(), String> {
    let on = |key: &str| sso.get(key).and_then(Value::as_bool).unwrap_or(false);
    let shared = on("UseSharedDeviceKeys");
    let needs = ["EnableCreateUserAtLogin", "EnableAuthorization", "EnableRegistrationDuringSetup"].into_iter().find(|key| on(key));
    let needs = needs.or_else(|| (method == Some("OpenID")).then_some("AuthenticationMethod"));
    if let Some(key) = needs.filter(|_| !shared) {
        return Err(format!("PlatformSSO/{key}: needs UseSharedDeviceKeys"));
    }
    if shared && place.user_channel {
        return Err("PlatformSSO/UseSharedDeviceKeys: works only on the device's channel".into());
    }
    if on("EnableCreateUserAtLogin") && !matches!(method, Some("Password" | "SmartCard" | "OpenID")) {
        return Err("PlatformSSO/EnableCreateUserAtLogin: needs the method Password, SmartCard or OpenID".into());
    }
    Ok(())
}

/// The three policies: what may stand in them depends on the method, and periods of grace belong to their flags.
fn policies(sso: &Map<String, Value>, method: Option<&str>) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    let mut flags = Vec::new();
    for name in ["FileVaultPolicy", "LoginPolicy", "UnlockPolicy"] {
        let policy = texts(sso, name);
        if policy.is_empty() {
            continue;
        }
        let has = |flag: &str| policy.contains(&flag);
        let live = ["AttemptAuthentication", "RequireAuthentication"].into_iter().filter(|flag| has(flag)).count();
        let grace = ["AllowOfflineGracePeriod", "AllowAuthenticationGracePeriod"].into_iter().filter(|flag| has(flag));
        match method {
            Some("Password") => {
                if live > 1 || (live == 0 && grace.count() > 0) {
                    return Err(format!("PlatformSSO/{name}: holds exactly one of AttemptAuthentication and RequireAuthentication"));
                }
            }
            _ => {
                let allowed = |flag: &str| method == Some("OpenID") && flag == "AllowOfflineGracePeriod";
                if live > 0 || grace.into_iter().any(|flag| !allowed(flag)) {
                    return Err(format!("PlatformSSO/{name}: only the method Password can require an authentication"));
                }
            }
        }
        if has("RequireAuthentication") && texts(sso, "NonPlatformSSOAccounts").is_empty() {
            warnings.push(format!("{name} can lock out local administrators: name them in NonPlatformSSOAccounts"));
        }
        flags.extend(policy);
    }
    for (flag, period) in
        [("AllowOfflineGracePeriod", "OfflineGracePeriod"), ("AllowAuthenticationGracePeriod", "AuthenticationGracePeriod")]
    {
        match (flags.contains(&flag), sso.contains_key(period)) {
            (true, false) => return Err(format!("PlatformSSO/{period}: {flag} needs it")),
            (false, true) => return Err(format!("PlatformSSO/{period}: has an effect only with {flag}")),
            _ => {}
        }
    }
    Ok(warnings)
}

fn at<'a>(body: &'a Map<String, Value>, place: &str) -> Option<&'a Value> {
    let mut keys = place.split('/');
    let first = body.get(keys.next()?)?;
    keys.try_fold(first, |value, key| value.get(key))
}

fn text<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    body.get(key)?.as_str()
}

fn texts<'a>(body: &'a Map<String, Value>, key: &str) -> Vec<&'a str> {
    body.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MAC: Place = Place { mac: true, user_channel: false };
    const PHONE: Place = Place { mac: false, user_channel: false };

    fn body(sso: Value) -> Map<String, Value> {
        let mut body = json!({"TeamIdentifier": "T", "Type": "Redirect", "URLs": ["https://idp.example.org/"]});
        if !sso.is_null() {
            body["PlatformSSO"] = sso;
        }
        body.as_object().unwrap().clone()
    }

    fn says(sso: Value) -> Result<Vec<String>, String> {
        check(&body(sso), MAC)
    }

    #[track_caller]
    fn refused(answer: Result<Vec<String>, String>, at: &str) {
        let problem = answer.unwrap_err();
        assert!(problem.starts_with(&format!("{at}:")), "{problem}");
    }

    #[test]
    fn what_works_passes() {
        assert_eq!(says(Value::Null), Ok(vec![]));
        assert_eq!(says(json!({"AuthenticationMethod": "UserSecureEnclaveKey", "UseSharedDeviceKeys": true})), Ok(vec![]));
        let policy = json!({"AuthenticationMethod": "Password", "LoginPolicy": ["RequireAuthentication", "AllowOfflineGracePeriod"],
            "OfflineGracePeriod": 3600, "NonPlatformSSOAccounts": ["admin"]});
        assert_eq!(says(policy), Ok(vec![]));
        assert_eq!(says(json!({"AuthenticationMethod": "UserSecureEnclaveKey", "UnlockPolicy": ["RequireTouchID"]})), Ok(vec![]));
        let phone = json!({"Type": "Credential", "Hosts": [".example.org"]});
        assert_eq!(check(phone.as_object().unwrap(), PHONE), Ok(vec![]));
    }

    #[test]
    fn addresses_and_teams_must_be_there_and_sound() {
        let with = |key: &str, value: Value| {
            let mut body = body(Value::Null);
            body.insert(key.into(), value);
            check(&body, MAC)
        };
        refused(with("TeamIdentifier", json!("")), "TeamIdentifier");
        refused(with("URLs", json!([])), "URLs");
        refused(with("Type", json!("Credential")), "Hosts");
        for url in ["idp.example.org", "ftp://h/", "https://h/?q", "https://h/#f", "https:///p", "https://"] {
            refused(with("URLs", json!([url])), "URLs");
        }
        refused(with("RegistrationToken", json!("t")), "RegistrationToken");
        let mut credential = body(json!({"AuthenticationMethod": "Password"}));
        credential.insert("Type".into(), json!("Credential"));
        credential.insert("Hosts".into(), json!(["h"]));
        refused(check(&credential, MAC), "PlatformSSO");
    }

    #[test]
    fn shared_keys_are_needed_where_several_users_are_served() {
        for key in ["EnableCreateUserAtLogin", "EnableAuthorization", "EnableRegistrationDuringSetup"] {
            refused(says(json!({"AuthenticationMethod": "Password", key: true})), &format!("PlatformSSO/{key}"));
            assert!(says(json!({"AuthenticationMethod": "Password", key: true, "UseSharedDeviceKeys": true})).is_ok());
        }
        refused(says(json!({"AuthenticationMethod": "OpenID", "WebLoginURLAllowList": ["https://h"]})), "PlatformSSO/AuthenticationMethod");
        refused(says(json!({"AuthenticationMethod": "OpenID", "UseSharedDeviceKeys": true})), "PlatformSSO/WebLoginURLAllowList");
        let key = json!({"AuthenticationMethod": "UserSecureEnclaveKey", "UseSharedDeviceKeys": true, "EnableCreateUserAtLogin": true});
        refused(says(key), "PlatformSSO/EnableCreateUserAtLogin");
        let shared = body(json!({"AuthenticationMethod": "Password", "UseSharedDeviceKeys": true}));
        refused(check(&shared, Place { user_channel: true, ..MAC }), "PlatformSSO/UseSharedDeviceKeys");
    }

    #[test]
    fn policies_fit_the_method_and_grace_its_flag() {
        let password = |policy: Value| says(json!({"AuthenticationMethod": "Password", "LoginPolicy": policy}));
        refused(password(json!(["AttemptAuthentication", "RequireAuthentication"])), "PlatformSSO/LoginPolicy");
        refused(password(json!(["AllowOfflineGracePeriod"])), "PlatformSSO/LoginPolicy");
        refused(password(json!(["RequireAuthentication", "AllowOfflineGracePeriod"])), "PlatformSSO/OfflineGracePeriod");
        assert_eq!(password(json!(["RequireAuthentication"])).unwrap().len(), 1, "a warning");
        refused(says(json!({"AuthenticationMethod": "Password", "AuthenticationGracePeriod": 1})), "PlatformSSO/AuthenticationGracePeriod");
        let key = json!({"AuthenticationMethod": "SmartCard", "FileVaultPolicy": ["AttemptAuthentication"]});
        refused(says(key), "PlatformSSO/FileVaultPolicy");
    }

    #[test]
    fn a_declaration_is_held_to_the_same_rules_in_its_own_words() {
        let declared = |identifier: &str, sso: Value, place: Place| {
            let mut body = json!({"ExtensionComposedIdentifier": identifier, "Type": "Redirect", "URLs": ["https://idp.example.org/"]});
            if !sso.is_null() {
                body["PlatformSSO"] = sso;
            }
            check_declared(body.as_object().unwrap(), place)
        };
        let mac = |sso: Value| declared("org.example.sso (ABCDE12345)", sso, MAC);
        let works = json!({"AuthenticationMethod": "Password", "RegistrationToken": "t", "UseSharedDeviceKeys": true,
            "UserCreation": {"EnableAtLogin": true}, "Policies": {"Login": ["AttemptAuthentication"]}});
        assert_eq!(mac(works), Ok(vec![]));
        assert_eq!(declared("org.example.sso", Value::Null, PHONE), Ok(vec![]));
        for identifier in ["org.example.sso", "org.example.sso ()", " (ABCDE12345)", "org.example.sso(ABCDE12345)"] {
            refused(declared(identifier, Value::Null, MAC), "ExtensionComposedIdentifier");
        }
        refused(declared("org.example.sso (ABCDE12345)", Value::Null, PHONE), "ExtensionComposedIdentifier");
        refused(mac(json!({"RegistrationToken": "t"})), "PlatformSSO/RegistrationToken");
        let method = |method: &str, more: Value| {
            let mut sso = more;
            sso["AuthenticationMethod"] = method.into();
            mac(sso)
        };
        refused(method("Password", json!({"UserCreation": {"EnableAtLogin": true}})), "PlatformSSO/UserCreation/EnableAtLogin");
        let accounts = json!({"Authorization": {"EnableIdentityProviderAccounts": true}});
        refused(method("Password", accounts), "PlatformSSO/Authorization/EnableIdentityProviderAccounts");
        refused(method("SmartCard", json!({"Policies": {"Unlock": ["RequireAuthentication"]}})), "PlatformSSO/Policies/Unlock");
        let grace = json!({"Policies": {"Login": ["RequireAuthentication", "AllowOfflineGracePeriod"]}});
        refused(method("Password", grace), "PlatformSSO/Policies/OfflineGracePeriod");
        refused(method("OpenID", json!({"UseSharedDeviceKeys": true})), "PlatformSSO/WebAuthentication/URLAllowList");
        let key = json!({"UserCreation": {"NewUserAuthenticationMethods": ["AccessKey"]}});
        refused(method("Password", key), "PlatformSSO/AccessKey/ReaderGroupIdentifier");
        let warned = method("Password", json!({"Policies": {"Login": ["RequireAuthentication"]}})).unwrap();
        assert!(warned[0].contains("NonPlatformSSOAccounts"), "{warned:?}");
    }

    #[test]
    fn lists_have_ends() {
        let groups: Vec<String> = (0..=MOST_GROUPS).map(|n| n.to_string()).collect();
        refused(says(json!({"AdditionalGroups": groups})), "PlatformSSO/AdditionalGroups");
        let headers: Map<String, Value> = (0..=MOST_HEADERS).map(|n| (n.to_string(), json!("x"))).collect();
        refused(says(json!({"AdditionalHTTPHeaders": headers})), "PlatformSSO/AdditionalHTTPHeaders");
        let at = "PlatformSSO/AccessKeyReaderGroupIdentifier";
        refused(says(json!({"NewUserAuthenticationMethods": ["AccessKey"]})), at);
    }

    #[test]
    fn no_address_is_answered_by_two() {
        let (one, two) = (body(Value::Null), json!({"URLs": ["HTTPS://IDP.example.org"]}));
        assert_eq!(doubled([&one, two.as_object().unwrap()]), Some("https://idp.example.org/".into()));
        let path = json!({"URLs": ["https://idp.example.org/P"]});
        assert_eq!(doubled([&one, path.as_object().unwrap()]), None);
        let hosts = json!({"Hosts": ["A.example.org"]});
        assert_eq!(
            doubled([hosts.as_object().unwrap(), json!({"Hosts": ["a.example.org"]}).as_object().unwrap()]),
            Some("a.example.org".into())
        );
    }
}
