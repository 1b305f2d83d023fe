//! Simulated fleets, through the program itself.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use muster::sim::apns::Authority;
use openssl::x509::X509Req;

use crate::cli::{json, muster, refused, run, serve};
use crate::order_values::told;

/// Brings a push certificate, without which no Mac enrols.
fn push_certificate(path: &Path) {
    let request = json(path, &["apple", "push-csr"]);
    let key = X509Req::from_pem(request.as_str().unwrap().as_bytes()).unwrap().public_key().unwrap();
    let topic = "com.apple.mgmt.External.test";
    let certificate = Authority::new().unwrap().push_certificate(&key, topic, 1_700_000_000, 9_000_000_000).unwrap();
    std::fs::write(path.join("push.pem"), certificate.to_pem().unwrap()).unwrap();
    json(path, &["apple", "push-cert", path.join("push.pem").to_str().unwrap()]);
}

#[test]
fn a_fleet_enrols_settles_and_holds_sessions_without_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    json(path, &["init"]);
    let serving = serve(path);
    json(path, &["user", "create", "ana@example.org"]);
    let pass = json(path, &["user", "tap", "ana@example.org", "--reusable"]);
    let pass = pass["temporary_access_pass"].as_str().unwrap();
    std::fs::write(path.join("root.pem"), run(path, &["ca", "export", "root"]).stdout).unwrap();
    let against = |pass: &str| {
        let fixed = ["simulate", "--platform", "windows", "--devices", "3", "--concurrency", "2", "--rounds", "2", "--root", "root.pem"];
        let more = ["--server", &serving.1, "--user", "ana@example.org", "--pass", pass];
        [&fixed[..], &more[..]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let given = against(pass);
    let report = json(path, &given.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(report["devices"], 3, "{report}");
    // A pass need not stand on the command line.
    let asked = against("-");
    let refused_pass = told(path, &asked.iter().map(String::as_str).collect::<Vec<_>>(), "ABCDEFGHJKLM\n");
    assert!(String::from_utf8(refused_pass.stderr).unwrap().contains("refused the user name or the pass"));
    let silent = told(path, &asked.iter().map(String::as_str).collect::<Vec<_>>(), "");
    assert!(String::from_utf8(silent.stderr).unwrap().contains("Pass: nothing was given on the standard input"));
    let done: Vec<_> = report["phases"].as_array().unwrap().iter().map(|phase| phase["done"].as_u64().unwrap()).collect();
    assert_eq!(done, [3, 3, 6], "enrolments, first sessions, sessions without work");
    assert_eq!(json(path, &["device", "list"]).as_array().unwrap().len(), 3);
    let macs: Vec<String> = against(pass).into_iter().map(|word| if word == "windows" { "macos".into() } else { word }).collect();
    let macs: Vec<&str> = macs.iter().map(String::as_str).collect();
    refused(path, &macs);
    push_certificate(path);
    json(path, &["profile", "apply", "macos-filevault"]);
    json(path, &["profile", "assign", "macos-filevault", "--all-devices"]);
    assert_eq!(json(path, &macs)["devices"], 3);
    let kept = json(path, &["device", "show", "MAC-00001"])["recovery_key"].clone();
    assert!(kept.as_str().is_some_and(|kept| kept.starts_with("kept")), "FileVault was off until the profile came: {kept}");
    let wrong = against("ABCDEFGHJKLM");
    let said = refused(path, &wrong.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("3 operations failed") && said.contains("refused the user name or the pass"), "{said}");
}

#[test]
fn a_restricted_enrolment_is_warned_of_and_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let restricted =
        "[enrollment.windows]\nallowed = false\n[enrollment.macos]\npersonal = false\n[enrollment.ios]\nminimum_os_version = \"99\"\n";
    std::fs::write(path.join("muster.toml"), restricted).unwrap();
    json(path, &["init"]);
    let serving = serve(path);
    push_certificate(path);
    json(path, &["user", "create", "ana@example.org"]);
    let warned = |order: &[&str]| json(path, &[&["enroll"], order, &["--user", "ana@example.org"]].concat())["before"].to_string();
    let windows = warned(&["windows"]);
    assert!(windows.contains("set enrollment.windows.allowed to true") && windows.contains("ENR0032"), "{windows}");
    assert!(warned(&["apple"]).contains("enrollment.macos.personal is false"));
    assert!(warned(&["apple", "--platform", "ios"]).contains("enrollment.ios.minimum_os_version = 99"));
    let pass = json(path, &["user", "tap", "ana@example.org", "--reusable"]);
    let pass = pass["temporary_access_pass"].as_str().unwrap();
    std::fs::write(path.join("root.pem"), run(path, &["ca", "export", "root"]).stdout).unwrap();
    let against = ["--server", &serving.1, "--root", "root.pem", "--user", "ana@example.org", "--pass", pass];
    for (platform, code) in [("windows", "ENR0032"), ("macos", "ENR0031"), ("ios", "ENR0007")] {
        let said = refused(path, &[&["simulate", "--devices", "1", "--platform", platform], &against[..]].concat());
        assert!(said.contains(code), "{platform}: {said}");
    }
}

#[test]
fn devices_that_stay_obey_orders_and_supervised_ones_more_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    json(path, &["init"]);
    let serving = serve(path);
    push_certificate(path);
    json(path, &["user", "create", "ana@example.org"]);
    let pass = json(path, &["user", "tap", "ana@example.org", "--reusable"]);
    std::fs::write(path.join("root.pem"), run(path, &["ca", "export", "root"]).stdout).unwrap();
    let against = ["--server", &serving.1, "--root", "root.pem", "--user", "ana@example.org", "--pass"];
    let fixed = [&["simulate", "--devices", "1", "--supervised", "--stay", "1"], &against[..]].concat();
    let pass = pass["temporary_access_pass"].as_str().unwrap();
    assert!(refused(path, &[&fixed[..], &[pass, "--platform", "windows"]].concat()).contains("--supervised is for iPhones"));
    let mut child = muster(path);
    let mut child = child.args(fixed).args([pass, "--platform", "ios"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next().expect("it ended before it stayed").unwrap().contains("stay and call every 1 s") {}
    json(path, &["device", "command", "SIMI00000001", "enable-lost-mode", "--with", "message=Found?"]);
    let done = |_| json(path, &["device", "orders", "SIMI00000001"])[0]["state"] == "done";
    assert!((0..1000).any(done), "it calls by itself");
    // Lost mode over, it restarts, is locked, and does what comes then once its user has unlocked it.
    for order in ["disable-lost-mode", "reboot", "list-applications"] {
        json(path, &["device", "command", "SIMI00000001", order, "--yes"]);
        assert!((0..1000).any(done), "{order}");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_report_measures_a_server_of_its_own_and_leaves_the_instance_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let given = ["simulate", "--platform", "windows", "--devices", "2", "--rounds", "1", "--report", "--prefill", "3"];
    let report = json(path, &given);
    let phases = report["phases"].as_array().unwrap();
    for phase in phases {
        assert_eq!(phase["failures"], 0, "{phase}");
        assert_eq!(phase["done"], 2, "{phase}");
    }
    let named = |name: &str| phases.iter().find(|phase| phase["phase"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(named("idle sessions, kept connections")["limit"], "echo, kept connections");
    assert!(named("idle sessions, new handshakes")["rate_ratio"].as_f64().unwrap() > 0.0);
    assert!(named("SCEP, enrolment")["p50_ms"].as_f64().unwrap() > 0.0);
    assert!(!path.join("data").exists(), "nothing is made here");
}

#[test]
fn macs_and_iphones_are_measured_like_pcs() {
    let folder = tempfile::tempdir().unwrap();
    for (platform, prefill, signs) in [("macos", "3", "false"), ("ios", "3", "true")] {
        let signs = format!("apple.sign_messages={signs}");
        let given = ["simulate", "--platform", platform, "--devices", "2", "--rounds", "1", "--report", "--prefill", prefill];
        let report = json(folder.path(), &[&given[..], &["--set", &signs]].concat());
        let phases = report["phases"].as_array().unwrap();
        for phase in phases {
            assert_eq!((&phase["failures"], &phase["done"]), (&0.into(), &2.into()), "{phase}");
        }
        let named = |name: &str| phases.iter().find(|phase| phase["phase"] == name).unwrap_or_else(|| panic!("{name}"));
        let limit = named("idle sessions, kept connections")["limit"].as_str().unwrap();
        assert_eq!(limit.ends_with(" + rsa-2048 verification"), signs.ends_with("true"), "{limit}");
        assert!(limit.starts_with("echo, kept connections"), "{limit}");
        assert!(named("idle sessions, new handshakes")["rate_ratio"].as_f64().unwrap() > 0.0);
        assert!(named("sessions with one order")["p99_ms"].as_f64().unwrap() > 0.0);
        assert!(named("enrolment")["cpu_ratio"].as_f64().is_some_and(|ratio| ratio > 0.0));
    }
}

#[test]
fn what_is_missing_to_simulate_is_said_in_plain_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("empty.pem"), "nothing").unwrap();
    let ask = |server: &str, root: &str| {
        let given = ["simulate", "--platform", "windows", "--server", server, "--root", root, "--user", "a@b", "--pass", "p"];
        String::from_utf8(run(path, &given).stderr).unwrap()
    };
    for server in ["localhost:8443", "http://localhost:8080", "localhost"] {
        let said = ask(server, "empty.pem");
        assert!(said.contains("such as https://localhost:8443"), "{said}");
    }
    assert!(ask("https://localhost:1", "empty.pem").contains("empty.pem: certificates in PEM, such as `muster ca export root` prints"));
    assert!(ask("https://localhost:1", "none.pem").contains("none.pem"));
}
