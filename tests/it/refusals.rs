//! Refusals: each has a test that asserts its code, and those that no face of its own shows are asserted here.

use std::path::{Path, PathBuf};

use muster::domain::Refusal;
use muster::domain::group::Member;
use muster::ids::UserId;
use muster::secret::{Sealer, Secret};
use muster::service::directory::{self, By};
use muster::service::signals::receiver::{self, NewReceiver};
use muster::service::{Error, Result, reseal};

use crate::desired::user;
use crate::support::server::Server;

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Refused(refusal) | Error::Invalid(refusal, _)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The text of all tests: those of this binary, and the test modules of the program.
fn tests() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut outer, mut inner) = (Vec::new(), Vec::new());
    sources(&root.join("tests"), &mut outer);
    sources(&root.join("src"), &mut inner);
    let mut text: String = outer.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for path in inner {
        let source = std::fs::read_to_string(&path).unwrap();
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            text.push_str(&source);
        } else if let Some((_, tests)) = source.split_once("#[cfg(test)]") {
            text.push_str(tests);
        }
    }
    text
}

/// By its code, which is what callers see: a test that names the variant alone would stay green when the code changes.
#[test]
fn every_refusal_has_a_test_that_asserts_its_code() {
    let text = tests();
    let named = |what: &str| {
        text.match_indices(what).any(|(at, _)| {
            let next = text[at + what.len()..].chars().next();
            !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    };
    let untested: Vec<String> =
        Refusal::ALL.iter().filter(|refusal| !named(refusal.code())).map(|refusal| format!("{} {refusal:?}", refusal.code())).collect();
    assert!(untested.is_empty(), "no test asserts {untested:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_refuses_bad_names_and_unknown_members() {
    let server = Server::start().await;
    let (app, by) = (&server.app, By::local("cli:test"));
    for bad in ["ana", "@example.org", "ana@", "ana@a@b", "an a@example.org"] {
        assert_eq!(code(directory::create_user(app, user(bad), &by).await), "USR0012", "{bad}");
    }
    let long = format!("{}@example.org", "a".repeat(250));
    let long = muster::domain::user::User { display_name: "long".into(), ..user(&long) };
    assert_eq!(code(directory::create_user(app, long, &by).await), "USR0012");
    for bad in ["", " x", "a\u{7}b", &"x".repeat(129)] {
        assert_eq!(code(directory::create_group(app, bad, "", &by).await), "PRF0004", "{bad}");
    }
    let group = directory::create_group(app, "all", "", &by).await.unwrap();
    let nobody = vec![Member::User(UserId::new())];
    assert_eq!(code(directory::add_members(app, &group.id, nobody, &by).await), "USR0011");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_with_an_authorization_that_no_header_can_carry_is_refused() {
    let server = Server::start().await;
    let new = NewReceiver {
        name: "r".into(),
        endpoint_url: "http://127.0.0.1:9/".into(),
        audience: None,
        authorization: Some(Secret::new(b"Bearer a\r\nX: y".to_vec())),
    };
    assert_eq!(code(receiver::add(&server.app, new, &By::local("cli:test")).await), "SIG0004");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_key_moves_and_its_old_one_goes() {
    let server = Server::start().await;
    let app = &server.app;
    let path = app.config.master_key_path();
    app.sealer().write(&path).unwrap();
    let first = app.sealer().current();
    assert!(reseal::rotate(app, "cli:test").await.unwrap().resealed > 0);
    let status = reseal::status(app).await.unwrap();
    assert_eq!((status.keys, status.sealed_under_old_ones), (2, 0));
    assert!(status.current != first && status.sealed_under_it > 0);
    assert_eq!(Sealer::read(&path).unwrap().current(), status.current);
    reseal::retire(app, "cli:test").await.unwrap();
    assert_eq!(reseal::status(app).await.unwrap().keys, 1);
}
