//! What the program shows of its database: never the password.

use std::time::{Duration, Instant};

use crate::cli::{refused, run};

#[test]
fn a_database_that_is_down_is_named_in_one_line_after_the_time_that_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let [port, ..] = crate::support::child::ports();
    let database = format!("database=postgres://muster:hunter2@127.0.0.1:{port}/muster");
    let began = Instant::now();
    let said = refused(folder.path(), &["serve", "--init", "--set", &database, "--set", "database_wait_seconds=1"]);
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(said.contains(&format!("PostgreSQL at 127.0.0.1:{port} cannot be reached within 1 s")), "{said}");
    assert!(said.lines().count() == 1 && !said.contains("hunter2") && !said.contains(".rs"), "{said}");
}

#[test]
fn no_form_of_a_database_url_shows_its_password() {
    let folder = tempfile::tempdir().unwrap();
    for (url, place) in [
        ("postgres://muster:hunter?2secret@127.0.0.1:1/x", "127.0.0.1:1"),
        ("postgres://127.0.0.1:1/x?user=muster&password=hunter2", "127.0.0.1:1"),
        ("postgres://muster@127.0.0.1:1/x?password=hunter2", "127.0.0.1:1"),
        ("postgres://muster:hunt@er2/x@127.0.0.1:1/x", "127.0.0.1:1"),
        ("postgres://muster:hunt%er2@127.0.0.1:1/x", "127.0.0.1:1"),
        ("postgres://muster:hunter2/x", "postgres://"),
        ("host=127.0.0.1 password=hunter2", "database"),
    ] {
        let database = format!("database={url}");
        let printed = run(folder.path(), &["--set", &database, "config", "print"]);
        let told = run(folder.path(), &["--set", &database, "--set", "database_wait_seconds=1", "status"]);
        let printed = String::from_utf8([printed.stdout, printed.stderr].concat()).unwrap();
        let told = String::from_utf8([told.stdout, told.stderr].concat()).unwrap();
        assert!(printed.contains(place) && !told.is_empty(), "{url}: {printed} {told}");
        for part in ["hunt", "er2", "2secret"] {
            assert!(!printed.contains(part) && !told.contains(part), "{url}: {printed} {told}");
        }
    }
}

#[test]
fn a_server_that_turns_us_away_is_not_waited_for() {
    let Some(url) = crate::support::db::postgres_url() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = url.split_once('?').unwrap();
    for (url, why) in [
        (format!("{before}nowhere?{after}"), "nowhere\" does not exist"),
        (format!("{}?{after}", before.replace("postgres@", "nobody_here@")), "nobody_here\" does not exist"),
    ] {
        let began = Instant::now();
        let said = refused(folder.path(), &["serve", "--init", "--set", &format!("database={url}"), "--set", "database_wait_seconds=60"]);
        assert!(began.elapsed() < Duration::from_secs(30), "{url}");
        assert!(said.contains("turns us away") && said.contains(why) && said.contains("`database`"), "{said}");
    }
}
