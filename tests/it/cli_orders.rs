//! One walk for each subcommand that gives orders, through the program itself. One list of walks over one house, as long as there are
//! subcommands.

use std::path::Path;
use std::sync::Arc;

use muster::app::App;
use muster::clock::{Clock, DAY, HOUR, SystemClock};
use muster::config::Config;
use muster::domain::apple::licence::Connection;
use muster::domain::device::Platform;
use muster::store::apple::licences;
use muster::store::sealed::CONTENT_TOKEN;
use muster::store::{devices, enrollments, users};
use serde_json::{Value, json as value};

use crate::cli::{json, muster, refused, run};
use crate::desired::{device, enrollment};

pub fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    json(folder.path(), &["init", "--admin", "ana@example.org"]);
    folder
}

pub fn column(rows: &Value, name: &str) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row[name].as_str().unwrap_or_default().to_owned()).collect()
}

/// Puts an enrolled device of `ana@example.org` into the instance.
pub fn put_device(folder: &Path, name: &str, os_version: &str) {
    put_device_of(folder, "ana@example.org", name, os_version, None);
}

fn put_device_of(folder: &Path, upn: &str, name: &str, os_version: &str, hardware_id: Option<&str>) {
    let config = Config { data_dir: folder.join("data"), ..Config::default() };
    let (upn, name, version) = (upn.to_owned(), name.to_owned(), os_version.to_owned());
    let hardware_id = hardware_id.map(str::to_owned);
    tokio::runtime::Runtime::new().unwrap().block_on(async move {
        let app = App::open(config, Arc::new(SystemClock)).await.unwrap();
        let put = app.store.write(move |tx| {
            let now = SystemClock.now();
            let ana = users::find_user_by_upn(tx.conn(), &upn)?.unwrap();
            let mut pc = device(&name, Platform::Windows, Some(&ana.id));
            (pc.os_version, pc.serial_number) = (Some(version.clone()), Some(format!("S-{name}")));
            pc.hardware_id.clone_from(&hardware_id);
            devices::insert_device(tx, &pc, now)?;
            enrollments::insert_enrollment(tx, &enrollment(&pc, now))
        });
        put.await.unwrap();
    });
}

#[test]
fn users_are_made_changed_and_deleted() {
    let folder = made();
    let path = folder.path();
    let ben = json(path, &["user", "create", "Ben@Example.org", "--name", "Ben", "--mail", "ben@example.org", "--sam", "ben"]);
    assert_eq!((&ben["upn"], &ben["roles"], &ben["enabled"]), (&value!("ben@example.org"), &value!([]), &value!(true)));
    assert!(refused(path, &["user", "create", "ben@example.org"]).contains("USR0013: there is a user of that name already"));
    assert!(refused(path, &["user", "create", "ben"]).contains("USR0012"));
    assert_eq!(column(&json(path, &["user", "list"]), "upn"), ["ana@example.org", "ben@example.org"]);
    assert_eq!(column(&json(path, &["user", "list", "--after", "ana@example.org", "--limit", "1"]), "upn"), ["ben@example.org"]);
    let changed = json(path, &["user", "change", "ben@example.org", "--mail", "", "--sid", "S-1-5-21-1", "--administrator", "true"]);
    assert_eq!((&changed["mail"], &changed["security_identifier"]), (&Value::Null, &value!("S-1-5-21-1")));
    assert_eq!((&changed["sam_account_name"], &changed["roles"]), (&value!("ben"), &value!(["Administrator"])));
    assert_eq!(json(path, &["user", "disable", "BEN@example.org"])["enabled"], false);
    assert_eq!(json(path, &["user", "show", ben["id"].as_str().unwrap()])["enabled"], false);
    assert_eq!(json(path, &["user", "enable", "ben@example.org"])["enabled"], true);
    let pass = json(path, &["user", "tap", "ben@example.org", "--minutes", "30", "--length", "16", "--reusable"]);
    assert_eq!((pass["temporary_access_pass"].as_str().unwrap().len(), &pass["one_time"]), (19, &value!(false)));
    assert!(refused(path, &["user", "tap", "ben@example.org", "--length", "4"]).contains("AUT0004"));
    assert!(refused(path, &["user", "tap", "ben@example.org", "--minutes", "1"]).contains("AUT0005"));
    assert_eq!(json(path, &["user", "disable", "ana@example.org"])["enabled"], false);
    assert!(refused(path, &["user", "delete", "ben@example.org"]).contains("ACC0009"), "nobody who may do everything would be left");
    assert!(refused(path, &["user", "disable", "ben@example.org"]).contains("ACC0009"));
    json(path, &["user", "enable", "ana@example.org"]);
    assert_eq!(json(path, &["user", "delete", "ben@example.org"])["deleted"], "ben@example.org");
    assert!(refused(path, &["user", "show", "ben@example.org"]).contains("not found: user"));
    let id = ben["id"].as_str().unwrap();
    assert!(refused(path, &["user", "show", id]).contains("not found: user"));
    assert_eq!(column(&json(path, &["deleted", "list"])["users"], "name"), ["ben@example.org"]);
    assert_eq!(json(path, &["deleted", "restore", id])["restored"], "ben@example.org");
    assert_eq!(json(path, &["user", "show", id])["roles"], value!([]), "a role does not come back");
    json(path, &["user", "delete", id]);
    assert_eq!(json(path, &["deleted", "purge", id])["purged"], "ben@example.org");
    assert!(refused(path, &["deleted", "restore", id]).contains("not found: deleted user or group"));
    put_device(path, "PC-1", "10.0.22631.1");
    assert_eq!(column(&json(path, &["user", "show", "ana@example.org"])["devices"], "name"), ["PC-1"]);
}

#[test]
fn two_devices_that_say_they_are_the_same_hardware_are_shown_until_one_is_retired() {
    let folder = made();
    let path = folder.path();
    json(path, &["user", "create", "ben@example.org"]);
    put_device_of(path, "ana@example.org", "PC-1", "10.0.22631.1", Some("hw1"));
    assert_eq!(json(path, &["status"])["contested_hardware"], value!([]));
    put_device_of(path, "ben@example.org", "PC-2", "10.0.22631.1", Some("hw1"));
    let ids = column(&json(path, &["device", "list"]), "id");
    assert_eq!(json(path, &["device", "show", "PC-1"])["same_hardware_as"], value!([ids[1]]));
    assert_eq!(json(path, &["status"])["contested_hardware"], value!([{ "hardware_id": "hw1", "devices": ids }]));
    let doctor = String::from_utf8(run(path, &["doctor"]).stdout).unwrap();
    assert!(doctor.contains("same hardware") && doctor.contains(&ids[0]) && doctor.contains(&ids[1]), "{doctor}");
    json(path, &["device", "retire", "PC-2", "--give-up"]);
    assert_eq!(json(path, &["device", "show", "PC-1"])["same_hardware_as"], value!([]));
    assert_eq!(json(path, &["status"])["contested_hardware"], value!([]));
}

#[test]
fn an_administrator_is_told_what_to_hand_out_to_enrol_a_pc() {
    let folder = made();
    let path = folder.path();
    let told = run(path, &["enroll", "windows", "--user", "ana@example.org"]);
    let text = String::from_utf8(told.stdout).unwrap();
    for part in ["for ana@example.org", "Temporary Access Pass", "for one PC, until ", "/enroll/windows?username=ana@example.org", "Secret"]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.contains("set web.url and device.url") && text.contains("enterpriseenrollment.example.org"), "{text}");
    let told = json(path, &["enroll", "windows", "--user", "ana@example.org", "--reusable", "--set", "web.url=https://muster.example.org"]);
    assert_eq!((&told["one_time"], &told["provisioning_package"]["Secret"]), (&value!(false), &told["temporary_access_pass"]));
    assert_eq!(told["server_to_type"], "https://muster.example.org/EnrollmentServer/Discovery.svc");
    assert!(refused(path, &["enroll", "windows", "--user", "nobody@example.org"]).contains("not found: user"));
    json(path, &["user", "create", "zoe@example.org", "--administrator"]);
    json(path, &["user", "disable", "ana@example.org"]);
    assert!(refused(path, &["enroll", "windows", "--user", "ana@example.org"]).contains("AUT0001"));
}

#[test]
fn groups_hold_users_and_devices() {
    let folder = made();
    let path = folder.path();
    put_device(path, "PC-1", "10.0.22631.1");
    json(path, &["group", "create", "Sales", "--description", "those who sell"]);
    assert!(refused(path, &["group", "create", "Sales"]).contains("USR0014"));
    assert!(refused(path, &["group", "create", " Sales"]).contains("PRF0004"));
    assert!(refused(path, &["group", "create", "019a0000-0000-7000-8000-000000000000"]).contains("conflict"));
    assert!(!refused(path, &["group", "add", "Sales"]).is_empty(), "nobody to add");
    assert_eq!(json(path, &["group", "add", "Sales", "--user", "ana@example.org", "--device", "PC-1"])["added"], 2);
    assert_eq!(json(path, &["group", "add", "Sales", "--device", "S-PC-1"])["added"], 0);
    assert!(refused(path, &["group", "add", "Sales", "--user", "nobody@example.org"]).contains("not found: user"));
    assert_eq!(column(&json(path, &["group", "show", "Sales"])["members"], "name"), ["PC-1", "ana@example.org"]);
    assert_eq!(json(path, &["group", "remove", "Sales", "--user", "ana@example.org"])["removed"], 1);
    assert_eq!(column(&json(path, &["group", "list"]), "display_name"), ["Sales"]);

    let rule = "device.displayName -startsWith \"pc-\"";
    let found = json(path, &["group", "test-rule", rule]);
    assert_eq!((column(&found["members"], "name"), &found["more"]), (vec!["PC-1".to_owned()], &Value::Bool(false)));
    assert!(refused(path, &["group", "test-rule", "device.displayName"]).contains("DIR0002: at letter 19"));
    json(path, &["group", "create", "PCs", "--rule", rule]);
    assert!(refused(path, &["group", "remove", "PCs", "--device", "PC-1"]).contains("DIR0001"));
    let shown = json(path, &["group", "rule", "PCs", "user.mail -eq null"]);
    assert_eq!(
        (shown["rule"].as_str(), column(&shown["members"], "name").contains(&"PC-1".to_owned())),
        (Some("user.mail -eq null"), false)
    );
    assert!(column(&shown["members"], "name").contains(&"ana@example.org".to_owned()));
    assert_eq!(json(path, &["group", "rule", "PCs", ""])["rule"], Value::Null);
    json(path, &["group", "remove", "PCs", "--user", "ana@example.org"]);
    json(path, &["group", "delete", "PCs"]);
    assert_eq!(json(path, &["group", "delete", "Sales"])["deleted"], "Sales");
    assert!(refused(path, &["group", "show", "Sales"]).contains("not found: group"));
    let gone = json(path, &["deleted", "list"]);
    assert_eq!(column(&gone["groups"], "name").len(), 2);
    assert_eq!(json(path, &["deleted", "restore", gone["groups"][0]["id"].as_str().unwrap()])["restored"], gone["groups"][0]["name"]);
}

#[test]
fn profiles_are_applied_assigned_exported_and_deleted() {
    let folder = made();
    let path = folder.path();
    put_device(path, "PC-1", "10.0.22631.1");
    let ready = column(&json(path, &["profile", "ready"]), "ready");
    assert!(ready.contains(&"bitlocker".to_owned()) && !ready.contains(&"windows-compliance".to_owned()), "{ready:?}");
    let first = json(path, &["profile", "apply", "bitlocker"]);
    assert_eq!((&first["result"], &first["version"], &first["name"]), (&value!("created"), &value!(1), &value!("BitLocker")));
    assert_eq!(json(path, &["profile", "apply", "bitlocker"])["result"], "unchanged");
    assert_eq!(json(path, &["profile", "apply", "bitlocker"])["changed"], value!([]), "the same again changes nothing");
    assert!(refused(path, &["profile", "apply", "no-such"]).contains("neither a file nor one of"));
    std::fs::write(path.join("wifi.mobileconfig"), "<?xml version='1.0'?><plist/>").unwrap();
    assert!(refused(path, &["profile", "apply", "wifi.mobileconfig"]).contains("the content of a payload of type mobileconfig"));
    let android = "display_name = \"A\"\nkind = \"configuration\"\nplatform = \"android\"\n[document]\n";
    std::fs::write(path.join("android.toml"), android).unwrap();
    assert!(refused(path, &["profile", "apply", "android.toml"]).contains("platform: windows, macos or ios"));
    let filevault = "display_name = \"A\"\nkind = \"configuration\"\nplatform = \"ios\"\n[[document.payloads]]\n\
        type = \"com.apple.MCX.FileVault2\"\nname = \"a\"\nEnable = \"On\"\n";
    std::fs::write(path.join("filevault.toml"), filevault).unwrap();
    let said = refused(path, &["profile", "apply", "filevault.toml"]);
    assert!(said.contains("iPhones and iPads have no such payload; it is for Macs (platform macos)"), "{said}");
    assert!(refused(path, &["profile", "apply", "windows-compliance"]).contains("muster policy apply"));

    json(path, &["group", "create", "Sales"]);
    assert!(refused(path, &["group", "create", "Sales"]).contains("USR0014"));
    json(path, &["group", "add", "Sales", "--user", "ana@example.org"]);
    json(path, &["profile", "apply", "trusted-root"]);
    assert!(refused(path, &["profile", "rename", "trusted-root", "BitLocker"]).contains("PRF0011"));
    json(path, &["profile", "delete", "trusted-root"]);
    assert!(refused(path, &["profile", "show", "trusted-root"]).contains("not found: configuration profile"));
    // By its name and by what it was applied as.
    let assigned = json(path, &["profile", "assign", "bitlocker", "--group", "Sales"]);
    assert_eq!(column(&assigned["assignments"], "target"), ["group Sales"]);
    assert_eq!(assigned["devices"], value!([{ "state": "pending", "devices": 1 }]));
    assert!(!refused(path, &["profile", "assign", "BitLocker"]).is_empty(), "to whom");
    let said = refused(path, &["profile", "unassign", "BitLocker", "--group", "Sales", "--exclude"]);
    assert!(said.contains("it is included for them; leave out --exclude"), "{said}");
    assert_eq!(json(path, &["profile", "assign", "BitLocker", "--all-devices", "--exclude"])["remarks"], Value::Null);
    let twice = json(path, &["profile", "assign", "BitLocker", "--group", "Sales", "--exclude"]);
    assert!(twice["remarks"][0].as_str().unwrap().contains("included and excluded"), "{twice}");
    json(path, &["profile", "unassign", "BitLocker", "--group", "Sales"]);
    let said = refused(path, &["profile", "unassign", "BitLocker", "--group", "Sales"]);
    assert!(said.contains("it is excluded for them; add --exclude"), "{said}");
    json(path, &["profile", "unassign", "BitLocker", "--group", "Sales", "--exclude"]);
    json(path, &["profile", "assign", "BitLocker", "--group", "Sales"]);
    let shown = json(path, &["device", "show", "PC-1"]);
    assert_eq!(shown["profiles"], value!([]), "the exclusion wins");
    json(path, &["profile", "unassign", "BitLocker", "--all-devices", "--exclude"]);
    assert!(refused(path, &["profile", "unassign", "BitLocker", "--all-users"]).contains("not found: such an assignment of \"BitLocker\""));
    assert_eq!(column(&json(path, &["device", "show", "PC-1"])["profiles"], "profile"), ["BitLocker"]);

    let exported = run(path, &["profile", "export", "BitLocker"]).stdout;
    std::fs::write(path.join("mine.toml"), &exported).unwrap();
    assert_eq!(json(path, &["profile", "apply", "mine.toml"])["changed"], value!([]));
    let other = String::from_utf8(exported)
        .unwrap()
        .replace("bitlocker.allow-standard-user-encryption\" = 1", "bitlocker.allow-standard-user-encryption\" = 0");
    std::fs::write(path.join("mine.toml"), other).unwrap();
    let again = json(path, &["profile", "apply", "mine.toml"]);
    assert_eq!((&again["version"], &again["changed"]), (&value!(2), &value!(["/settings/bitlocker.allow-standard-user-encryption"])));
    std::fs::write(
        path.join("mine.toml"),
        "display_name = \"x\"\nkind = \"configuration\"\nplatform = \"windows\"\n[document.settings]\n\"no.such\" = 1\n",
    )
    .unwrap();
    let said = refused(path, &["profile", "apply", "mine.toml"]);
    assert!(said.contains("PRF0008") && said.contains("no.such: `muster profile settings` shows those that there are"), "{said}");
    std::fs::write(path.join("mine.toml"), "display_name = 5").unwrap();
    assert!(refused(path, &["profile", "apply", "mine.toml"]).contains("does not parse"));
    json(path, &["profile", "rename", "BitLocker", "Drives"]);
    assert_eq!(column(&json(path, &["profile", "list"]), "name"), ["Drives"]);
    assert_eq!(json(path, &["profile", "delete", "Drives"])["deleted"], "Drives");
    assert!(refused(path, &["profile", "show", "Drives"]).contains("not found: configuration profile"));
}

#[test]
fn what_is_not_found_is_named_with_where_to_look() {
    let folder = made();
    let path = folder.path();
    for (args, name, order) in [
        (&["user", "show", "nobody@example.org"][..], "user \"nobody@example.org\"", "muster user list"),
        (&["enroll", "windows", "--user", "nobody@example.org"], "user \"nobody@example.org\"", "muster user list"),
        (&["enroll", "apple", "--user", "nobody@example.org"], "user \"nobody@example.org\"", "muster user list"),
        (&["group", "show", "Nobodies"], "group \"Nobodies\"", "muster group list"),
        (&["device", "show", "PC-9"], "device \"PC-9\"", "muster device list"),
        (&["device", "cancel", "x"], "order \"x\"", "muster device orders"),
        (&["profile", "show", "Mine"], "configuration profile \"Mine\"", "muster profile list"),
        (&["profile", "show", "bitlocker"], "configuration profile \"bitlocker\"", "muster profile apply bitlocker"),
        (&["policy", "show", "Mine"], "compliance policy \"Mine\"", "muster policy list"),
        (&["ca", "show", "what"], "authority or certificate \"what\"", "muster ca certificates"),
        (&["ca", "revoke", "what"], "authority or certificate \"what\"", "muster ca list"),
        (&["ca", "release", "what"], "certificate \"what\"", "muster ca certificates"),
        (&["ca", "pause", "what"], "authority \"what\"", "muster ca list"),
        (&["ca", "certificates", "--device", "PC-9"], "device \"PC-9\"", "muster device list"),
        (&["ca", "certificates", "--user", "nobody"], "user \"nobody\"", "muster user list"),
        (&["signals", "receiver", "pause", "ids"], "receiver \"ids\"", "muster signals receiver list"),
        (&["signals", "retry", "7"], "\"7\"", "muster signals outbox"),
    ] {
        let said = refused(path, args);
        assert!(said.starts_with("error: not found: ") && said.contains(name) && said.contains(order), "{args:?}: {said}");
    }
    json(path, &["policy", "apply", "windows-compliance"]);
    assert!(refused(path, &["profile", "show", "Windows compliance"]).contains("use muster policy"));
    // A server says the same.
    let _serving = crate::cli::serve(path);
    assert!(refused(path, &["user", "show", "nobody"]).starts_with("error: not found: user \"nobody\""));
}

#[test]
fn usage_says_what_may_stand_in_the_place_of_what() {
    let folder = tempfile::tempdir().unwrap();
    for (args, usage) in [
        (&["profile", "assign", "x"][..], "<--group <NAME|ID>|--all-devices|--all-users> <PROFILE>"),
        (&["ca", "revoke"], "<CERTIFICATE|AUTHORITY|--device <DEVICE>|--user <UPN|ID>>"),
        (&["simulate", "--platform", "windows"], "--platform <PLATFORM> <--server <URL>|--report>"),
        (&["group", "add", "x"], "<--user <UPN|ID>|--device <DEVICE>> <GROUP>"),
    ] {
        let said = refused(folder.path(), args);
        assert!(said.contains(usage), "{args:?}: {said}");
    }
    let both = refused(folder.path(), &["profile", "assign", "x", "--all-users", "--all-devices"]);
    assert!(both.contains("cannot be used with"), "{both}");
}

#[test]
fn what_profiles_can_say_is_listed_without_an_instance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let all = json(path, &["profile", "settings"]);
    assert!(all.as_array().unwrap().len() > 200 && column(&all, "id").contains(&"bitlocker.require-device-encryption".to_owned()));
    assert_eq!(
        column(&json(path, &["profile", "settings", "--search", "BitLocker RequireDeviceEncryption"]), "id"),
        ["bitlocker.require-device-encryption"]
    );
    assert!(column(&json(path, &["policy", "settings"]), "id").contains(&"bitLockerEnabled".to_owned()));
    assert!(column(&json(path, &["policy", "settings", "--platform", "macos"]), "id").iter().all(|id| !id.contains('.')));
    assert!(column(&json(path, &["profile", "ready"]), "ready").contains(&"bitlocker".to_owned()));
    let shown = String::from_utf8(run(path, &["profile", "settings", "--search", "minimum-pin-length"]).stdout).unwrap();
    assert!(shown.contains("    a whole number from 4"), "{shown}");
}

#[test]
fn policies_are_their_own_and_judge_devices() {
    let folder = made();
    let path = folder.path();
    put_device(path, "PC-1", "10.0.22631.1");
    assert_eq!(column(&json(path, &["policy", "ready"]), "ready"), ["ios-compliance", "macos-compliance", "windows-compliance"]);
    let name = json(path, &["policy", "apply", "windows-compliance"])["name"].as_str().unwrap().to_owned();
    assert!(refused(path, &["profile", "show", &name]).contains("not found"), "a policy is no profile");
    assert_eq!(column(&json(path, &["profile", "list"]), "name"), Vec::<String>::new());
    assert_eq!(column(&json(path, &["policy", "list"]), "name"), [name.as_str()]);
    let assigned = json(path, &["policy", "assign", &name, "--all-users"]);
    assert_eq!(assigned["devices"], value!([{ "status": "notJudged", "devices": 1 }]));
    json(path, &["policy", "delete", &name]);
}

#[test]
fn devices_are_listed_explained_ordered_and_retired() {
    let folder = made();
    let path = folder.path();
    put_device(path, "PC-1", "10.0.22631.1");
    put_device(path, "PC-2", "10.0.10240.0");
    put_device(path, "PC-2", "10.0.22631.1");
    assert_eq!(column(&json(path, &["device", "list", "--user", "ana@example.org"]), "name"), ["PC-1", "PC-2", "PC-2"]);
    assert_eq!(column(&json(path, &["device", "list"]), "user"), ["ana@example.org"; 3]);
    assert_eq!(column(&json(path, &["device", "list", "--state", "retired"]), "name"), Vec::<String>::new());
    let old = json(path, &["device", "list", "--name", "PC-2", "--limit", "1"])[0]["id"].as_str().unwrap().to_owned();
    let shown = json(path, &["device", "show", "S-PC-1"]);
    assert_eq!((&shown["user"], &shown["state"]), (&value!("ana@example.org"), &value!("managed")));
    assert!(shown["identity"].as_str().unwrap().contains("none in force"), "it was put there without one");
    assert!(refused(path, &["device", "show", "PC-2"]).contains("several devices"));
    assert!(refused(path, &["device", "show", "PC-3"]).contains("not found: device"));
    assert_eq!(json(path, &["device", "explain", "PC-1"]), value!([]), "never judged");

    let known = column(&json(path, &["device", "orders", "--known"]), "order");
    assert!(known.contains(&"reboot".to_owned()) && known.contains(&"wipe".to_owned()), "{known:?}");
    let order = json(path, &["device", "command", "PC-1", "reboot"]);
    assert_eq!((&order["state"], &order["verb"]), (&value!("queued"), &value!("exec")));
    assert!(refused(path, &["device", "command", "PC-1", "explode"]).contains("CMD0001"));
    assert!(refused(path, &["device", "command", "PC-1", "rebot"]).contains("did you mean reboot"));
    assert!(refused(path, &["device", "command", "PC-1", "locate"]).contains("locate is for ios, and this is windows"));
    let locks = json(path, &["device", "orders", "--known", "lock"]);
    assert!(
        column(&locks, "order").iter().all(|order| order.contains("lock")) && column(&locks, "takes").iter().any(|t| t.contains("pin"))
    );
    assert!(refused(path, &["device", "command", "PC-1", "wipe"]).contains("CMD0002"));
    assert!(refused(path, &["device", "command", &old, "wipe-cloud", "--yes"]).contains("CMD0003"));
    let read = ["device", "command", "PC-1", "--uri", "./DevDetail/SwV"];
    assert!(refused(path, &read).contains("PRF0001"), "not below ./Device, ./User or ./Vendor");
    let uri = "./Device/Vendor/MSFT/NodeCache/Probe";
    assert_eq!(json(path, &["device", "command", "PC-1", "--uri", uri])["verb"], "get");
    assert!(refused(path, &["device", "command", "PC-1", "--uri", uri, "--data", "x"]).contains("PRF0010"), "reading takes no data");
    assert!(refused(path, &["device", "command", "PC-1", "--uri", uri, "--verb", "replace"]).contains("PRF0010"));
    assert!(
        refused(path, &["device", "command", "PC-1", "--uri", uri, "--verb", "replace", "--format", "int", "--data", "x"])
            .contains("PRF0010")
    );
    assert!(refused(path, &["device", "command", "PC-1", "--uri", uri, "--verb", "delete"]).contains("CMD0002"));
    json(path, &["device", "command", "PC-1", "--uri", uri, "--verb", "replace", "--format", "int", "--data", "5"]);
    let orders = json(path, &["device", "orders", "PC-1"]);
    assert_eq!(column(&orders, "order"), ["custom", "custom", "reboot"]);
    let id = order["id"].as_str().unwrap();
    assert_eq!(json(path, &["device", "cancel", id])["state"], "cancelled");
    assert!(refused(path, &["device", "cancel", id]).contains("CMD0005"));
    assert_eq!(json(path, &["device", "sync", "PC-1"])["when"], "the device reports at its next poll");
    let log = run(path, &["audit", "list", "--full"]).stdout;
    let log = String::from_utf8(log).unwrap();
    assert!(log.contains("command:reboot on PC-1"), "{log}");
    assert!(log.contains("device.command") && log.contains("device.sync") && log.contains("(1 characters)"), "{log}");

    assert_eq!(json(path, &["device", "retire", "PC-1"])["state"], "retiring");
    assert_eq!(json(path, &["device", "explain", "PC-1"])[0]["rule"], "isManaged");
    let of_device = json(path, &["audit", "list", "--device", "PC-1"]);
    assert!(column(&of_device, "action").contains(&"device.command".into()), "{of_device}");
    assert!(refused(path, &["device", "command", "PC-1", "reboot"]).contains("CMD0004"));
    assert!(refused(path, &["device", "sync", "PC-1"]).contains("CMD0004"));
    assert!(json(path, &["device", "retire", "PC-1"])["note"].as_str().unwrap().starts_with("it was told to leave before"));
    assert_eq!(json(path, &["device", "retire", "PC-1", "--give-up"])["state"], "retired");
    assert_eq!(json(path, &["device", "retire", "PC-1"])["note"], "it was retired before");
    let reasons = json(path, &["device", "explain", "PC-1"]);
    assert_eq!((&reasons[0]["rule"], &reasons[0]["status"]), (&value!("isManaged"), &value!("nonCompliant")));
    let shown = String::from_utf8(run(path, &["device", "explain", "PC-1", "--failed"]).stdout).unwrap();
    assert!(shown.contains("not compliant  Is managed  managed  retired"), "{shown}");
}

#[test]
fn the_doctor_looks_after_the_content_token() {
    let folder = made();
    let path = folder.path();
    let said = || {
        let found: Value = serde_json::from_slice(&run(path, &["doctor", "--json"]).stdout).unwrap();
        let found = found.as_array().unwrap().iter().find(|f| f["check"] == "apple content token")?.clone();
        Some((found["state"].as_str().unwrap().to_owned(), found["finding"].as_str().unwrap().to_owned()))
    };
    assert_eq!(said(), None, "nobody needs one");
    json(path, &["profile", "apply", "macos-company-portal"]);
    assert_eq!(said(), None, "a package needs no licence");
    json(path, &["profile", "apply", "ios-company-portal"]);
    let (state, finding) = said().unwrap();
    assert!(state == "wrong" && finding.contains("APP0005") && finding.contains("muster apple content-token"), "{state}: {finding}");
    for (days, alarm, expected, words) in [
        (31, None, "ok", "Berlin until"),
        (30, None, "warning", "30 days left"),
        (0, None, "warning", "0 days left"),
        (-1, None, "wrong", "has ended"),
        (300, Some("APP0006"), "wrong", "APP0006"),
    ] {
        put_content_token(path, days, alarm);
        let (state, finding) = said().unwrap();
        assert!(state == expected && finding.contains(words), "{days} {state}: {finding}");
        assert_eq!(finding.contains("muster apple content-token"), expected != "ok", "{finding}");
    }
}

/// Puts a content token into the instance that ends in so many days and some hours.
fn put_content_token(folder: &Path, days: i64, alarm: Option<&'static str>) {
    let config = Config { data_dir: folder.join("data"), ..Config::default() };
    tokio::runtime::Runtime::new().unwrap().block_on(async move {
        let app = App::open(config, Arc::new(SystemClock)).await.unwrap();
        let now = SystemClock.now();
        let connection = Connection {
            sealed_token: app.sealer().seal(CONTENT_TOKEN, b"token").unwrap(),
            location_id: "l".into(),
            location: "Berlin".into(),
            organisation: "Example".into(),
            ends_at: now.plus(days * DAY + HOUR),
            warned_days: None,
            wait_until: None,
            alarm: alarm.map(|why| (why.to_owned(), now)),
        };
        app.store.write(move |tx| licences::upsert_connection(tx, &connection)).await.unwrap();
    });
}

#[test]
fn receivers_keys_and_what_waits_are_looked_after() {
    let folder = made();
    let path = folder.path();
    let add = ["signals", "receiver", "add", "ids", "http://127.0.0.1:9/events"];
    assert!(refused(path, &add).contains("SIG0003"));
    assert!(refused(path, &["signals", "receiver", "add", "ids", "https://127.0.0.1:9/"]).contains("SIG0002"));
    std::fs::write(path.join("authorization"), "Bearer hunter2\n").unwrap();
    let private = ["--set", "signals.allow_private_receivers=true"];
    let added = json(path, &[&add[..], &["--authorization-file", "authorization"], &private].concat());
    assert_eq!((&added["authorization"], &added["audience"]), (&value!(true), &value!("http://127.0.0.1:9/events")));
    assert!(refused(path, &[&add[..], &private].concat()).contains("SIG0006"));
    let tested = run(path, &["signals", "receiver", "test", "ids", "--json"]);
    let said: Value = serde_json::from_slice(&tested.stdout).unwrap();
    assert_eq!((tested.status.code(), &said["result"]), (Some(1), &value!("not sent yet")), "no server runs: {said}");
    assert_eq!(json(path, &["signals", "receiver", "pause", "ids", "--reason", "moving"])["reason"], "moving");
    let findings = json(path, &["doctor"]);
    let paused = findings.as_array().unwrap().iter().find(|f| f["check"] == "receiver: ids").unwrap();
    assert!(paused["state"] == "warning" && paused["finding"].as_str().unwrap().contains("paused"), "{paused}");
    assert_eq!(json(path, &["signals", "receiver", "resume", "ids"])["status"], "enabled");
    let queued = json(path, &["signals", "outbox"]);
    assert_eq!((column(&queued, "topic"), column(&queued, "receiver")), (vec!["signal.push".into()], vec!["ids".into()]));
    let number = queued[0]["number"].to_string();
    assert!(refused(path, &["signals", "retry", &number]).contains("not found"), "it was not given up");
    let list = json(path, &["signals", "receiver", "list"]);
    assert_eq!((column(&list, "name"), &list[0]["failed_tries"], &list[0]["last_success"]), (vec!["ids".into()], &value!(0), &Value::Null));
    json(path, &["signals", "receiver", "remove", "ids"]);
    assert_eq!(json(path, &["signals", "outbox", "--state", "dead"])[0]["last_error"], "the receiver was removed");
    assert_eq!(json(path, &["signals", "retry", &number])["state"], "queued");
    let kid = json(path, &["signals", "keys", "replace"])["kid"].clone();
    assert_eq!(json(path, &["signals", "keys", "list"])[0]["kid"], kid);
    let log = String::from_utf8(run(path, &["audit", "list", "--full"]).stdout).unwrap();
    assert!(log.contains("receiver.create") && log.contains("outbox.retry") && !log.contains("hunter2"));
}

#[test]
fn the_audit_log_is_read_and_checked() {
    let folder = made();
    let path = folder.path();
    json(path, &["group", "create", "Sales"]);
    let rows = json(path, &["audit", "list"]);
    assert_eq!(column(&rows, "action").first().map(String::as_str), Some("group.create"), "the newest first");
    assert!(column(&rows, "actor").first().is_some_and(|actor| actor.starts_with("cli:")), "{rows}");
    let count = rows.as_array().unwrap().len();
    assert_eq!(json(path, &["audit", "verify"])["sound"], count);
    let last = json(path, &["audit", "list", "--after", &(count - 1).to_string(), "--full"]);
    assert_eq!(last[0]["after"]["display_name"], "Sales", "states are JSON, not texts: {last}");
    // As a table, for people.
    let table = |args: &[&str]| String::from_utf8(run(path, &[&["audit", "list"], args].concat()).stdout).unwrap();
    assert!(table(&[]).starts_with("SEQ  AT") && !table(&[]).contains("there are more"), "{}", table(&[]));
    assert!(
        table(&["--limit", "1"]).ends_with(&format!("(there are more: --before {count}, or --limit)\n")),
        "{}",
        table(&["--limit", "1"])
    );
    assert_eq!(json(path, &["audit", "list", "--before", &count.to_string(), "--limit", "1"])[0]["seq"], count - 1);
    assert!(table(&["--after", "1", "--limit", "2"]).contains("--after 3"));
    json(path, &["user", "change", "ana@example.org", "--name", "Ana"]);
    let at = |columns: &str, args: &[&str]| {
        let program = muster(path).args(["audit", "list"]).args(args).env("COLUMNS", columns).output().unwrap();
        String::from_utf8(program.stdout).unwrap()
    };
    for columns in ["80", "120"] {
        let full = at(columns, &["--full", "--action", "user.update"]);
        assert!(full.contains("    before: ") && full.contains("    after: ") && full.contains("Ana"), "{full}");
        let brief = at(columns, &[]);
        let head = brief.lines().next().unwrap();
        assert!(head.contains("ACTION") && head.contains("TARGET"), "{brief}");
    }
    let of = json(path, &["audit", "list", "--user", "ana@example.org"]);
    assert_eq!(column(&of, "action"), ["user.update", "tap.create", "user.create"]);
    assert_eq!(column(&of, "target_name"), ["ana@example.org"; 3]);
    let named = table(&["--action", "user.update"]);
    assert!(named.contains("user:ana@example.org") && named.lines().count() == 2, "{named}");
    assert_eq!(json(path, &["audit", "list", "--action", "user"]).as_array().unwrap().len(), 2);
    assert_eq!(json(path, &["audit", "list", "--action", "us_r"]).as_array().unwrap().len(), 0);
    let head = json(path, &["audit", "verify"])["head"].as_str().unwrap().to_owned();
    assert!(json(path, &["audit", "verify", "--expect", &head])["noted"].as_str().unwrap().contains("as it was noted"));
}

#[test]
fn the_master_key_is_rotated_and_the_old_one_retired() {
    let folder = made();
    let path = folder.path();
    let before = json(path, &["keys", "status"]);
    let after = json(path, &["keys", "rotate"]);
    assert_eq!((&after["keys"], &after["sealed_under_old_ones"]), (&value!(2), &value!(0)));
    assert_ne!(after["current"], before["current"]);
    assert_eq!(json(path, &["keys", "retire"])["keys"], 1);
    let database = json(path, &["status"])["database"].clone();
    assert_eq!(database, "SQLite, data/muster.db", "the instance opens");
    let shown = String::from_utf8(run(path, &["status"]).stdout).unwrap();
    assert!(!shown.contains("apple_ade") && !shown.contains("name_by_configuration"), "{shown}");
    assert!(shown.contains("\napple_push\n  advice  make a request") && !shown.contains('{'), "{shown}");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_muster"))
        .current_dir(path)
        .env_clear()
        .env("MUSTER_MASTER_KEY", std::fs::read_to_string(path.join("data/master.key")).unwrap())
        .args(["--data-dir", "data", "keys", "rotate"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("KEY0002"), "{said}");
}

#[test]
fn what_is_no_request_and_who_has_no_sid_are_named() {
    let folder = made();
    let path = folder.path();
    std::fs::write(path.join("no.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let said = refused(path, &["ca", "issue", "--csr", "no.pem", "--subject", "CN=a"]);
    assert!(said.contains("CRT0047") && said.contains("a PEM of CERTIFICATE was given"), "{said}");
    let key = openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let request =
        muster::wire::pkcs10::build(&muster::wire::pkcs10::Wish::common_name("a"), &key, muster::wire::cms::Digest::Sha256).unwrap();
    std::fs::write(path.join("a.pem"), openssl::x509::X509Req::from_der(&request).unwrap().to_pem().unwrap()).unwrap();
    let said = refused(path, &["ca", "issue", "--csr", "a.pem", "--subject", "CN=a", "--user", "ana@example.org", "--sid"]);
    assert!(said.contains("CRT0045"), "{said}");
    // Whose a variable is tells who is to be named.
    let issue = ["ca", "issue", "--csr", "a.pem", "--subject"];
    let said = refused(path, &[&issue[..], &["CN={{UserPrincipalName}}"]].concat());
    assert!(said.contains("CRT0022") && said.contains("UserPrincipalName: name the user with --user"), "{said}");
    let said = refused(path, &[&issue[..], &["CN={{SerialNumber}}"]].concat());
    assert!(said.contains("CRT0021") && said.contains("SerialNumber: name the device with --device"), "{said}");
    // Certificates say by name whom they are for.
    run(path, &[&issue[..], &["CN={{UserPrincipalName}}", "--user", "ana@example.org"]].concat());
    let of_ana = json(path, &["ca", "certificates", "--user", "ana@example.org"]);
    assert_eq!((&of_ana[0]["user"], &of_ana[0]["authority"]), (&value!("ana@example.org"), &value!("issuing")));
}

#[test]
fn identities_are_imported_shown_and_deleted_and_their_password_is_on_no_command_line() {
    let folder = made();
    let path = folder.path();
    let leaf = crate::support::ca::Ca::new("Mail").leaf("ana", &[]);
    let mut file = openssl::pkcs12::Pkcs12::builder();
    file.pkey(&leaf.key).cert(&leaf.certificate);
    std::fs::write(path.join("mail.p12"), file.build2("pass word").unwrap().to_der().unwrap()).unwrap();
    let import = ["user", "pfx", "import", "ana@example.org", "mail.p12", "--purpose", "smime-encryption"];
    let with = |file: &'static str| [&import[..], &["--password-file", file]].concat();
    std::fs::write(path.join("wrong"), "password\n").unwrap();
    std::fs::write(path.join("right"), "pass word\r\n").unwrap();
    assert!(refused(path, &with("wrong")).contains("PFX0001"));
    let imported = json(path, &with("right"));
    assert_eq!((&imported["purpose"], &imported["subject"]), (&value!("smime-encryption"), &value!("ana")));
    assert!(refused(path, &with("right")).contains("PFX0003"));
    assert_eq!(column(&json(path, &["user", "pfx", "list", "ana@example.org"]), "id"), [imported["id"].as_str().unwrap()]);
    assert!(refused(path, &["user", "pfx", "delete", "ana@example.org", "x"]).contains("not found: imported identity"));
    let sha256 = imported["sha256"].as_str().unwrap();
    assert_eq!(json(path, &["user", "pfx", "delete", "ana@example.org", sha256])["deleted"], imported["id"]);
}

#[test]
fn every_list_says_when_there_is_more_of_it() {
    let folder = made();
    let path = folder.path();
    for name in ["ben@example.org", "cid@example.org"] {
        json(path, &["user", "create", name]);
    }
    for name in ["Night shift", "Sales", "Support"] {
        json(path, &["group", "create", name]);
    }
    for name in ["trusted-root", "windows-hello-for-business", "scep-device-certificate"] {
        json(path, &["profile", "apply", name]);
    }
    for name in ["PC-1", "PC-2", "PC-3"] {
        put_device(path, name, "10.0.26100.1");
    }
    let mut sorted = column(&json(path, &["device", "list"]), "id");
    sorted.sort();
    for _ in 0..3 {
        json(path, &["device", "command", "PC-1", "reboot", "--yes"]);
    }
    let after = |list: &[&str], next: &str| {
        let page = json(path, &[list, &["--limit", "2"]].concat());
        let said = page[1]["more"].as_str().unwrap_or_default().to_owned();
        assert_eq!((page.as_array().unwrap().len(), said.as_str(), &page[0]["more"]), (2, next, &Value::Null), "{list:?}");
        let text = String::from_utf8(run(path, &[list, &["--limit", "2"]].concat()).stdout).unwrap();
        assert!(text.ends_with(&format!("(there are more: {next})\n")) && !text.contains("MORE"), "{text}");
        let whole = json(path, &[list, &["--limit", "1000"]].concat());
        assert!(whole.as_array().unwrap().iter().all(|row| row.get("more").is_none()), "{whole}");
    };
    after(&["device", "list"], &format!("--after {}, or --limit", sorted[1]));
    after(&["user", "list"], "--after ben@example.org, or --limit");
    after(&["group", "list"], "--after Sales, or --limit");
    after(&["profile", "list"], "--after 'Trusted root', or --limit");
    after(&["device", "orders", "PC-1"], "--limit");
}
