use clap::{CommandFactory as _, Parser as _};

use super::super::{Command, Line, Who};
use super::*;
use crate::domain::access::{BUILT_IN, Caller, Identity, Reach, Role};
use crate::ids::{ApplicationId, GroupId, UserId};

/// Every order with the built-in roles that may give it from another machine: `r`ead-only, `h`elpdesk, `p`olicy manager, `c`ertificate
/// manager, `a`dministrator; `-` is the server's own machine only.
const ORDERS: &[(&str, &str)] = &[
    ("app list", "rhpca"),
    ("app show x", "rhpca"),
    ("app create x", "a"),
    ("app enable x", "a"),
    ("app disable x", "a"),
    ("app delete x", "a"),
    ("app secret x", "a"),
    ("app scim-token x", "a"),
    ("app certificate x LICENSE", "a"),
    ("app remove-credential x y", "a"),
    ("app grant x", "a"),
    ("app permissions", "rhpca"),
    ("apple push-csr", "a"),
    ("apple push-cert LICENSE", "a"),
    ("apple push-status", "rhpca"),
    ("apple ade-key", "a"),
    ("apple ade-token LICENSE", "a"),
    ("apple ade-status", "rhpca"),
    ("apple ade-sync", "a"),
    ("apple ade-discovery", "a"),
    ("apple ade-discovery --show", "rhpca"),
    ("apple ade-devices", "rhpca"),
    ("apple content-token LICENSE", "pa"),
    ("apple content-status", "rhpca"),
    ("apple app-add LICENSE --name x --bundle-id x --app-version 1", "-"),
    ("apple app-list", "rhpca"),
    ("apple app-remove x", "pa"),
    ("apple ade-remove x", "a"),
    ("audit verify", "rhpca"),
    ("audit list", "rhpca"),
    ("backup x", "-"),
    ("enroll windows --user x", "ha"),
    ("enroll apple --user x", "ha"),
    ("ca list", "rhpca"),
    ("ca create x --common-name x", "ca"),
    ("ca import-certificate x --certificate LICENSE", "ca"),
    ("ca import x --certificate LICENSE --key LICENSE", "-"),
    ("ca show x", "rhpca"),
    ("ca certificates", "rhpca"),
    ("ca issue --csr LICENSE --subject CN=x", "a"),
    ("ca revoke x", "ca"),
    ("ca release x", "ca"),
    ("ca pause x", "ca"),
    ("ca activate x", "ca"),
    ("ca crl x", "ca"),
    ("ca scep challenge --subject CN=x", "a"),
    ("ca scep pending", "rhpca"),
    ("ca scep approve x", "ca"),
    ("ca scep refuse x", "ca"),
    ("ca export", "rhpca"),
    ("deleted list", "rhpca"),
    // Who may do it is asked once more when it is known what kind of object it is.
    ("deleted restore x", "rhpca"),
    ("deleted purge x", "rhpca"),
    ("device list", "rhpca"),
    ("device show x", "rhpca"),
    ("device explain x", "rhpca"),
    ("device autopilot import LICENSE", "a"),
    ("device autopilot list", "rhpca"),
    ("device autopilot change x --name y", "a"),
    ("device autopilot remove x", "a"),
    ("device sync x", "ha"),
    ("device command x lock", "ha"),
    ("device command x reboot", "ha"),
    ("device command x shut-down", "ha"),
    ("device command x clear-passcode", "ha"),
    ("device command x enable-lost-mode", "ha"),
    ("device command x rotate-filevault-key", "a"),
    ("device command x wipe", "a"),
    ("device command x wipe-keep-user-data", "a"),
    ("device command x unenroll", "a"),
    ("device command x list-users", "a"),
    ("device command x --uri ./DevDetail", "a"),
    ("device orders x", "rhpca"),
    ("device cancel x", "a"),
    ("device inventory x", "rhpca"),
    ("device secret x", "a"),
    ("device retire x", "a"),
    ("device retire x --give-up", "a"),
    ("group list", "rhpca"),
    ("group show x", "rhpca"),
    ("group create x", "a"),
    ("group rule x y", "a"),
    ("group test-rule x", "rhpca"),
    ("group import LICENSE", "-"),
    ("group delete x", "a"),
    ("group add x --user y", "a"),
    ("group remove x --user y", "a"),
    ("keys status", "-"),
    ("keys prepare", "-"),
    ("keys rotate", "-"),
    ("keys retire", "-"),
    ("policy list", "rhpca"),
    ("policy ready", "rhpca"),
    ("policy settings", "rhpca"),
    ("policy show x", "rhpca"),
    ("policy show x --secrets", "a"),
    ("policy apply macos-compliance", "pa"),
    ("policy rename x y", "pa"),
    ("policy assign x --all-devices", "pa"),
    ("policy unassign x --all-devices", "pa"),
    ("policy export x", "rhpca"),
    ("policy export x --secrets", "a"),
    ("policy delete x", "pa"),
    ("profile list", "rhpca"),
    ("profile ready", "rhpca"),
    ("profile settings", "rhpca"),
    ("profile show x", "rhpca"),
    ("profile show x --secrets", "a"),
    ("profile apply bitlocker", "pa"),
    ("profile rename x y", "pa"),
    ("profile assign x --all-devices", "pa"),
    ("profile unassign x --all-devices", "pa"),
    ("profile export x", "rhpca"),
    ("profile export x --secrets", "a"),
    ("profile delete x", "pa"),
    ("role list", "rhpca"),
    ("role show x", "rhpca"),
    ("role create x --allow y", "a"),
    ("role delete x", "a"),
    ("role assign x --user y", "a"),
    ("role unassign x", "a"),
    ("settings", "-"),
    ("signals receiver list", "rhpca"),
    ("signals receiver add x https://x", "a"),
    ("signals receiver test x", "a"),
    ("signals receiver pause x", "a"),
    ("signals receiver resume x", "a"),
    ("signals receiver remove x", "a"),
    ("signals keys list", "rhpca"),
    ("signals keys replace", "-"),
    ("signals outbox", "rhpca"),
    ("signals retry 1", "a"),
    ("status", "rhpca"),
    ("user list", "rhpca"),
    ("user show x", "rhpca"),
    ("user create x@y", "a"),
    ("user create x@y --administrator", "a"),
    ("user create x@y --sid S-1-5-21-1", "-"),
    ("user change x --name y", "a"),
    ("user change x --administrator true", "a"),
    ("user change x --sam y", "-"),
    ("user enable x", "a"),
    ("user disable x", "a"),
    ("user delete x", "a"),
    ("user break-glass list", "rhpca"),
    ("user break-glass add x", "-"),
    ("user break-glass remove x", "-"),
    ("user import LICENSE", "-"),
    ("user pfx key", "rhpca"),
    ("user pfx list x", "rhpca"),
    ("user pfx import x LICENSE --purpose vpn", "ca"),
    ("user pfx delete x y", "ca"),
    ("user tap x", "ha"),
];

fn order(line: &str) -> Order {
    let line = Line::try_parse_from(std::iter::once("muster").chain(line.split(' '))).unwrap_or_else(|error| panic!("{line}: {error}"));
    match line.command {
        Command::Order(order) => order,
        other => panic!("{other:?}"),
    }
}

fn caller(role: &str, reach: Reach) -> Caller {
    Caller {
        application: ApplicationId::new(),
        client_id: "c".into(),
        identity: Identity::Person(UserId::new()),
        scopes: Scope::ALL.iter().copied().collect(),
        roles: vec![(Role::built_in(role).unwrap(), reach)],
        signed_in_at: None,
        grant: None,
    }
}

fn code(needs: &[Need], caller: Caller) -> Option<&'static str> {
    let who = Who::remote(caller, "192.0.2.1".into());
    needs.iter().find_map(|need| match who.check(*need) {
        Ok(()) => None,
        Err(crate::service::Error::Refused(refusal) | crate::service::Error::Invalid(refusal, _)) => Some(refusal.code()),
        Err(other) => panic!("{other}"),
    })
}

#[test]
fn whoever_replaces_keys_and_passwords_needs_no_right_to_all_orders() {
    for id in ["rotate-filevault-key", "rotate-bitlocker-keys", "reset-local-administrator-password", "set-administrator-password"] {
        assert_eq!(order(&format!("device command x {id}")).place(), any([task(Action::RemoteRotateKeys)]), "{id}");
        assert!(["apple", "windows"].iter().any(|platform| known(platform, id)), "{id}");
    }
}

/// Whether there is such an order.
fn known(platform: &str, id: &str) -> bool {
    let folder = format!("{}/profiles/{platform}", env!("CARGO_MANIFEST_DIR"));
    let mut files = std::fs::read_dir(folder).unwrap().filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
    files.any(|text| text.contains(&format!("id = \"{id}\"")))
}

#[test]
fn each_order_is_for_the_roles_that_are_meant() {
    for (line, expected) in ORDERS {
        let letters = match order(line).place() {
            Place::LocalOnly => "-".to_owned(),
            Place::Anywhere(needs) => {
                assert!(!needs.is_empty(), "{line}");
                let may = |word: &str| match code(&needs, caller(word, Reach::All)) {
                    None => true,
                    Some(code) => {
                        assert_eq!(code, "ORD0001", "{line}");
                        false
                    }
                };
                BUILT_IN.iter().filter(|role| may(role.word)).filter_map(|role| role.word.chars().next()).collect()
            }
        };
        assert_eq!(letters, *expected, "{line}");
    }
}

#[test]
fn who_is_bound_to_groups_or_comes_by_an_application_without_permission_gives_none() {
    for (line, _) in ORDERS {
        let Place::Anywhere(needs) = order(line).place() else { continue };
        let bound = Reach::Groups([GroupId::new()].into());
        assert_eq!(code(&needs, caller("administrator", bound)), Some("ORD0002"), "{line}");
        let plain = Caller { scopes: [Scope::UserRead].into(), ..caller("administrator", Reach::All) };
        assert_eq!(code(&needs, plain), Some("ORD0001"), "{line}");
    }
}

#[test]
fn every_order_is_among_them() {
    let elsewhere = [
        "apply", "config", "demo", "doctor", "echo", "export", "help", "init", "login", "logout", "restore", "serve", "simulate", "whoami",
    ];
    let mut open: Vec<(String, clap::Command)> = Line::command()
        .get_subcommands()
        .filter(|command| !elsewhere.contains(&command.get_name()))
        .map(|command| (command.get_name().to_owned(), command.clone()))
        .collect();
    let mut count = 0;
    while let Some((path, command)) = open.pop() {
        let below: Vec<_> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
        if below.is_empty() {
            count += 1;
            let known = |line: &str| line == path || line.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with(' '));
            assert!(ORDERS.iter().any(|(line, _)| known(line)), "{path}");
        }
        open.extend(below.into_iter().map(|one| (format!("{path} {}", one.get_name()), one.clone())));
    }
    assert!(count > 90, "{count}");
}

#[test]
fn an_order_is_named_without_what_it_says() {
    for (line, words) in [
        ("device retire x", "device retire"),
        ("keys status", "keys status"),
        ("ca scep approve x", "ca scep approve"),
        ("user tap x", "user tap"),
        ("status", "status"),
        ("group add x --user secret", "group add"),
    ] {
        assert_eq!(order(line).words(), words);
    }
}
