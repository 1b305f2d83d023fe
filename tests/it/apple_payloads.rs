//! The catalogue's payloads of Apple devices against Apple's schema: each row, and what they make of documents.

use muster::catalogue::payload::{Device, Form, Kind, System};
use muster::catalogue::{OsVersion, PayloadRow, catalogue};
use muster::domain::apple::profile::{About, Names, Part};
use muster::ids::TenantId;
use muster::wire::plist::Dict;
use serde_json::{Value, json};

use crate::support::apple_schema::{Described, Target, schema};

/// What Apple published after the schema that we hold: keys and values of `PlatformSSO`, with their versions in our rows.
const LATER: [&str; 14] = [
    "PlatformSSO/AllowDeviceIdentifiersInAttestation",
    "PlatformSSO/EnableRegistrationDuringSetup",
    "PlatformSSO/EnableCreateFirstUserDuringSetup",
    "PlatformSSO/NewUserAuthenticationMethods",
    "PlatformSSO/SynchronizeProfilePicture",
    "PlatformSSO/TemporarySessionQuickLogin",
    "PlatformSSO/AllowAccessKeyExpressMode",
    "PlatformSSO/AccessKeyReaderGroupIdentifier",
    "PlatformSSO/AccessKeyTerminalIdentityUUID",
    "PlatformSSO/AccessKeyReaderIssuerCertificateUUID",
    "PlatformSSO/AllowWebLoginPasswordSync",
    "PlatformSSO/WebLoginURLAllowList",
    "PlatformSSO/AlwaysUseLoginUI",
    "PlatformSSO/AdditionalHTTPHeaders",
];

/// Keys that the schema forgot.
const FORGOTTEN: [&str; 1] = ["VPN/RemoteAddress"];

fn kind_fits(kind: Kind, described: &str) -> bool {
    match kind {
        Kind::String | Kind::Reference => described == "string",
        Kind::Integer => described == "integer",
        Kind::Real => described == "real",
        Kind::Boolean => described == "boolean",
        Kind::Data => described == "data",
        Kind::Strings | Kind::References => described == "array of string",
        Kind::Integers => described == "array of integer",
        Kind::Dict => described == "dictionary",
        Kind::Dicts => described == "array of dictionary",
        Kind::Name => described == "array of array",
        Kind::Any => true,
    }
}

fn version(text: &str) -> OsVersion {
    OsVersion::parse(text).unwrap()
}

/// The first versions of macOS and iOS that have a key, from the row: its own, or that of what is around it.
fn since(row: &PayloadRow, at: &str, system: System) -> Option<OsVersion> {
    let own = row.key(at).and_then(|key| if system == System::Mac { key.macos } else { key.ios });
    match (own, at.rsplit_once('/')) {
        (Some(range), _) => range.since,
        (None, Some((around, _))) => since(row, around, system),
        (None, None) => (if system == System::Mac { row.macos } else { row.ios })?.since,
    }
}

#[test]
fn every_row_says_what_the_schema_says() {
    let Some(schema) = schema() else { return };
    let mut wrong = Vec::new();
    let mut rows = 0;
    for row in catalogue().payloads() {
        let Some((whole, keys)) = schema.keys_of(&row.id) else {
            wrong.push(format!("{}: not in the schema", row.id));
            continue;
        };
        let versions = |of: &Described| (of.since("macOS").map(version), of.since("iOS").map(version));
        if versions(&whole) != (row.macos.and_then(|r| r.since), row.ios.and_then(|r| r.since)) {
            wrong.push(format!("{}: other versions", row.id));
        }
        for key in &row.keys {
            rows += 1;
            if LATER.contains(&key.at.as_str()) || FORGOTTEN.contains(&key.at.as_str()) {
                continue;
            }
            let Some(described) = keys.get(&key.at) else {
                wrong.push(format!("{}/{}: not in the schema", row.id, key.at));
                continue;
            };
            if !kind_fits(key.kind, &described.kind) {
                wrong.push(format!("{}/{}: is {}", row.id, key.at, described.kind));
            }
            if key.required != described.required {
                wrong.push(format!("{}/{}: required: {}", row.id, key.at, described.required));
            }
            let ours = (since(row, &key.at, System::Mac), since(row, &key.at, System::Ios));
            let theirs = versions(described);
            // Where the payload itself does not exist, what the schema says of its keys means nothing.
            let theirs = (theirs.0.filter(|_| row.macos.is_some()), theirs.1.filter(|_| row.ios.is_some()));
            if ours != theirs {
                wrong.push(format!("{}/{}: versions {theirs:?}, not {ours:?}", row.id, key.at));
            }
        }
        // What has to be there can be said.
        for (at, described) in keys.iter().filter(|(at, described)| described.required && !at.contains('/')) {
            let known = ["PayloadIdentifier", "PayloadUUID", "PayloadType", "PayloadVersion"].contains(&at.as_str());
            if !known && row.key(at).is_none() && (described.since("macOS").is_some() || described.since("iOS").is_some()) {
                wrong.push(format!("{}/{at}: has to be there, and no row knows it", row.id));
            }
        }
    }
    assert!(rows > 300, "{rows}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Which channels and enrolments take a payload, and which assets a key may name.
#[test]
fn every_row_goes_where_the_schema_lets_it() {
    let Some(schema) = schema() else { return };
    let mut wrong = Vec::new();
    for row in catalogue().payloads() {
        let Some((whole, keys)) = schema.keys_of(&row.id) else { continue };
        let scopes = |scope: &str, channel: &str| match row.form {
            Form::Declaration => whole.says("macOS", "allowed-scopes").is_none_or(|all| all.split(',').any(|one| one == scope)),
            Form::Profile => whole.says("macOS", channel) != Some("false"),
        };
        if row.macos.is_some() && (row.device_only, row.user_only) != (!scopes("user", "userchannel"), !scopes("system", "devicechannel")) {
            wrong.push(format!("{}: device_only {}, user_only {}", row.id, row.device_only, row.user_only));
        }
        for (system, os, there) in [(System::Mac, "macOS", row.macos), (System::Ios, "iOS", row.ios)] {
            let forbidden = whole.says(os, "userenrollment.mode") == Some("forbidden")
                || whole.says(os, "allowed-enrollments").is_some_and(|all| !all.split(',').any(|one| one == "user"));
            if there.is_some() && row.is_for_users(system) == forbidden {
                wrong.push(format!("{}: not_for_users on {os}: {forbidden}", row.id));
            }
        }
        for key in &row.keys {
            let Some(described) = keys.get(&key.at) else { continue };
            let sorted = |list: &[String]| list.iter().cloned().collect::<std::collections::BTreeSet<_>>();
            if !described.assets.is_empty() && (sorted(&described.assets) != sorted(&key.assets) || described.media != key.media) {
                wrong.push(format!("{}/{}: assets {:?} {:?}", row.id, key.at, described.assets, described.media));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The simulated Mac takes no other commands for its users than Apple's.
    let taken = schema.commands_for_users();
    let unknown: Vec<_> = muster::sim::apple::users::COMMANDS.iter().filter(|name| !taken.contains(*name)).collect();
    assert_eq!(unknown, [&""; 0]);
}

/// Documents as an administrator writes them.
fn examples() -> Vec<(&'static str, Value)> {
    vec![
        ("com.apple.security.root", json!({"PayloadContent": "MAA="})),
        ("com.apple.security.pkcs1", json!({"PayloadContent": "MAA="})),
        ("com.apple.security.pem", json!({"PayloadContent": "MAA="})),
        ("com.apple.security.pkcs12", json!({"PayloadContent": "MAA=", "Password": "p", "KeyIsExtractable": false})),
        (
            "com.apple.security.scep",
            json!({"PayloadContent": {
                "URL": "https://pki.example.org/scep/device", "Subject": [["O", "Example"], ["CN", "x"]], "Keysize": 2048,
                "Key Type": "RSA", "Key Usage": 5, "Challenge": "c", "SubjectAltName": {"dNSName": "x.example.org"},
            }}),
        ),
        (
            "com.apple.security.acme",
            json!({"DirectoryURL": "https://pki.example.org/acme", "ClientIdentifier": "c", "KeySize": 384,
                "KeyType": "ECSECPrimeRandom", "HardwareBound": true, "Subject": [["CN", "x"]], "Attest": true}),
        ),
        ("com.apple.mobiledevice.passwordpolicy", json!({"forcePIN": true, "minLength": 8, "changeAtNextAuth": true})),
        ("com.apple.security.FDERecoveryKeyEscrow", json!({"Location": "Example", "EncryptCertPayloadUUID": "escrow"})),
        ("com.apple.MCX.FileVault2", json!({"Enable": "On", "Defer": true, "ForceEnableInSetupAssistant": true})),
        (
            "com.apple.associated-domains",
            json!({"Configuration": [{"ApplicationIdentifier": "TEAM.app", "AssociatedDomains": ["authsrv:idp.example.org"]}]}),
        ),
        (
            "com.apple.wifi.managed",
            json!({"SSID_STR": "net", "EncryptionType": "WPA3", "PayloadCertificateUUID": "identity", "SetupModes": ["System"],
                "EAPClientConfiguration": {"AcceptEAPTypes": [13], "PayloadCertificateAnchorUUID": ["root"],
                    "TLSTrustedServerNames": ["radius.example.org"], "TLSMinimumVersion": "1.2"}}),
        ),
        (
            "com.apple.vpn.managed",
            json!({"VPNType": "IKEv2", "UserDefinedName": "Office", "IKEv2": {"RemoteAddress": "vpn.example.org",
                "LocalIdentifier": "x", "RemoteIdentifier": "vpn.example.org", "AuthenticationMethod": "Certificate",
                "PayloadCertificateUUID": "identity", "CertificateType": "RSA"}}),
        ),
        (
            "com.apple.security.certificatetransparency",
            json!({"DisabledForCerts": [{"Algorithm": "sha256", "Hash": "MAA="}], "DisabledForDomains": ["example.org"]}),
        ),
        ("com.apple.security.certificaterevocation", json!({"EnabledForCerts": [{"Algorithm": "sha256", "Hash": "MAA="}]})),
        ("com.apple.security.certificatepreference", json!({"Name": "a@example.org", "PayloadCertificateUUID": "root"})),
        ("com.apple.security.identitypreference", json!({"Name": "example.org", "PayloadCertificateUUID": "identity"})),
        ("com.apple.security.smartcard", json!({"UserPairing": false, "checkCertificateTrust": 1, "enforceSmartCard": true})),
        (
            "com.apple.TCC.configuration-profile-policy",
            json!({"Services": {"SystemPolicyAllFiles": [{"Identifier": "com.example.a", "IdentifierType": "bundleID",
                "CodeRequirement": "anchor apple", "Allowed": true, "Authorization": "Allow"}]}}),
        ),
        ("com.apple.MCX", json!({"dontAllowFDEDisable": true, "DestroyFVKeyOnStandby": true})),
        (
            "com.apple.vpn.managed.applayer",
            json!({"VPNUUID": "4e1d6e0c-6e4b-4d54-9d2a-111111111111", "VPNType": "VPN", "VPNSubType": "com.example.vpn",
                "UserDefinedName": "Office", "VPN": {"RemoteAddress": "vpn.example.org", "AuthenticationMethod": "Certificate",
                "PayloadCertificateUUID": "identity", "ProviderType": "app-proxy"}, "SafariDomains": ["example.org"],
                "OnDemandMatchAppEnabled": true, "AssociatedDomains": ["example.org"], "MailDomains": ["example.org"]}),
        ),
        (
            "com.apple.vpn.managed.appmapping",
            json!({"AppLayerVPNMapping": [{"Identifier": "com.example.app", "VPNUUID": "4e1d6e0c-6e4b-4d54-9d2a-111111111111",
                "DesignatedRequirement": "anchor apple", "SigningIdentifier": "com.example.app", "Path": "/Applications/A.app",
                "MatchTools": [{"DesignatedRequirement": "anchor apple", "SigningIdentifier": "com.apple.curl"}]}]}),
        ),
        (
            "com.apple.extensiblesso",
            json!({"ExtensionIdentifier": "com.example.app.ssoe", "TeamIdentifier": "ABCDE12345", "Type": "Redirect",
                "URLs": ["https://idp.example.org/"], "AuthenticationMethod": "UserSecureEnclaveKey", "RegistrationToken": "t",
                "ExtensionData": {"Issuer": "https://idp.example.org", "n": 1},
                "PlatformSSO": {"AuthenticationMethod": "UserSecureEnclaveKey", "UseSharedDeviceKeys": true,
                    "TokenToUserMapping": {"AccountName": "preferred_username", "FullName": "name"},
                    "FileVaultPolicy": ["AttemptAuthentication"]}}),
        ),
        (
            "com.apple.configuration.extensible-sso",
            json!({"ExtensionComposedIdentifier": "org.example.sso (ABCDE12345)", "Type": "Redirect", "Realm": "r", "Hosts": ["h"],
                "URLs": ["https://idp.example.org/"], "ExtensionData": {"n": 1}, "DeniedBundleIdentifiers": ["a.b"],
                "ScreenLockedBehavior": "DoNotHandle",
                "PlatformSSO": {"AuthenticationMethod": "OpenID", "RegistrationToken": "t", "UseSharedDeviceKeys": true,
                    "LoginFrequency": 3600, "AllowDeviceIdentifiersInAttestation": true,
                    "Account": {"DisplayName": "x", "SynchronizeProfilePicture": true},
                    "UserCreation": {"EnableAtLogin": true, "EnableFirstUserDuringSetup": false, "EnableRegistrationDuringSetup": true,
                        "NewUserAuthenticationMethods": ["OpenID", "AccessKey"], "NewUserAuthorizationMode": "Temporary",
                        "TokenToUserMapping": {"AccountName": "a", "FullName": "b"}, "TemporarySessionQuickLogin": true},
                    "Authorization": {"EnableIdentityProviderAccounts": true, "UserAuthorizationMode": "Groups",
                        "AdministratorGroups": ["g"], "AdditionalGroups": ["g"], "AuthorizationGroups": {"right": "g"}},
                    "AccessKey": {"ReaderGroupIdentifier": "AAEC", "TerminalIdentityAssetReference": "a",
                        "ReaderIssuerCertificateAssetReference": "b", "AllowExpressMode": true},
                    "Policies": {"FileVault": ["RequireTouchID"], "Login": ["AllowOpenIDForTouchIDFallback"],
                        "Unlock": ["AllowTouchIDOrWatchForUnlock"], "OfflineGracePeriod": 1, "AuthenticationGracePeriod": 1,
                        "NonPlatformSSOAccounts": ["admin"]},
                    "WebAuthentication": {"URLAllowList": ["h"], "AllowPasswordSync": true}}}),
        ),
        ("com.apple.configuration.passcode.settings", json!({"MinimumLength": 8, "CustomRegex": {"Regex": ".*"}})),
        (
            "com.apple.configuration.softwareupdate.enforcement.specific",
            json!({"TargetOSVersion": "15.2", "TargetLocalDateTime": "2026-01-02T03:04:05"}),
        ),
        ("com.apple.configuration.softwareupdate.settings", json!({"Deferrals": {"CombinedPeriodInDays": 7}})),
        ("com.apple.configuration.legacy", json!({"ProfileURL": "https://mdm.example.org/p"})),
        ("com.apple.configuration.security.certificate", json!({"CredentialAssetReference": "a"})),
        ("com.apple.configuration.security.identity", json!({"CredentialAssetReference": "a", "KeyIsExtractable": false})),
        (
            "com.apple.configuration.management.status-subscriptions",
            json!({"StatusItems": [{"Name": "device.model.family"}, {"Name": "device.operating-system.version"}]}),
        ),
        ("com.apple.configuration.management.test", json!({"Echo": "x"})),
        ("com.apple.asset.credential.certificate", json!({"Reference": {"DataURL": "https://h/a"}})),
        ("com.apple.asset.credential.identity", json!({"Reference": {"DataURL": "https://h/a"}, "Accessible": "Default"})),
        ("com.apple.asset.credential.scep", json!({"Reference": {"DataURL": "https://h/a"}})),
        ("com.apple.asset.credential.acme", json!({"Reference": {"DataURL": "https://h/a"}})),
        ("com.apple.asset.credential.userpassword", json!({"Reference": {"DataURL": "https://h/a"}, "Authentication": {"Type": "MDM"}})),
        ("com.apple.asset.data", json!({"Reference": {"DataURL": "https://h/a", "ContentType": "application/zip"}})),
        ("com.apple.configuration.diskmanagement.settings", json!({"Restrictions": {"ExternalStorage": "ReadOnly"}})),
        ("com.apple.configuration.services.configuration-files", json!({"ServiceType": "com.apple.sshd", "DataAssetReference": "a"})),
        (
            "com.apple.configuration.security.passkey.attestation",
            json!({"AttestationIdentityAssetReference": "a", "RelyingParties": ["example.org"]}),
        ),
        (
            "com.apple.configuration.app.managed",
            json!({"AppStoreID": "1", "InstallBehavior": {"Install": "Required", "License": {"Assignment": "Device"}},
                "IncludeInBackup": false, "Attributes": {"VPNUUID": "x", "Lockable": false}, "LegacyAppConfigAssetReference": "a"}),
        ),
        (
            "com.apple.configuration.package",
            json!({"ManifestURL": "https://h/m", "InstallBehavior": {"Install": "Required"}, "UninstallBehavior": {"Remove": true}}),
        ),
        (
            "com.apple.configuration.account.mail",
            json!({"VisibleName": "Mail", "UserIdentityAssetReference": "a",
                "IncomingServer": {"ServerType": "IMAP", "HostName": "imap.example.org", "Port": 993, "AuthenticationMethod": "Password",
                    "AuthenticationCredentialsAssetReference": "b"},
                "OutgoingServer": {"HostName": "smtp.example.org", "AuthenticationMethod": "None"},
                "SMIME": {"Signing": {"Enabled": true, "IdentityAssetReference": "c"}}}),
        ),
        (
            "com.apple.configuration.account.exchange",
            json!({"EnabledProtocolTypes": ["EAS"], "HostName": "mail.example.org", "OAuth": {"Enabled": true}, "LockMailService": true}),
        ),
        ("com.apple.configuration.account.caldav", json!({"HostName": "dav.example.org", "AuthenticationCredentialsAssetReference": "a"})),
        ("com.apple.configuration.account.carddav", json!({"HostName": "dav.example.org", "Port": 443})),
        (
            "com.apple.configuration.account.ldap",
            json!({"HostName": "ldap.example.org", "SearchSettings": [{"SearchBase": "o=Example", "Scope": "Subtree"}]}),
        ),
        ("com.apple.configuration.account.google", json!({"UserIdentityAssetReference": "a"})),
        ("com.apple.configuration.account.subscribed-calendar", json!({"CalendarURL": "https://example.org/c"})),
        ("com.apple.configuration.legacy.interactive", json!({"ProfileURL": "https://h/p", "VisibleName": "Optional"})),
        ("com.apple.asset.useridentity", json!({"FullName": "A", "EmailAddress": "a@example.org"})),
        ("com.apple.management.properties", json!({"shard": 3, "floor": "second"})),
        ("com.apple.activation.simple", json!({"StandardConfigurations": ["a"]})),
        ("com.apple.management.organization-info", json!({"Name": "Example"})),
        ("com.apple.management.server-capabilities", json!({"Version": "1.0.0", "SupportedFeatures": {}})),
    ]
}

fn uuid_of(name: &str) -> Option<String> {
    ["escrow", "identity", "root"].contains(&name).then(|| format!("4E1D6E0C-6E4B-4D54-9D2A-{:>012}", name.len()))
}

#[test]
fn what_the_rows_make_of_documents_is_in_the_schema_on_every_version() {
    let Some(schema) = schema() else { return };
    let names = Names::new(TenantId::from_store("0192f0c1-0000-7000-8000-000000000001".into()), "org.example");
    let examples = examples();
    let untried: Vec<_> = catalogue().payloads().filter(|row| examples.iter().all(|(id, _)| *id != row.id)).map(|row| &row.id).collect();
    assert!(untried.is_empty(), "no example of {untried:?}");
    let targets = ["12.0", "13.0", "14.0", "15.1", "26.0", "27.0"].map(Target::mac).into_iter();
    let phone = |version| Target { supervised: true, ..Target::iphone(version) };
    let targets = targets.chain(["15.0", "16.2", "17.0", "18.1", "26.0", "27.0"].map(phone));
    let own = |target| Target { user_enrollment: true, supervised: false, ..target };
    let targets = targets.chain([own(Target::mac("14.0")), own(Target::mac("26.0")), own(phone("15.0")), own(phone("26.0"))]);
    for target in targets {
        let system = if target.os == "macOS" { System::Mac } else { System::Ios };
        let device = Device { system, version: version(target.version), user_enrollment: target.user_enrollment, uuid_of: &uuid_of };
        for (id, body) in &examples {
            let row = catalogue().payload(id).unwrap();
            let made = row.encode(body.as_object().unwrap(), &device);
            if !row.supports(system, device.version) || device.user_enrollment && !row.is_for_users(system) {
                assert!(made.is_err(), "{id} on {device:?}");
                continue;
            }
            let target = Target { user_channel: row.user_only && system == System::Mac, ..target };
            let dict = made.unwrap_or_else(|problem| panic!("{id} on {device:?}: {problem}"));
            let findings = match row.form {
                Form::Profile => {
                    let part = Part { kind: row.id.clone(), name: "x".into(), generation: String::new(), body: dict };
                    let about = About { display_name: "Example".into(), ..About::default() };
                    schema.profile(&names.assemble("org.example.p", &about, vec![part]).to_value(), target)
                }
                Form::Declaration => {
                    let payload = row.encode_json(body.as_object().unwrap(), &device).unwrap();
                    schema.declaration(&json!({"Type": id, "Identifier": "a", "ServerToken": "1", "Payload": payload}), target)
                }
            };
            assert!(findings.is_empty(), "{id} on {device:?}: {findings:#?}");
        }
    }
}

#[test]
fn documents_that_say_something_wrong_are_refused_with_the_place() {
    let device = Device { system: System::Mac, version: version("15.1"), user_enrollment: false, uuid_of: &uuid_of };
    let make = |id: &str, body: Value| catalogue().payload(id).unwrap().encode(body.as_object().unwrap(), &device);
    let passcode = "com.apple.mobiledevice.passwordpolicy";
    for (id, body, why) in [
        (passcode, json!({"minlength": 8}), "minlength: com.apple.mobiledevice.passwordpolicy has no such key"),
        (passcode, json!({"minLength": "8"}), "minLength: should be a whole number"),
        (passcode, json!({"minLength": 17}), "minLength: should be from 0 to 16"),
        (passcode, json!({"customRegex": {}}), "customRegex/passwordContentRegex: is missing"),
        ("com.apple.security.root", json!({}), "PayloadContent: is missing"),
        ("com.apple.security.root", json!({"PayloadContent": "?"}), "PayloadContent: should be Base64"),
        ("com.apple.security.scep", json!({"PayloadContent": {"URL": "u", "Keysize": 3072}}), "PayloadContent/Keysize: should be one of"),
        ("com.apple.security.scep", json!({"PayloadContent": {"URL": "u", "Subject": [["CN"]]}}), "Subject: should be a list of pairs"),
        ("com.apple.wifi.managed", json!({"PayloadCertificateUUID": "nobody"}), "the profile has no certificate called nobody"),
    ] {
        let problem = make(id, body).unwrap_err();
        assert!(problem.contains(why), "{problem}");
    }
    let old = Device { version: version("10.6"), ..device };
    assert!(catalogue().payload(passcode).unwrap().encode(&serde_json::Map::new(), &old).is_err());
    assert_eq!(make(passcode, json!({})).unwrap(), Dict::new());
}
