//! The command line at another machine: the real program signs in to a real server over TLS by a code, and gives orders there.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use muster::cli::Order;
use muster::clock::{HOUR, MINUTE};
use muster::domain::access::{Reach, Scope};
use muster::domain::application::COMMAND_LINE;
use muster::domain::device::Platform;
use muster::domain::tap::Policy;
use muster::ids::{ApplicationId, GroupId, RoleAssignmentId, UserId};
use muster::service::application;
use muster::service::directory::{self, By};
use muster::service::identity::tap;
use muster::store::{audit, devices, enrollments};
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::desired::{device, enrollment, user};
use crate::graph::access::{delegated, give, give_within};
use crate::support::browser::{Browser, Seen};
use crate::support::server::Server;

const ANA: &str = "ana@example.org";

fn by() -> By {
    By::local("cli:test")
}

/// A server, and another machine at which somebody works.
struct Desk {
    server: Server,
    ana: UserId,
    browser: Browser,
    home: tempfile::TempDir,
}

impl Desk {
    async fn new(role: &str) -> Self {
        let server = Server::start().await;
        let ana = directory::create_user(&server.app, user(ANA), &by()).await.unwrap().id;
        give(&server, role, &ana).await;
        let mut browser = Browser::new(&server);
        let pass = Policy { one_time: false, lifetime: 8 * HOUR, ..Policy::default() };
        let pass = tap::create(&server.app, &ana, pass, None, "cli:test", "local").await.unwrap().show().to_owned();
        assert_eq!(browser.sign_in("/account/security", ANA, &pass).await.status, 303);
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("ca.pem"), &server.root_pem).unwrap();
        Self { server, ana, browser, home }
    }

    fn muster(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.current_dir(self.home.path()).env_clear().env("XDG_CONFIG_HOME", self.home.path().join("config")).env("NO_PROXY", "*");
        command.args(args);
        command
    }

    /// The program runs beside the server, which is in this process.
    async fn run(&self, args: &[&str]) -> Output {
        let mut command = self.muster(args);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat()).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    async fn decide(&mut self, code: &str, decision: &str) -> Seen {
        let mark = self.browser.get("/devicelogin").await.field("mark");
        self.browser.post("/devicelogin", &[("mark", &mark), ("code", code), ("decision", decision)]).await
    }

    /// Begins to sign in, and decides at the browser.
    async fn sign_in(&mut self, decision: &str) -> Output {
        let web = self.server.web.clone();
        let mut child =
            self.muster(&["login", &web, "--ca", "ca.pem", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let (code, mut said) = tokio::task::spawn_blocking(move || {
            let mut all = String::new();
            loop {
                let mut line = String::new();
                assert!(said.read_line(&mut line).unwrap() > 0, "it ended: {all}");
                let word = line.trim();
                if word.len() == 10 && word.as_bytes()[4] == b'-' {
                    break (word.to_owned(), said);
                }
                all.push_str(&line);
            }
        })
        .await
        .unwrap();
        let confirm = self.decide(&code, "").await;
        for part in ["Muster command line", ANA, "all that your roles allow", "Go on only if you started it yourself"] {
            assert!(confirm.html.contains(part), "{part}: {}", confirm.html);
        }
        self.decide(&code, decision).await;
        tokio::task::spawn_blocking(move || {
            let mut output = child.wait_with_output().unwrap();
            said.read_to_end(&mut output.stderr).unwrap();
            output
        })
        .await
        .unwrap()
    }

    async fn login(&mut self) -> Value {
        let output = self.sign_in("yes").await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The file of the login.
    fn kept(&self) -> PathBuf {
        let folder = self.home.path().join("config/muster/logins");
        let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|ending| ending == "json")).unwrap()
    }

    fn login_kept(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.kept()).unwrap()).unwrap()
    }

    /// An order with that token: status and body.
    async fn order(&self, token: &str, order: Value) -> (u16, Value) {
        let answer = self.server.client().post(format!("{}/api/orders", self.server.web)).bearer_auth(token).json(&order).send().await;
        let answer = answer.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let status = answer.status().as_u16();
        assert_eq!(kind, if status == 200 { "application/json" } else { "application/problem+json" });
        (status, answer.json().await.unwrap())
    }

    /// The code with which an order is refused.
    async fn code(&self, token: &str, order: Value) -> String {
        let (status, body) = self.order(token, order).await;
        assert!((400..500).contains(&status), "{body}");
        body["code"].as_str().unwrap().to_owned()
    }

    /// A token of somebody with that role, as the command line gets one.
    async fn token(&self, upn: &str, role: &str, reach: Reach) -> (UserId, String) {
        let id = directory::create_user(&self.server.app, user(upn), &by()).await.unwrap().id;
        give_within(&self.server, role, &id, reach).await;
        (id, delegated(&self.server, upn, Scope::ALL).await)
    }

    async fn devices(&self) {
        let (ana, now) = (self.ana.clone(), self.server.app.now());
        let write = move |tx: &mut muster::store::Tx<'_>| {
            for (name, platform) in [("PC-1", Platform::Windows), ("Mac of Ana", Platform::MacOs)] {
                let made = device(name, platform, Some(&ana));
                devices::insert_device(tx, &made, now)?;
                enrollments::insert_enrollment(tx, &enrollment(&made, now))?;
            }
            Ok(())
        };
        self.server.app.store.write(write).await.unwrap();
    }
}

fn list() -> Value {
    json!({ "Device": { "List": { "user": null, "state": null, "platform": null, "name": null, "serial": null, "after": "", "limit": 200 } } })
}

#[actix_web::test]
async fn a_person_signs_in_by_a_code_and_orders_from_another_machine() {
    let mut desk = Desk::new("administrator").await;
    desk.devices().await;
    assert!(desk.refused(&["device", "list", "--remote"]).await.contains("nobody is logged in"));
    assert!(desk.refused(&["device", "list"]).await.contains("muster init"), "without a login nothing goes elsewhere");
    let login = desk.login().await;
    assert_eq!((&login["server"], &login["user"]), (&json!(desk.server.web), &json!(ANA)), "{login}");
    let file = desk.kept();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    // The same as at the server's own machine.
    let order: Order = serde_json::from_value(list()).unwrap();
    let local = order.run(&desk.server.app, "cli:test").await.unwrap();
    assert_eq!(local.as_array().unwrap().len(), 2);
    assert_eq!(desk.json(&["device", "list"]).await, local);
    assert_eq!(desk.json(&["--server", &desk.server.web, "device", "list"]).await, local);
    let table = String::from_utf8(desk.run(&["device", "list", "--remote"]).await.stdout).unwrap();
    assert!(table.contains("Mac of Ana") && table.contains("PC-1") && table.contains(ANA), "{table}");
    let me = desk.json(&["whoami"]).await;
    assert_eq!((&me["user"], &me["id"]), (&json!(ANA), &json!(desk.ana)), "{me}");
    let kept = desk.json(&["login", "--status"]).await;
    assert_eq!((&kept[0]["user"], &kept[0]["ca"]), (&json!(ANA), &json!("of the login")), "{kept}");
    // A place on this machine goes before the login.
    assert!(desk.refused(&["--data-dir", "none", "device", "list"]).await.contains("muster init"));
    assert!(desk.refused(&["--data-dir", "none", "--server", &desk.server.web, "device", "list"]).await.contains("one of the two"));
    assert!(desk.refused(&["init", "--remote"]).await.contains("server's own machine"));
    // In the audit log: who, by which application, from where.
    desk.json(&["group", "create", "Remote"]).await;
    let rows = desk.server.app.store.read(|conn| audit::list(conn, 0, 1000)).await.unwrap();
    let actor = format!("user:{}", desk.ana);
    let given = rows.iter().find(|row| row.action == "order.give").unwrap();
    assert_eq!((given.actor.as_str(), given.origin.as_str()), (actor.as_str(), "127.0.0.1"));
    let state: Value = serde_json::from_str(given.after.as_deref().unwrap()).unwrap();
    assert_eq!(state, json!({ "order": "group create", "application": COMMAND_LINE }));
    let made = rows.iter().find(|row| row.action == "group.create").unwrap();
    assert_eq!((made.actor.as_str(), made.origin.as_str()), (actor.as_str(), "127.0.0.1"));
}

#[actix_web::test]
async fn tokens_are_renewed_and_end_with_the_login() {
    let mut desk = Desk::new("read-only").await;
    desk.login().await;
    let before = desk.login_kept();
    // The server says that the token has expired; the program gets another one.
    desk.server.clock.advance(2 * HOUR);
    assert!(desk.run(&["user", "list"]).await.status.success());
    let after = desk.login_kept();
    assert_ne!(before["access_token"], after["access_token"]);
    assert_ne!(before["refresh_token"], after["refresh_token"]);
    assert_eq!(before["user"], after["user"]);
    // Several at once do not burn the refresh token.
    desk.server.clock.advance(2 * HOUR);
    let all = futures_util::future::join_all((0..4).map(|_| desk.run(&["user", "list"]))).await;
    assert!(all.iter().all(|output| output.status.success()), "{}", String::from_utf8_lossy(&all[0].stderr));
    desk.server.clock.advance(2 * HOUR);
    assert!(desk.run(&["user", "list"]).await.status.success(), "and the newest is kept");
    // Files that others may write are said, and closed again.
    let file = desk.kept();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = desk.run(&["user", "list"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("mode 644") && said.contains("muster logout"), "{said}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // Signing out ends what somebody else has kept, too.
    let stolen = desk.login_kept();
    let token = stolen["access_token"].as_str().unwrap();
    assert_eq!(desk.order(token, list()).await.0, 200);
    let out = desk.json(&["logout"]).await;
    assert_eq!(out["ended_at_the_server"], true, "{out}");
    assert!(!file.exists());
    let (status, body) = desk.order(token, list()).await;
    assert_eq!((status, body["code"].as_str().unwrap()), (401, "unauthenticated"), "{body}");
    let form = [("grant_type", "refresh_token"), ("client_id", COMMAND_LINE), ("refresh_token", stolen["refresh_token"].as_str().unwrap())];
    let answer = desk.server.client().post(format!("{}/common/oauth2/v2.0/token", desk.server.web)).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(desk.refused(&["user", "list", "--remote"]).await.contains("nobody is logged in"));
    let rows = desk.server.app.store.read(|conn| audit::list(conn, 0, 1000)).await.unwrap();
    assert!(rows.iter().any(|row| row.action == "grant.revoke" && row.actor == format!("user:{}", desk.ana)));
}

#[actix_web::test]
async fn a_login_that_is_refused_ends_and_a_stranger_is_not_trusted() {
    let mut desk = Desk::new("administrator").await;
    let web = desk.server.web.clone();
    // Not known to the system, and not to another CA.
    let said = desk.refused(&["login", &web]).await;
    assert!(said.contains("certificate") && said.contains("--ca"), "{said}");
    let other = crate::support::ca::Ca::new("Another root").root.to_pem().unwrap();
    std::fs::write(desk.home.path().join("other.pem"), other).unwrap();
    assert!(desk.refused(&["login", &web, "--ca", "other.pem"]).await.contains("certificate"));
    std::fs::write(desk.home.path().join("no.pem"), "nothing").unwrap();
    assert!(desk.refused(&["login", &web, "--ca", "no.pem"]).await.contains("no certificates"));
    assert!(desk.refused(&["login", &web.replace("https", "http")]).await.contains("https://HOST"));
    let output = desk.sign_in("no").await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("turned away"), "{said}");
    assert!(!desk.home.path().join("config").exists(), "nothing is kept of it");
    // An administrator can close the way, and nothing else of the application changes.
    let id = ApplicationId::from_store(COMMAND_LINE.into());
    let app = &desk.server.app;
    let code = |error: muster::service::Error| error.to_string().chars().take(7).collect::<String>();
    assert_eq!(code(application::delete(app, &id, &by()).await.unwrap_err()), "OAU0006");
    assert_eq!(code(application::add_secret(app, &id, "x", HOUR, &by()).await.unwrap_err()), "OAU0006");
    assert_eq!(code(application::grant(app, &id, Default::default(), &by()).await.unwrap_err()), "OAU0006");
    let order = |order: Value| serde_json::from_value::<Order>(order).unwrap().run(app, "cli:test");
    assert_eq!(order(json!({ "App": { "Disable": { "app": COMMAND_LINE } } })).await.unwrap()["enabled"], false);
    assert!(desk.refused(&["login", &web, "--ca", "ca.pem"]).await.contains("disabled"));
    order(json!({ "App": { "Enable": { "app": "Muster command line" } } })).await.unwrap();
    let found = app.store.read(|conn| muster::store::applications::find_by_client_id(conn, COMMAND_LINE)).await.unwrap().unwrap();
    let renamed = muster::domain::application::Application { display_name: "Mine".into(), ..found };
    assert_eq!(code(application::update(app, renamed, &by()).await.unwrap_err()), "OAU0006");
}

#[actix_web::test]
async fn an_order_needs_a_good_token_a_role_and_a_place() {
    let desk = Desk::new("read-only").await;
    assert_eq!(desk.code("nonsense", list()).await, "unauthenticated");
    let answer = desk.server.client().post(format!("{}/api/orders", desk.server.web)).json(&list()).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    let answer = desk.server.client().get(format!("{}/api/orders", desk.server.web)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &HeaderValue::from_static("POST")));
    let reader = delegated(&desk.server, ANA, Scope::ALL).await;
    assert_eq!(desk.order(&reader, list()).await.0, 200);
    let tap = |user: &str| json!({ "User": { "Tap": { "user": user, "minutes": null, "length": null, "reusable": false } } });
    assert_eq!(desk.code(&reader, tap(ANA)).await, "ORD0001");
    for order in [json!("Settings"), json!({ "Keys": "Rotate" }), json!({ "Backup": { "to": "copy.db" } })] {
        assert_eq!(desk.code(&reader, order.clone()).await, "ORD0003", "{order}");
    }
    for order in [json!("Nothing"), json!({ "Device": "Explode" }), json!(7), json!({}), tap("a\0")] {
        assert_eq!(desk.code(&reader, order.clone()).await, "ORD0004", "{order}");
    }
    let plain = delegated(&desk.server, ANA, &[Scope::UserRead]).await;
    assert_eq!(desk.code(&plain, list()).await, "ORD0001", "an application without the permission");
    let group = GroupId::parse(directory::create_group(&desk.server.app, "Some", "", &by()).await.unwrap().id.as_str()).unwrap();
    let (_, bound) = desk.token("bound@example.org", "administrator", Reach::Groups([group].into())).await;
    assert_eq!(desk.code(&bound, list()).await, "ORD0002");
    let long = "x".repeat(17 * 1024 * 1024);
    let request = desk.server.client().post(format!("{}/api/orders", desk.server.web)).bearer_auth(&reader).body(long);
    // It may be that it hangs up before all was sent.
    assert_eq!(request.send().await.map_or(413, |answer| answer.status().as_u16()), 413);
    desk.server.clock.advance(61 * MINUTE + MINUTE);
    assert_eq!(desk.code(&reader, list()).await, "unauthenticated", "it has expired");
}

/// What gives rights away is asked for as over the Graph-shaped API.
#[actix_web::test]
async fn nobody_gives_away_what_they_may_not_do_themselves() {
    let desk = Desk::new("administrator").await;
    let app = &desk.server.app;
    let admin = delegated(&desk.server, ANA, Scope::ALL).await;
    let (_, helper) = desk.token("help@example.org", "helpdesk", Reach::All).await;
    let (_, _) = desk.token("read@example.org", "read-only", Reach::All).await;
    let (_, _) = desk.token("policy@example.org", "policy-manager", Reach::All).await;
    let tap = |user: &str| json!({ "User": { "Tap": { "user": user, "minutes": null, "length": null, "reusable": false } } });
    // Passes: not for oneself, not for who may do more, and for all others.
    assert_eq!(desk.code(&helper, tap("help@example.org")).await, "AUT0009");
    assert_eq!(desk.code(&admin, tap(ANA)).await, "AUT0009");
    assert_eq!(desk.code(&helper, tap(ANA)).await, "ACC0013");
    assert_eq!(desk.code(&helper, tap("policy@example.org")).await, "ACC0013");
    assert_eq!(desk.order(&helper, tap("read@example.org")).await.0, 200);
    let windows =
        |user: &str| json!({ "Enroll": { "Windows": { "user": user, "minutes": 60, "length": 12, "reusable": false, "token": false } } });
    assert_eq!(desk.code(&admin, windows(ANA)).await, "AUT0009", "a pass for a PC is one to sign in with");
    assert_eq!(desk.code(&helper, windows(ANA)).await, "ACC0013");
    // Somebody who may give roles and look after people, and is no administrator.
    let actions = ["Microsoft.Intune_Roles_Assign", "Microsoft.Intune_Roles_Create", "Muster_Directory_Update", "Muster_Groups_Update"];
    let more = ["Muster_Directory_Read", "Muster_Applications_Update", "Muster_Applications_Read"];
    let allow: Vec<_> = actions.iter().chain(&more).copied().collect();
    let made = desk.order(&admin, json!({ "Role": { "Create": { "name": "Half", "description": "", "actions": allow } } })).await;
    assert_eq!(made.0, 200, "{made:?}");
    let half_role = made.1["id"].as_str().unwrap().to_owned();
    directory::create_user(app, user("half@example.org"), &by()).await.unwrap();
    let assign =
        |role: &str, user: &str| json!({ "Role": { "Assign": { "role": role, "user": [user], "group": [], "reach": [], "name": null } } });
    assert_eq!(desk.order(&admin, assign(&half_role, "half@example.org")).await.0, 200);
    let half = delegated(&desk.server, "half@example.org", Scope::ALL).await;
    assert_eq!(desk.code(&half, assign("administrator", "half@example.org")).await, "ACC0008");
    assert_eq!(desk.code(&half, assign("read-only", "read@example.org")).await, "ACC0008");
    assert_eq!(desk.order(&half, assign("Half", "read@example.org")).await.0, 200, "its own");
    let greater = json!({ "Role": { "Create": { "name": "More", "description": "", "actions": ["Microsoft.Intune_RemoteTasks_Wipe"] } } });
    assert_eq!(desk.code(&half, greater).await, "ACC0008");
    let details = json!({ "mail": null, "sam": null, "sid": null, "dn": null });
    let create = json!({ "User": { "Create": { "upn": "new@example.org", "name": null, "details": details, "administrator": true } } });
    assert_eq!(desk.code(&half, create).await, "ACC0008");
    let users = desk.order(&half, json!({ "User": { "List": { "after": "", "limit": 200 } } })).await.1;
    assert!(!users.to_string().contains("new@example.org"), "nothing is half done");
    let change = |user: &str, administrator: Value| {
        let details = json!({ "mail": null, "sam": null, "sid": null, "dn": null });
        json!({ "User": { "Change": { "user": user, "upn": null, "name": "X", "details": details, "administrator": administrator } } })
    };
    assert_eq!(desk.code(&half, change("read@example.org", json!(true))).await, "ACC0008");
    assert_eq!(desk.code(&half, change(ANA, Value::Null)).await, "ACC0013");
    assert_eq!(desk.code(&half, json!({ "User": { "Disable": { "user": ANA } } })).await, "ACC0013");
    assert_eq!(desk.code(&half, json!({ "User": { "Delete": { "user": ANA } } })).await, "ACC0013");
    // A group that has a role.
    directory::create_group(app, "Chiefs", "", &by()).await.unwrap();
    let chiefs = json!({ "Role": { "Assign": { "role": "administrator", "user": [], "group": ["Chiefs"], "reach": [], "name": null } } });
    assert_eq!(desk.order(&admin, chiefs).await.0, 200);
    for order in [
        json!({ "Group": { "Add": { "group": "Chiefs", "user": ["half@example.org"], "device": [] } } }),
        json!({ "Group": { "Remove": { "group": "Chiefs", "user": ["half@example.org"], "device": [] } } }),
        json!({ "Group": { "Delete": { "group": "Chiefs" } } }),
    ] {
        assert_eq!(desk.code(&half, order.clone()).await, "ACC0008", "{order}");
    }
    // A group for which somebody has a role: to be put into it is to be in their reach.
    directory::create_group(app, "Reached", "", &by()).await.unwrap();
    let within = json!({ "Role": { "Assign": { "role": "helpdesk", "user": ["half@example.org"], "group": [], "reach": ["Reached"],
        "name": null } } });
    assert_eq!(desk.order(&admin, within).await.0, 200);
    for order in [
        json!({ "Group": { "Add": { "group": "Reached", "user": ["policy@example.org"], "device": [] } } }),
        json!({ "Group": { "Rule": { "group": "Reached", "rule": "user.accountEnabled -eq true" } } }),
        json!({ "Group": { "Delete": { "group": "Reached" } } }),
    ] {
        assert_eq!(desk.code(&half, order.clone()).await, "ACC0008", "{order}");
    }
    // Applications that would do in their own name what their maker may not.
    let application = |own: Value| {
        json!({ "App": { "Create": { "name": "Robot", "public": false, "web": [], "spa": [], "native": [], "logout": [], "own": own,
            "delegated": [], "secret": false } } })
    };
    assert_eq!(desk.code(&half, application(json!(["DeviceManagementRBAC.ReadWrite.All"]))).await, "ACC0015");
    let (status, made) = desk.order(&admin, application(json!(["DeviceManagementRBAC.ReadWrite.All"]))).await;
    assert_eq!(status, 200, "{made}");
    for order in [
        json!({ "App": { "Secret": { "app": "Robot", "name": "s", "days": 1 } } }),
        json!({ "App": { "Grant": { "app": "Robot", "own": [], "delegated": [] } } }),
        json!({ "App": { "Disable": { "app": "Robot" } } }),
        json!({ "App": { "Enable": { "app": "Robot" } } }),
        json!({ "App": { "Delete": { "app": "Robot" } } }),
        json!({ "App": { "RemoveCredential": { "app": "Robot", "credential": RoleAssignmentId::new() } } }),
        json!({ "App": { "Disable": { "app": COMMAND_LINE } } }),
    ] {
        assert_eq!(desk.code(&half, order.clone()).await, "ACC0015", "{order}");
    }
    assert_eq!(desk.order(&admin, json!({ "App": { "Disable": { "app": "Robot" } } })).await.0, 200);
    assert_eq!(
        desk.order(
            &half,
            json!({ "App": { "Create": { "name": "Weak", "public": false, "web": [], "spa": [], "native": [],
        "logout": [], "own": [], "delegated": [], "secret": false } } })
        )
        .await
        .0,
        200
    );
    assert_eq!(desk.order(&half, json!({ "App": { "Disable": { "app": "Weak" } } })).await.0, 200);
    // Accounts for emergencies, and whose account in Active Directory somebody is, are for the server's own machine.
    for order in [
        json!({ "User": { "BreakGlass": { "Add": { "user": ANA } } } }),
        json!({ "User": { "Change": { "user": "read@example.org", "upn": null, "name": null, "administrator": null,
            "details": { "mail": null, "sam": null, "sid": "S-1-5-21-1-1-1-500", "dn": null } } } }),
    ] {
        assert_eq!(desk.code(&admin, order.clone()).await, "ORD0003", "{order}");
    }
    // What is deleted comes back by those who may look after its kind.
    assert_eq!(desk.order(&admin, json!({ "Group": { "Delete": { "group": "Chiefs" } } })).await.0, 200);
    let gone = desk.order(&admin, json!({ "Deleted": { "List": { "limit": 10 } } })).await.1;
    let id = gone["groups"][0]["id"].as_str().unwrap();
    assert_eq!(desk.code(&helper, json!({ "Deleted": { "Restore": { "id": id } } })).await, "ORD0001");
    assert_eq!(desk.order(&admin, json!({ "Deleted": { "Restore": { "id": id } } })).await.0, 200);
}

#[actix_web::test]
async fn files_are_applied_from_another_machine_as_far_as_roles_allow() {
    let mut desk = Desk::new("administrator").await;
    desk.login().await;
    desk.json(&["group", "create", "Sales"]).await;
    desk.json(&["profile", "apply", "bitlocker"]).await;
    desk.json(&["profile", "assign", "BitLocker", "--group", "Sales"]).await;
    assert_eq!(desk.json(&["export", "it"]).await["files"], 2);
    let file = desk.home.path().join("it/profiles/BitLocker.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (begin, rest) = text.split_once("description = ").unwrap();
    std::fs::write(&file, format!("{begin}description = \"Ours\"\n{}", rest.split_once('\n').unwrap().1)).unwrap();
    let output = desk.run(&["apply", "it", "--dry-run"]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("+description = \"Ours\""), "{said}");
    let applied = desk.json(&["apply", "it", "--yes"]).await;
    assert_eq!((&applied["result"], &applied["steps"][0]["what"]), (&json!("applied"), &json!("change")), "{applied}");
    assert_eq!(desk.json(&["apply", "it", "--yes"]).await["result"], "nothing to change");
    let rows = desk.server.app.store.read(|conn| audit::list(conn, 0, 1000)).await.unwrap();
    let row = rows.iter().find(|row| row.action == "profile.update").unwrap();
    assert_eq!((row.actor.as_str(), row.origin.as_str()), (format!("user:{}", desk.ana).as_str(), "127.0.0.1"));
    assert!(rows.iter().any(|row| row.action == "order.give" && row.after.as_deref().unwrap().contains("files apply")));
    // Each by the rights that the same would need by itself.
    let (_, policy) = desk.token("policy@example.org", "policy-manager", Reach::All).await;
    let (_, reader) = desk.token("read@example.org", "read-only", Reach::All).await;
    let profile = |description: &str, assigned: Value| {
        json!(["profiles/x.toml", { "display_name": "X", "kind": "compliance", "platform": "windows", "assignments": assigned,
            "document": { "description": description, "compliance": { "rules": { "secureBootEnabled": true } } } }])
    };
    let wanted = |groups: Value, profiles: Value| json!({ "groups": groups, "profiles": profiles });
    let apply = async |token: &str, wanted: Value, prune: bool| {
        let (status, plan) = desk.order(token, json!({ "Files": { "Plan": { "wanted": wanted, "prune": prune } } })).await;
        assert_eq!(status, 200, "{plan}");
        let order = json!({ "Files": { "Apply": { "wanted": wanted, "prune": prune, "fingerprint": plan["fingerprint"] } } });
        let (status, body) = desk.order(token, order).await;
        if status == 200 { "done".to_owned() } else { body["code"].as_str().unwrap().to_owned() }
    };
    let group = json!([["groups/x.toml", { "display_name": "X" }]]);
    let new = json!([profile("", json!([{ "all": "devices" }]))]);
    assert_eq!(apply(&reader, wanted(json!([]), new.clone()), false).await, "ORD0001");
    assert_eq!(apply(&policy, wanted(group.clone(), json!([])), false).await, "ORD0001", "no group");
    assert_eq!(apply(&policy, wanted(json!([]), new.clone()), false).await, "done");
    assert_eq!(apply(&policy, wanted(json!([]), new), true).await, "ORD0001", "nor one that goes");
    // What differs tells nobody what a secret is who may not see it; and a file names no more people than can be looked up.
    let wifi = |password: &str| {
        json!(["profiles/wifi.toml", { "display_name": "Wi-Fi", "kind": "configuration", "platform": "windows",
            "document": { "custom": [{ "name": "Key", "uri": "./Vendor/MSFT/Secret/Key", "format": "chr", "value": password }] } }])
    };
    let (_, admin) = desk.token("other@example.org", "administrator", Reach::All).await;
    assert_eq!(apply(&admin, wanted(json!([]), json!([wifi("482913")])), false).await, "done");
    let plan = async |token: &str, password: &str| {
        let order = json!({ "Files": { "Plan": { "wanted": wanted(json!([]), json!([wifi(password)])), "prune": false } } });
        desk.order(token, order).await.1["steps"].clone()
    };
    for token in [&reader, &policy] {
        let (right, wrong, hidden) = (plan(token, "482913").await, plan(token, "000000").await, plan(token, "(secret)").await);
        assert_eq!(right, wrong);
        let of =
            |steps: &Value| steps.as_array().unwrap().iter().filter(|step| step["name"] == "Wi-Fi" && step["what"] == "change").count();
        assert_eq!((of(&right), of(&hidden)), (1, 0), "{right}");
    }
    assert_ne!(plan(&admin, "482913").await, plan(&admin, "000000").await, "whoever may see it sees whether it is another one");
    let rows = desk.server.app.store.read(|conn| audit::list(conn, 0, 1000)).await.unwrap();
    assert!(rows.iter().filter(|row| row.action == "order.give" && row.after.as_deref().unwrap().contains("files plan")).count() >= 4);
    let names: Vec<String> = (0..100_001).map(|n| format!("u{n}@example.org")).collect();
    let many = wanted(json!([["groups/m.toml", { "display_name": "M", "members": { "users": names } }]]), json!([]));
    let (status, body) = desk.order(&reader, json!({ "Files": { "Plan": { "wanted": many, "prune": false } } })).await;
    assert!(status == 200 && body["errors"][0]["text"].as_str().unwrap().contains("more than 100000 members"), "{body}");
    let secrets = json!({ "Files": { "Export": { "secrets": true } } });
    assert_eq!(desk.code(&policy, secrets).await, "ORD0001");
    assert_eq!(desk.order(&reader, json!({ "Files": { "Export": { "secrets": false } } })).await.0, 200);
}
