//! What is managed as files: written by one instance, applied by another, and what hostile files come to.

use std::collections::BTreeMap;
use std::path::Path;

use muster::domain::profile::Kind;
use muster::service::directory::{self, By};
use muster::service::files::{self, GroupFile, Mode, Wanted};
use muster::store::audit;
use serde_json::Value;

use crate::cli::{json, refused, run};
use crate::support::server::Server;

const PRUNE: Mode = Mode { prune: true, sees_secrets: true };

const PASSWORD: &str = "correct horse battery staple 4711";

fn wifi(description: &str) -> String {
    format!(
        r#"display_name = "Office Wi-Fi"
kind = "configuration"
platform = "macos"

[document]
description = "{description}"

[[document.payloads]]
type = "com.apple.wifi.managed"
name = "net"
SSID_STR = "Office"
EncryptionType = "WPA2"
Password = "{PASSWORD}"
"#
    )
}

fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    json(folder.path(), &["init"]);
    folder
}

/// An instance with something of each kind.
fn full() -> tempfile::TempDir {
    let folder = made();
    let path = folder.path();
    for args in [
        &["user", "create", "ann@example.org"][..],
        &["group", "create", "Sales", "--description", "Those who sell"],
        &["group", "add", "Sales", "--user", "ann@example.org"],
        &["group", "create", "../Zeta \"quoted\"", "--rule", "user.accountEnabled -eq true"],
        &["profile", "apply", "bitlocker"],
        &["profile", "assign", "BitLocker", "--group", "Sales"],
        &["profile", "assign", "BitLocker", "--all-users", "--exclude"],
        &["policy", "apply", "windows-compliance"],
        &["policy", "assign", "windows-compliance", "--all-devices"],
    ] {
        json(path, args);
    }
    std::fs::write(path.join("wifi.toml"), wifi("For the office")).unwrap();
    json(path, &["profile", "apply", "wifi.toml"]);
    json(path, &["profile", "assign", "Office Wi-Fi", "--group", "../Zeta \"quoted\""]);
    folder
}

/// All files below a folder.
fn contents(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for below in ["groups", "policies", "profiles"] {
        for entry in std::fs::read_dir(folder.join(below)).unwrap().flatten() {
            let name = format!("{below}/{}", entry.file_name().to_string_lossy());
            found.insert(name, std::fs::read_to_string(entry.path()).unwrap());
        }
    }
    found
}

fn status(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = run(folder, args);
    (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_one_instance_has_another_gets_and_gives_back_the_same_files() {
    let (one, two) = (full(), made());
    let (one, two) = (one.path(), two.path());
    let said = json(one, &["export", "whole", "--secrets"]);
    assert_eq!((&said["files"], &said["written"]), (&Value::from(5), &Value::from(5)), "{said}");
    let whole = contents(&one.join("whole"));
    let names: Vec<&str> = whole.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "groups/%2E.%2FZeta_%22quoted%22.toml",
            "groups/Sales.toml",
            "policies/Windows_compliance.toml",
            "profiles/BitLocker.toml",
            "profiles/Office_Wi-Fi.toml",
        ]
    );
    assert!(whole["groups/Sales.toml"].contains("ann@example.org") && whole["profiles/Office_Wi-Fi.toml"].contains(PASSWORD));
    assert!(whole["profiles/BitLocker.toml"].contains("group = \"Sales\"") && whole["profiles/BitLocker.toml"].contains("exclude = true"));
    assert_eq!(json(one, &["export", "whole", "--secrets"])["written"], 0, "the same again");
    let said = json(one, &["export", "masked"]);
    assert!(said["note"].as_str().unwrap().contains("(secret)"), "{said}");
    let masked = contents(&one.join("masked"));
    assert!(masked.values().all(|text| !text.contains(PASSWORD)));
    // Names of people have to be there, and a hidden secret cannot come from nowhere: each is said with its file, before anything changes.
    let folder = one.join("masked");
    let masked_folder = folder.to_str().unwrap();
    let (code, said) = status(two, &["apply", masked_folder, "--yes"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("groups/Sales.toml: members.users: no user is called \"ann@example.org\""), "{said}");
    assert!(said.contains("profiles/Office_Wi-Fi.toml: PRF0012"), "{said}");
    assert_eq!(json(two, &["group", "list"]), Value::Array(Vec::new()));
    json(two, &["user", "create", "ann@example.org"]);
    let folder = one.join("whole");
    let whole_folder = folder.to_str().unwrap();
    let (code, said) = status(two, &["apply", whole_folder, "--dry-run"]);
    assert_eq!(code, Some(2), "{said}");
    for part in
        ["create group Sales", "create profile BitLocker", "+ assigned to group Sales", "+ assigned to not all users", "5 to create"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(PASSWORD));
    assert_eq!(json(two, &["profile", "list"]), Value::Array(Vec::new()), "nothing was done");
    assert!(refused(two, &["apply", whole_folder]).contains("--yes"), "nobody can be asked");
    let (code, said) = status(two, &["apply", whole_folder, "--yes"]);
    assert!(code == Some(0) && said.contains("applied"), "{said}");
    for again in
        [&["apply", whole_folder, "--yes"][..], &["apply", whole_folder, "--dry-run"], &["apply", masked_folder, "--dry-run", "--prune"]]
    {
        let (code, said) = status(two, again);
        assert!(code == Some(0) && said.contains("nothing to change"), "{said}");
    }
    json(two, &["export", "whole", "--secrets"]);
    json(two, &["export", "masked"]);
    assert_eq!(contents(&two.join("whole")), whole);
    assert_eq!(contents(&two.join("masked")), masked);
}

#[test]
fn a_change_of_the_files_is_shown_applied_and_leaves_secrets_as_they_are() {
    let folder = full();
    let path = folder.path();
    json(path, &["export", "it"]);
    let file = path.join("it/profiles/Office_Wi-Fi.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("For the office", "For all").replace("../Zeta \\\"quoted\\\"", "Sales").replace("'../Zeta \"quoted\"'", "\"Sales\""),
    )
    .unwrap();
    let sales = path.join("it/groups/Sales.toml");
    std::fs::write(&sales, "display_name = \"Sales\"\nrule = 'user.department -eq \"Sales\"'\n").unwrap();
    let (code, said) = status(path, &["apply", "it", "--dry-run"]);
    assert_eq!(code, Some(2), "{said}");
    for part in [
        "change profile Office Wi-Fi (profiles/Office_Wi-Fi.toml)",
        "-description = \"For the office\"",
        "+description = \"For all\"",
        "  + assigned to group Sales",
        "  - assigned to group ../Zeta \"quoted\"",
        "change group Sales (groups/Sales.toml)",
        "0 to create, 2 to change, 0 to delete",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(status(path, &["apply", "it", "--yes"]).0, Some(0));
    let whole = json(path, &["profile", "export", "Office Wi-Fi", "--secrets"]);
    assert!(whole.as_str().unwrap().contains(PASSWORD) && whole.as_str().unwrap().contains("For all"));
    assert_eq!(json(path, &["group", "show", "Sales"])["members"], Value::Array(Vec::new()), "the rule says so");
    // Another secret is said without being shown.
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("(secret)"));
    std::fs::write(&file, text.replace("(secret)", "another one of many words")).unwrap();
    let (_, said) = status(path, &["apply", "it", "--yes"]);
    assert!(said.contains("! a secret") && !said.contains("another one"), "{said}");
    assert!(json(path, &["profile", "export", "Office Wi-Fi", "--secrets"]).as_str().unwrap().contains("another one of many words"));
    let rows = json(path, &["audit", "list", "--action", "files.apply"]);
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
}

#[test]
fn what_no_file_has_is_shown_and_goes_by_order_only() {
    let folder = full();
    let path = folder.path();
    json(path, &["export", "it"]);
    json(path, &["group", "create", "Extra"]);
    json(path, &["group", "create", "Helpers"]);
    json(path, &["role", "assign", "helpdesk", "--group", "Helpers"]);
    std::fs::remove_file(path.join("it/profiles/BitLocker.toml")).unwrap();
    let (code, said) = status(path, &["apply", "it", "--dry-run"]);
    assert!(code == Some(0) && said.contains("not in the files, and stays: profile BitLocker") && said.contains("group Extra"), "{said}");
    let (code, said) = status(path, &["apply", "it", "--prune", "--dry-run"]);
    assert!(code == Some(2) && said.contains("delete profile BitLocker") && said.contains("it stays: it gives a role"), "{said}");
    assert!(said.contains("0 to create, 0 to change, 2 to delete"), "{said}");
    assert_eq!(status(path, &["apply", "it", "--prune", "--yes"]).0, Some(0));
    assert!(refused(path, &["profile", "show", "BitLocker"]).contains("not found"));
    assert!(refused(path, &["group", "show", "Extra"]).contains("not found"));
    json(path, &["group", "show", "Helpers"]);
    // A group that goes is none that a file may name.
    let file = path.join("it/policies/Windows_compliance.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("all = \"devices\"", "group = \"Helpers\"")).unwrap();
    assert_eq!(status(path, &["apply", "it", "--dry-run"]).0, Some(2));
    let (code, said) = status(path, &["apply", "it", "--dry-run", "--prune"]);
    assert!(code == Some(1) && said.contains("no group is called \"Helpers\""), "{said}");
    // What an export no longer has is taken away by order only, and other things are left alone.
    std::fs::write(path.join("it/groups/Gone.toml"), "display_name = \"Gone\"\n").unwrap();
    assert!(refused(path, &["export", "it"]).contains("Gone.toml"));
    std::fs::write(path.join("it/notes.txt"), "mine").unwrap();
    assert!(refused(path, &["export", "it"]).contains("notes.txt"));
    let said = json(path, &["export", "it", "--force"]);
    assert_eq!(std::fs::read_to_string(path.join("it/notes.txt")).unwrap(), "mine", "{said}");
    assert!(!path.join("it/groups/Gone.toml").exists());
    assert_eq!(status(path, &["apply", "it", "--dry-run", "--prune"]).0, Some(0));
}

#[test]
fn hostile_files_are_named_all_of_them_and_nothing_is_done() {
    let folder = made();
    let path = folder.path();
    let write = |name: &str, text: &str| {
        let file = path.join("it").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    let bad = |parts: &[&str]| {
        let (code, said) = status(path, &["apply", "it", "--yes"]);
        assert_eq!(code, Some(1), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(json(path, &["group", "list"]), Value::Array(Vec::new()));
    };
    bad(&["it: there is neither groups nor profiles nor policies"]);
    // What this program sees by itself.
    write("groups/good.toml", "display_name = \"Good\"\n");
    write("groups/toml.toml", "display_name = \n");
    write("groups/self.toml", "display_name = \"Self\"\n[members]\ngroups = [\"Self\"]\n");
    write("groups/both.toml", "display_name = \"Both\"\nrule = 'user.accountEnabled -eq true'\n[members]\nusers = [\"a@b\"]\n");
    write("groups/notes.txt", "x");
    write("groups/long.toml", &format!("display_name = \"{}\"\n", "x".repeat(4 << 20)));
    write("profiles/place.toml", &wifi("").replace("configuration", "compliance"));
    write("profiles/whom.toml", &wifi("").replace("[document]", "[[assignments]]\nexclude = true\n\n[document]"));
    std::fs::write(path.join("it/groups/binary.toml"), [0xff, 0xfe, 0]).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", path.join("it/groups/link.toml")).unwrap();
    std::os::unix::fs::symlink("/etc", path.join("it/policies")).unwrap();
    bad(&[
        "groups/toml.toml: ",
        "groups/self.toml: ",
        "unknown field `groups`",
        "groups/both.toml: a group has a rule or members",
        "groups/notes.txt: this is no .toml",
        "groups/long.toml: longer than",
        "groups/binary.toml: this is no UTF-8",
        "groups/link.toml: this is no plain file",
        "policies: this is no folder",
        "profiles/place.toml: a compliance policy belongs into policies/",
        "profiles/whom.toml: an assignment names a group",
    ]);
    std::fs::remove_dir_all(path.join("it/groups")).unwrap();
    std::fs::remove_dir_all(path.join("it/profiles")).unwrap();
    std::fs::remove_file(path.join("it/policies")).unwrap();
    // What the server sees.
    write("groups/good.toml", "display_name = \"Good\"\n");
    write("groups/a.toml", "display_name = \"Twice\"\n");
    write("groups/b.toml", "display_name = \"Twice\"\n");
    write("groups/id.toml", "display_name = \"01900000-0000-7000-8000-000000000000\"\n");
    write("groups/rule.toml", "display_name = \"Rule\"\nrule = 'nonsense'\n");
    write("groups/name.toml", "display_name = \"a\\nb\"\n");
    write("groups/members.toml", "display_name = \"Members\"\n[members]\nusers = [\"no@body\"]\ndevices = [\"None\"]\n");
    write("profiles/group.toml", &wifi("").replace("[document]", "[[assignments]]\ngroup = \"../Nobody\"\n\n[document]"));
    write("profiles/value.toml", &wifi("").replace("Office Wi-Fi", "Second").replace("WPA2", "Nothing"));
    write("profiles/mask.toml", &wifi("").replace("Office Wi-Fi", "Third").replace(PASSWORD, "(secret)"));
    bad(&[
        "groups/a.toml: several files have the name \"Twice\": groups/a.toml, groups/b.toml",
        "groups/b.toml: several files",
        "groups/id.toml: a name that looks like an id",
        "groups/rule.toml: DIR0002",
        "groups/name.toml: PRF0004",
        "groups/members.toml: members.users: no user is called \"no@body\"",
        "groups/members.toml: members.devices: no device is called \"None\"",
        "profiles/group.toml: assignments: no group is called \"../Nobody\"",
        "profiles/value.toml: PRF00",
        "profiles/mask.toml: PRF0012",
    ]);
    let (code, said) = status(path, &["--json", "apply", "it", "--yes"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert!(code == Some(1) && said["errors"].as_array().unwrap().len() >= 10, "{said}");
}

#[actix_web::test]
async fn what_was_shown_is_what_is_done_or_nothing_is() {
    let server = Server::start().await;
    let (app, by) = (&server.app, By::local("cli:test"));
    let group = |text: &str| ("groups/x.toml".to_owned(), GroupFile::parse(text).unwrap());
    let wanted = Wanted { groups: vec![group("display_name = \"One\"\n")], profiles: Vec::new() };
    let plan = files::plan(app, &wanted, PRUNE).await.unwrap();
    assert!(plan.changes() && plan.errors.is_empty());
    directory::create_group(app, "Other", "", &by).await.unwrap();
    let refused = files::apply(app, &wanted, PRUNE, &plan.fingerprint, &by).await.unwrap_err().to_string();
    assert!(refused.contains("changed meanwhile"), "{refused}");
    let other = Wanted { groups: vec![group("display_name = \"Two\"\n")], profiles: Vec::new() };
    assert!(files::apply(app, &other, Mode { prune: false, ..PRUNE }, &plan.fingerprint, &by).await.is_err(), "other files");
    let names = async || {
        let files = files::export(app, false, &by).await.unwrap();
        files.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["groups/Other.toml"]);
    let plan = files::plan(app, &wanted, PRUNE).await.unwrap();
    files::apply(app, &wanted, PRUNE, &plan.fingerprint, &by).await.unwrap();
    assert_eq!(names().await, ["groups/One.toml"]);
    let rows = app.store.read(|conn| audit::list(conn, 0, 1000)).await.unwrap();
    let row = rows.iter().find(|row| row.action == "files.apply").unwrap();
    let after: Value = serde_json::from_str(row.after.as_deref().unwrap()).unwrap();
    assert_eq!(after, serde_json::json!({ "changed": 0, "deleted": 1, "made": 1 }));
    assert_eq!(Kind::ALL.len(), 2, "a third kind needs a folder");
}
