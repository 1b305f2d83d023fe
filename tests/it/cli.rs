//! The program as people run it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub fn muster(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.current_dir(folder).env_clear().args(["--data-dir", "data", "--set", "ca.key_algorithm=p-256"]);
    for face in ["web", "device", "pki"] {
        command.args(["--set", &format!("{face}.listen=127.0.0.1:0")]);
    }
    command
}

pub fn run(folder: &Path, args: &[&str]) -> Output {
    muster(folder).args(args).output().unwrap()
}

pub fn json(folder: &Path, args: &[&str]) -> Value {
    let output = run(folder, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn refused(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// A server that runs until it is dropped, with where its web face is.
pub struct Serving(Child, pub String);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server and waits until it says that it serves.
pub fn serve(folder: &Path) -> Serving {
    let mut child = muster(folder).arg("serve").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let web = loop {
        let line = lines.next().expect("the server ended before it served").unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        assert!(!said["target"].as_str().unwrap_or_default().starts_with("actix"), "libraries keep quiet: {line}");
        if said["message"] == "serving" {
            break said["web"].as_str().unwrap().to_owned();
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    Serving(child, web)
}

#[test]
fn a_wrong_setting_is_named_with_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("muster.toml"), "[compliance]\nvalidity_days = 500\n").unwrap();
    let said = refused(folder.path(), &["status"]);
    assert!(said.contains("compliance.validity_days = 500: must be 1 to 120"), "{said}");
}

#[test]
fn a_configuration_file_that_is_missing_is_named_once() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), &["--config", "no.toml", "status"]);
    assert!(said.contains("no.toml") && said.matches("No such file").count() == 1, "{said}");
}

#[test]
fn the_configuration_prints_as_a_file_that_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), &["config", "print"]).stdout;
    std::fs::write(folder.path().join("other.toml"), &first).unwrap();
    let second = run(folder.path(), &["--config", "other.toml", "config", "print"]).stdout;
    assert!(first.starts_with(b"# Folder of the database"));
    assert_eq!(String::from_utf8(first).unwrap(), String::from_utf8(second).unwrap());
}

#[test]
fn the_manual_lists_every_setting() {
    let manual = std::fs::read_to_string("docs/configuration.md").unwrap();
    let table = muster::config::Config::manual();
    assert!(manual.contains(&table), "put the output of `cargo run -- config manual` into docs/configuration.md");
}

#[test]
fn an_instance_is_made_once_and_again_without_harm() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let first = json(folder.path(), &["init", "--admin", "Anna@example.org"]);
    assert_eq!(first["administrator"], "anna@example.org");
    assert!(first["temporary_access_pass"].as_str().unwrap().len() >= 12);
    let again = json(folder.path(), &["init", "--admin", "anna@example.org"]);
    assert_eq!((&again["tenant"], &again["temporary_access_pass"]), (&first["tenant"], &Value::Null));
    // Nobody gets another administrator, or another pass, by running it again.
    for args in [&["init"][..], &["init", "--admin", "zoe@example.org"]] {
        let again = json(folder.path(), args);
        assert_eq!((&again["administrator"], &again["temporary_access_pass"]), (&first["administrator"], &Value::Null));
        let next = again["next"].as_str().unwrap();
        assert!(next.contains("is set up") && next.contains("muster user tap anna@example.org"), "{next}");
    }
    assert_eq!(json(folder.path(), &["user", "list"]).as_array().unwrap().len(), 1);
    for (file, mode) in [("data", 0o700), ("data/master.key", 0o600)] {
        let found = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
    assert_eq!(json(folder.path(), &["status"])["tenant"], first["tenant"]);
    // With another master key nothing opens.
    std::fs::remove_file(folder.path().join("data/master.key")).unwrap();
    assert!(refused(folder.path(), &["init"]).contains("master.key is missing"));
    assert!(!folder.path().join("data/master.key").exists());
}

#[test]
fn orders_reach_a_running_server_and_a_second_server_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let made = json(path, &["init"]);
    let serving = serve(path);
    let status = json(path, &["status"]);
    assert_eq!(status["tenant"], made["tenant"]);
    assert_eq!(status["web"], serving.1.as_str(), "the running server answers, with its true port");
    let said = refused(path, &["serve"]);
    assert!(said.contains("another muster process has"), "{said}");
    // Also where it would have the same ports, with --init as without.
    let web = serving.1.strip_prefix("https://").unwrap();
    let said = refused(path, &["serve", "--init", "--set", &format!("web.listen={web}")]);
    assert!(said.contains("another muster process has") && !said.contains("port"), "{said}");
    // What is made already is made: nothing to do, and nothing wrong.
    let again = json(path, &["init"]);
    assert_eq!((&again["tenant"], &again["temporary_access_pass"]), (&made["tenant"], &Value::Null));
    assert!(again["next"].as_str().unwrap().contains("is set up"), "{again}");
    let other = tempfile::tempdir().unwrap();
    json(other.path(), &["init"]);
    let said = refused(other.path(), &["serve", "--set", &format!("web.listen={web}")]);
    let line = format!("error: web.listen = {web}: another program has this port; stop it, or choose another port\n");
    assert!(said.ends_with(&line) && said.matches(web).count() == 1, "{said}");
    let said = refused(path, &["restore", "whatever.db"]);
    assert!(said.contains("another muster process has"), "{said}");
    assert_eq!(json(path, &["backup", "copy.db"])["file"], path.canonicalize().unwrap().join("copy.db").to_str().unwrap());
    assert!(refused(path, &["backup", "copy.db"]).contains("exists already: name a file that does not"));
    drop(serving);

    // After a crash the socket is stale: the command line opens the instance itself.
    assert_eq!(json(path, &["status"])["tenant"], made["tenant"]);
    std::fs::write(path.join("broken.db"), b"no database").unwrap();
    assert!(refused(path, &["restore", "broken.db"]).contains("not a whole copy"));
    let said = refused(path, &["restore", "nofile.db"]);
    assert!(said.contains("nofile.db: no such file") && !said.contains("unavailable"), "{said}");
    // A copy that the master key does not open replaces nothing.
    let theirs = json(other.path(), &["status"])["tenant"].clone();
    let copy = path.join("copy.db");
    let said = refused(other.path(), &["restore", copy.to_str().unwrap()]);
    assert!(said.contains("master key") && said.contains("nothing was changed"), "{said}");
    assert_eq!(json(other.path(), &["status"])["tenant"], theirs);
    // What a server cannot read it names by its setting.
    let said = refused(path, &["serve", "--set", "tls.certificate_file=gone.pem", "--set", "tls.key_file=gone.key"]);
    assert!(said.contains("tls.certificate_file = gone.pem"), "{said}");
    // A place where nobody can look is no place without an instance.
    let hidden = muster(path).args(["--data-dir", "copy.db/data", "status"]).output().unwrap();
    let said = String::from_utf8(hidden.stderr).unwrap();
    assert!(!hidden.status.success() && !said.contains("muster init"), "{said}");
    std::fs::remove_file(path.join("data/muster.db")).unwrap();
    json(path, &["restore", "copy.db"]);
    assert_eq!(json(path, &["status"])["tenant"], made["tenant"]);
}

#[test]
fn a_client_that_sends_no_order_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    json(folder.path(), &["init"]);
    let _serving = serve(folder.path());
    let stuck: Vec<_> = (0..3).map(|_| UnixStream::connect(folder.path().join("data/control.sock")).unwrap()).collect();
    let began = Instant::now();
    json(folder.path(), &["status"]);
    assert!(began.elapsed() < Duration::from_secs(9), "it waited until the others were given up");
    drop(stuck);
}

#[test]
fn the_audit_log_is_checked_against_a_note_kept_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    json(path, &["init"]);
    let head = json(path, &["audit", "verify"])["head"].as_str().unwrap().to_owned();
    json(path, &["audit", "verify", "--expect", &head]);
    let (seq, hash) = head.split_once(':').unwrap();
    let other = format!("{seq}:{}", hash.chars().rev().collect::<String>());
    let later = format!("9{seq}:{hash}");
    let code = |order: &[&str]| run(path, order).status.code();
    assert_eq!(
        [code(&["audit", "verify"]), code(&["audit", "verify", "--expect", &other]), code(&["audit", "verify", "--no"])],
        [Some(0), Some(1), Some(2)],
        "fine, something is wrong, not understood"
    );
    let serving = serve(path);
    for (place, code) in [(&other, "AUD0007"), (&later, "AUD0008")] {
        assert!(refused(path, &["audit", "verify", "--expect", place]).contains(code), "{place}");
    }
    drop(serving);
    for place in ["5", &format!("0:{hash}"), &format!("-1:{hash}")] {
        assert!(refused(path, &["audit", "verify", &format!("--expect={place}")]).contains("AUD0010"), "{place}");
    }
}

#[test]
fn a_folder_without_an_organisation_says_what_to_do_first() {
    let folder = tempfile::tempdir().unwrap();
    for order in [&["serve"][..], &["status"], &["user", "list"]] {
        assert!(refused(folder.path(), order).contains("run `muster init` first"), "{order:?}");
    }
}

#[test]
fn a_restored_copy_says_so_and_uses_no_crl_number_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    json(path, &["init"]);
    let published = |log: &Value, after: i64| -> Vec<i64> {
        let rows = log.as_array().unwrap().iter().filter(|row| row["action"] == "crl.publish" && row["seq"].as_i64().unwrap() > after);
        let number = |row: &Value| row["after"]["number"].as_i64().unwrap();
        rows.map(number).collect()
    };
    let log = || json(path, &["audit", "list", "--full", "--limit", "1000"]);
    json(path, &["ca", "crl", "issuing"]);
    json(path, &["backup", "copy.db"]);
    json(path, &["ca", "crl", "issuing"]);
    let before = published(&log(), 0).into_iter().max().unwrap();
    json(path, &["restore", "copy.db"]);
    json(path, &["ca", "crl", "issuing"]);
    let rows = log();
    let restored = rows.as_array().unwrap().iter().find(|row| row["action"] == "instance.restore").unwrap();
    assert_eq!(restored["target"], "file:copy.db");
    assert!(restored["actor"].as_str().unwrap().starts_with("cli:"));
    let after = published(&rows, restored["seq"].as_i64().unwrap());
    assert!(!after.is_empty() && after.iter().all(|number| *number > before + 1000), "{before} then {after:?}");
    json(path, &["audit", "verify"]);
    // The same copy once more: it knows nothing of the lists since the first time.
    let used = after.into_iter().max().unwrap();
    json(path, &["restore", "copy.db"]);
    json(path, &["ca", "crl", "issuing"]);
    let again = published(&log(), restored["seq"].as_i64().unwrap());
    assert!(!again.is_empty() && again.iter().all(|number| *number > used), "{used} then {again:?}");
    // Once for each restoration.
    json(path, &["status"]);
    assert_eq!(log().as_array().unwrap().iter().filter(|row| row["action"] == "instance.restore").count(), 1);
}

/// On PostgreSQL the database comes back by other means, and `muster restore` says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restoration_on_postgresql_is_marked_and_ends_what_may_have_been_used() {
    use crate::scep::{grant, mint};
    use muster::domain::device::Platform;
    use muster::service::identity::{tap, token};
    use muster::store::{audit, crls, scep, users};

    let Some(url) = crate::support::db::postgres_url() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let database = url.clone();
    let run_with = move |args: &'static [&'static str]| {
        let (path, database) = (path.clone(), format!("database={database}"));
        tokio::task::spawn_blocking(move || run(&path, &[&["--set", &database], args].concat()))
    };
    let done = |output: Output| assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    done(run_with(&["init", "--admin", "ana@example.org"]).await.unwrap());
    done(run_with(&["ca", "crl", "issuing"]).await.unwrap());
    let config = muster::config::Config { data_dir: folder.path().join("data"), database: Some(url), ..Default::default() };
    let app = muster::app::App::open(config, std::sync::Arc::new(muster::clock::SystemClock)).await.unwrap();
    let user = app.store.read(|c| users::find_user_by_upn(c, "ana@example.org")).await.unwrap().unwrap().id;
    let policy = muster::domain::tap::Policy { one_time: false, ..Default::default() };
    let pass = tap::create(&app, &user, policy, None, "cli:test", "local").await.unwrap().show().to_owned();
    let here = std::net::IpAddr::from([127, 0, 0, 1]);
    let proof = token::create_with_tap(&app, "ana@example.org", &pass, here, Platform::Windows, None).await.unwrap();
    mint(&app, grant("PC"), false).await;
    let issuing = muster::service::pki::authority::issuing(&app).await.unwrap().id.clone();
    let of = issuing.clone();
    let before = app.store.read(move |c| crls::find_crl(c, &of)).await.unwrap().unwrap().number;

    assert!(!run_with(&["restore", "copy.db"]).await.unwrap().status.success(), "a file is no copy of it");
    done(run_with(&["restore"]).await.unwrap());
    done(run_with(&["ca", "crl", "issuing"]).await.unwrap());
    let of = issuing.clone();
    let after = app.store.read(move |c| crls::find_crl(c, &of)).await.unwrap().unwrap().number;
    assert!(before < 100 && after > 1_700_000_000_000, "{before} then {after}: beyond all that were used since the copy");
    assert!(tap::check(&app, "ana@example.org", &pass, here).await.is_err(), "passes end");
    assert!(token::check(&app, proof.expose(), &[Platform::Windows]).await.is_err(), "tokens end");
    assert_eq!(app.store.write(scep::delete_challenges).await.unwrap(), 0, "challenges end");
    let rows = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    let restored: Vec<_> = rows.iter().filter(|row| row.action == "instance.restore").collect();
    let [row] = restored.as_slice() else { panic!("{restored:?}") };
    assert_eq!(row.target, "file:postgresql");
    // The pass of this test, which took the place of that of the first start, the token, and the challenge.
    assert!(row.actor.starts_with("cli:") && row.after.as_deref().unwrap().contains("\"ended\":3"), "{row:?}");
    assert_eq!(muster::service::audit::verify(&app, None).await.unwrap().broken, None);
}

#[test]
fn the_files_of_the_database_are_their_owners_and_links_lead_to_one_lock() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    json(path, &["init"]);
    // As somebody makes it who shares it with others.
    std::fs::set_permissions(path.join("data"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let serving = serve(path);
    for file in ["muster.db", "muster.db-wal", "muster.lock"] {
        let mode = std::fs::metadata(path.join("data").join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    symlink(path.join("data"), path.join("same")).unwrap();
    std::fs::create_dir(path.join("other")).unwrap();
    symlink(path.join("data/muster.db"), path.join("other/muster.db")).unwrap();
    std::fs::copy(path.join("data/master.key"), path.join("other/master.key")).unwrap();
    // A second name of the file itself, with a lock file of its own.
    std::fs::create_dir(path.join("hard")).unwrap();
    std::fs::hard_link(path.join("data/muster.db"), path.join("hard/muster.db")).unwrap();
    // None finds the other's control socket.
    for name in ["same/muster.db", "other/muster.db", "hard/muster.db"] {
        let mut second = Command::new(env!("CARGO_BIN_EXE_muster"));
        second.current_dir(path).env_clear().args(["--data-dir", "other", "--set", &format!("database={name}"), "status"]);
        let said = String::from_utf8(second.output().unwrap().stderr).unwrap();
        assert!(said.contains("another muster process has"), "{name}: {said}");
    }
    drop(serving);
}

#[test]
fn a_server_that_is_asked_to_stop_ends_well_and_takes_its_socket_with_it() {
    let folder = tempfile::tempdir().unwrap();
    json(folder.path(), &["init"]);
    let mut serving = serve(folder.path());
    assert!(Command::new("kill").arg(serving.0.id().to_string()).status().unwrap().success());
    assert!(serving.0.wait().unwrap().success());
    assert!(!folder.path().join("data/control.sock").exists());
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["doctor"]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("master key: not made yet: run `muster init`") && !said.contains("bring"), "{said}");
    json(folder.path(), &["init"]);
    let findings = json(folder.path(), &["doctor"]);
    let state = |check: &str| findings.as_array().unwrap().iter().find(|f| f["check"] == check).unwrap()["state"].clone();
    let key = findings.as_array().unwrap().iter().find(|f| f["check"] == "master key").unwrap()["finding"].as_str().unwrap();
    assert!(key.split_once(" in ").unwrap().0.bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
    assert_eq!((state("instance"), state("master key"), state("clock")), ("ok".into(), "ok".into(), "ok".into()));
}

#[test]
fn the_doctor_says_whose_configuration_it_judges_and_where_the_servers_differs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    json(path, &["init"]);
    let finding = |args: &[&str]| -> (Value, String) {
        let output = run(path, &[&["doctor", "--json"], args].concat());
        let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = findings.as_array().unwrap().iter().find(|f| f["check"] == "configuration").cloned().unwrap();
        (found["state"].clone(), found["finding"].as_str().unwrap().to_owned())
    };
    let (state, said) = finding(&[]);
    assert!(state == "ok" && said.contains("this command line") && said.contains("no server runs"), "{said}");
    let serving = serve(path);
    let (state, said) = finding(&[]);
    assert!(state == "ok" && said.contains("has the same"), "{said}");
    let other =
        ["--set", "windows.poll_minutes=60", "--set", "windows.wns.client_secret=hunter2", "--set", "windows.wns.client_id=ms-app://x"];
    let (state, said) = finding(&[&other[..], &["--set", "windows.wns.package_family_name=x"]].concat());
    assert!(state == "warning" && said.contains("windows.poll_minutes is 60 here and 480 there"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    // Whoever else answers at the address is not taken for a server of this folder.
    let elsewhere = tempfile::tempdir().unwrap();
    json(elsewhere.path(), &["init"]);
    let there = format!("web.listen=127.0.0.1:{}", serving.1.rsplit(':').next().unwrap());
    let findings: Value = serde_json::from_slice(&run(elsewhere.path(), &["doctor", "--json", "--set", &there]).stdout).unwrap();
    let web = findings.as_array().unwrap().iter().find(|f| f["check"] == "web certificate").unwrap();
    assert!(web["state"] == "warning" && web["finding"].as_str().unwrap().starts_with("another program answers"), "{web}");
    drop(serving);
}

#[test]
fn the_doctor_warns_when_the_ca_says_other_addresses_and_names_than_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let named = ["--set", "web.url=https://mdm.example.org", "--set", "device.url=https://mdm.example.org:8444"];
    let made = json(path, &[&["init", "--set", "organisation=Acme", "--set", "pki.url=http://pki.example.org"][..], &named].concat());
    assert_eq!(made["warning"], Value::Null);
    let finding = |args: &[&str], check: &str| -> (Value, String) {
        let output = run(path, &[&["doctor", "--json"], args].concat());
        let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = findings.as_array().unwrap().iter().find(|f| f["check"] == check).cloned().unwrap_or_default();
        (found["state"].clone(), found["finding"].as_str().unwrap_or_default().to_owned())
    };
    let same = ["--set", "organisation=Acme", "--set", "pki.url=http://pki.example.org"];
    assert_eq!(finding(&same, "ca address").0, "ok");
    assert_eq!(finding(&same, "ca name").0, Value::Null);
    let other = ["--set", "organisation=Other", "--set", "pki.url=http://ca.example.net"];
    let (state, said) = finding(&other, "ca address");
    assert!(state == "warning" && said.contains("http://pki.example.org/crl/root.crl") && said.contains("pki.url"), "{said}");
    let (state, said) = finding(&other, "ca name");
    assert!(state == "warning" && said.contains("Acme Root CA") && said.contains("Other Root CA"), "{said}");
}

#[test]
fn an_instance_that_would_name_an_address_nobody_reaches_says_so_when_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let inside = ["--set", "web.listen=127.0.0.1:8443", "--set", "device.listen=127.0.0.1:8444"];
    let made = json(folder.path(), &[&["init", "--set", "pki.listen=0.0.0.0:8080"][..], &inside].concat());
    let warning = made["warning"].as_str().unwrap();
    assert!(warning.contains("pki.url is not set") && !warning.contains("web.url"), "{warning}");
    let other = tempfile::tempdir().unwrap();
    let made = json(other.path(), &["init", "--set", "web.listen=0.0.0.0:8443"]);
    assert!(made["warning"].as_str().unwrap().contains("web.url or device.url is not set"), "{made}");
    let local = ["doctor", "--set", "web.listen=0.0.0.0:8443", "--set", "web.url=https://localhost:8443"];
    let findings: Value = serde_json::from_slice(&run(other.path(), &[&local[..], &["--json"]].concat()).stdout).unwrap();
    let web = findings.as_array().unwrap().iter().find(|f| f["check"] == "web.url").unwrap();
    assert!(web["state"] == "warning" && web["finding"].as_str().unwrap().contains("only this machine"), "{web}");
}

#[test]
fn the_doctor_finds_both_faces_on_a_single_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let [port, ..] = crate::support::child::ports();
    let shared = [
        "single_port=true".to_owned(),
        format!("web.listen=127.0.0.1:{port}"),
        format!("web.url=https://localhost:{port}"),
        format!("device.url=https://mdm.localhost:{port}"),
        "tls.extra_names=localhost, mdm.localhost".to_owned(),
    ];
    let command = || {
        let mut command = muster(path);
        for setting in &shared {
            command.args(["--set", setting]);
        }
        command
    };
    assert!(command().arg("init").output().unwrap().status.success());
    let _serving = crate::support::child::Serving::start(command());
    let said = command().args(["doctor", "--json"]).output().unwrap().stdout;
    let findings: Value = serde_json::from_slice(&said).unwrap();
    for check in ["web certificate", "device certificate"] {
        let found = findings.as_array().unwrap().iter().find(|f| f["check"] == check).unwrap();
        assert_eq!(found["state"], "ok", "{found}");
    }
}

#[test]
fn certificates_are_issued_shown_and_revoked_from_the_command_line() {
    let Some(openssl) = crate::support::tools::find("openssl", "openssl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    json(path, &["init", "--admin", "ana@example.org"]);
    let names: Vec<Value> = json(path, &["ca", "list"]).as_array().unwrap().iter().map(|a| a["name"].clone()).collect();
    assert_eq!(names, ["root", "issuing"]);
    let request = path.join("request.pem");
    let made = Command::new(openssl)
        .args(["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=evil", "-addext", "basicConstraints=CA:TRUE", "-keyout"])
        .arg(path.join("key.pem"))
        .arg("-out")
        .arg(&request)
        .output()
        .unwrap();
    assert!(made.status.success());
    let request = request.to_str().unwrap();
    let issue = [
        "ca",
        "issue",
        "--csr",
        request,
        "--subject",
        "CN={{UserPrincipalName}}",
        "--upn",
        "{{UserPrincipalName}}",
        "--user",
        "ana@example.org",
    ];
    let pem = json(path, &issue);
    let certificate = openssl::x509::X509::from_pem(pem.as_str().unwrap().as_bytes()).unwrap();
    let text = String::from_utf8(certificate.to_text().unwrap()).unwrap();
    assert!(text.contains("ana@example.org") && text.contains("CA:FALSE") && !text.contains("evil"), "{text}");
    assert!(refused(path, &["ca", "issue", "--csr", request, "--subject", "CN={{DeviceId}}"]).contains("CRT0021"));
    let chain = json(path, &["ca", "export", "issuing", "--chain"]);
    let chain = openssl::x509::X509::stack_from_pem(chain.as_str().unwrap().as_bytes()).unwrap();
    assert!(certificate.verify(&chain[0].public_key().unwrap()).unwrap());
    let serial = certificate.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string();
    assert_eq!(json(path, &["ca", "show", &serial])["status"], "active");
    json(path, &["ca", "revoke", &serial, "--reason", "superseded"]);
    assert!(refused(path, &["ca", "revoke", &serial]).contains("CRT0019"));
    assert_eq!(json(path, &["ca", "certificates", "--status", "revoked"])[0]["reason"], "superseded");
    assert_eq!(json(path, &["ca", "crl"])["number"], 2);
    let issuing = || {
        let findings: Value = serde_json::from_slice(&run(path, &["doctor", "--json"]).stdout).unwrap();
        let found = findings.as_array().unwrap().iter().find(|f| f["check"] == "issuing ca").unwrap();
        (found["state"].clone(), found["finding"].as_str().unwrap().to_owned())
    };
    assert_eq!(issuing().0, "ok");
    assert_eq!(json(path, &["ca", "pause", "issuing"])["status"], "paused");
    assert!(refused(path, &issue).contains("CRT0011"));
    let (state, said) = issuing();
    assert!(state == "wrong" && said.contains("issuing is paused") && said.contains("muster ca activate issuing"), "{said}");
    let status = run(path, &["status", "--json"]);
    let told: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status.status.code(), Some(1), "an alarm fails");
    assert!(told["issuing"]["alarm"].as_str().unwrap().contains("no device can be issued"));
    assert_eq!(
        json(path, &["ca", "create", "second", "--common-name", "Second CA", "--parent", "root", "--key", "p-256"])["kind"],
        "issuing"
    );
    assert!(issuing().1.starts_with("second issues to devices until"), "{}", issuing().1);
    assert!(!refused(path, &["ca", "revoke"]).is_empty());
    let twice = ["ca", "create", "second", "--common-name", "Second CA", "--parent", "root", "--key", "p-256"];
    assert!(refused(path, &twice).contains("CRT0048: there is an authority of that name already"));
    let request = json(path, &["ca", "create", "outer", "--common-name", "Outer CA", "--key", "p-256", "--csr"]);
    let request = openssl::x509::X509Req::from_pem(request.as_str().unwrap().as_bytes()).unwrap();
    assert!(request.verify(&request.public_key().unwrap()).unwrap());
    let waiting = json(path, &["ca", "list"]).as_array().unwrap().iter().find(|a| a["name"] == "outer").unwrap().clone();
    assert_eq!(waiting["status"], "signing-pending");
    let chain = path.join("chain.pem");
    std::fs::write(&chain, json(path, &["ca", "export", "issuing", "--chain"]).as_str().unwrap()).unwrap();
    let chain = chain.to_str().unwrap();
    let said = refused(path, &["ca", "import-certificate", "outer", "--certificate", chain, "--chain", chain]);
    assert!(said.contains("CRT0040") && said.contains("exactly one certificate"), "{said}");
    let key = path.join("key.pem");
    let said = refused(path, &["ca", "import", "other", "--certificate", chain, "--chain", chain, "--key", key.to_str().unwrap()]);
    assert!(said.contains("CRT0040"), "{said}");
}

#[test]
fn a_demo_that_is_ended_from_outside_takes_its_folder_with_it() {
    for signal in ["-TERM", "-HUP"] {
        let place = tempfile::tempdir().unwrap();
        let is_empty = || std::fs::read_dir(place.path()).unwrap().next().is_none();
        let mut demo = Command::new(env!("CARGO_BIN_EXE_muster"));
        let mut child =
            demo.args(["demo", "--devices", "5"]).env("TMPDIR", place.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let patience = Instant::now() + Duration::from_secs(60);
        while is_empty() {
            assert!(Instant::now() < patience, "it makes a folder");
            std::thread::yield_now();
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        child.wait().unwrap();
        assert!(is_empty(), "{signal}");
    }
}

/// The whole main job in one process tree: enrolment, policies, certificates, compliance, a signal, and a retired device.
#[test]
fn the_demo_verifies_every_step_from_the_outside() {
    let out = Command::new(env!("CARGO_BIN_EXE_muster")).args(["demo", "--once", "--devices", "7"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("5 PCs, 1 Mac and 1 iPhone, all simulated"), "{text}");
    for what in [
        "7/7 devices hold a certificate that chains to the root",
        "5/5 of these are good by OCSP",
        "5/5 PCs hold all",
        "1/1 Macs and iPhones hold the assigned profiles with the expected values",
        "event for the Mac without FileVault",
        "the retired iPhone's certificate is revoked",
        "the retired iPhone's identity is revoked",
    ] {
        assert!(text.lines().any(|line| line.starts_with("  ok ") && line.contains(what)), "{what}: {text}");
    }
    assert!(!text.contains("FAIL"), "{text}");
    // What was shown last of each device before the checks is what was verified, as the last table has it.
    let shown = |text: &str, name: &str| text.lines().rev().find(|line| line.trim_start().starts_with(name)).map(str::to_owned).unwrap();
    let (before, table) = text.split_once("verified from the outside").unwrap();
    let expected =
        [("PC-00001", "not compliant"), ("PC-00002", "4/4"), ("PC-00005", "retired"), ("MAC-00001", "macos"), ("IPH-00001", "retired")];
    for (name, state) in expected {
        assert!(shown(before, name).contains(state) && shown(table, name).contains(state), "{name}: {text}");
    }
}
