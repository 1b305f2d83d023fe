//! The floors of the house hold: who may name whom.

use std::path::{Path, PathBuf};

/// What each floor must not name: modules of ours after `crate::`, and crates.
const RULES: [(&str, &[&str], &[&str]); 7] = [
    (
        "wire",
        &["app", "catalogue", "cli", "clock", "config", "domain", "http", "ids", "service", "sim", "store", "telemetry"],
        &["actix_web", "diesel", "rand", "reqwest", "tokio", "uuid"],
    ),
    ("catalogue", &["app", "cli", "config", "domain", "http", "service", "sim", "store"], &["actix_web", "diesel", "reqwest", "tokio"]),
    ("domain", &["app", "cli", "config", "http", "service", "sim", "store"], &["actix_web", "diesel", "reqwest", "tokio"]),
    ("store", &["app", "cli", "http", "service", "sim"], &["actix_web", "reqwest"]),
    ("service", &["cli", "http", "sim"], &["actix_web", "diesel"]),
    ("http", &["cli", "sim", "store"], &["diesel"]),
    ("sim", &["app", "cli", "config", "domain", "http", "service", "store"], &["actix_web", "diesel"]),
];

/// Floors that only compute: of secrets they know the type that holds one and how two are compared, not how they are made or sealed.
const PURE: [&str; 3] = ["wire", "catalogue", "domain"];
/// What a floor that only computes must not name, besides.
const OUTSIDE: [&str; 14] = [
    "Instant::now",
    "Sealer",
    "TcpListener",
    "TcpStream",
    "ToSocketAddrs",
    "UdpSocket",
    "UnixStream",
    "getrandom::",
    "rand_bytes",
    "secret::random",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
];

/// What only one place may name.
const ONLY: [(&str, &str); 4] =
    [("diesel::", "src/store"), ("actix_web::", "src/http"), ("SystemTime::now", "src/clock.rs"), ("now_utc", "src/clock.rs")];

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

/// Whether `line` names `what` as a path (and not as part of a longer word).
fn names(line: &str, what: &str) -> bool {
    line.match_indices(what).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + what.len()..].chars().next();
        let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !word(before) && (what.ends_with("::") || !word(after))
    })
}

/// What `line` imports or names of our own modules: `crate::x`, and each of `crate::{x, y::z}`.
fn own_modules(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let word = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => {
                let mut depth = 0usize;
                let mut start = 0;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => {
                            found.push(word(&group[start..at]));
                            break;
                        }
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            found.push(word(&group[start..at]));
                            start = at + 1;
                        }
                        _ => (),
                    }
                }
            }
        }
    }
    found
}

/// The statements of a file without comments and tests, each with the line it begins on; imports of several lines are one.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        if line.starts_with("//") {
            continue;
        }
        match found.last_mut() {
            Some((_, statement)) if open => statement.push_str(line),
            _ => found.push((at + 1, line.to_owned())),
        }
        let begins = line.starts_with("use ") || line.starts_with("pub use ") || line.starts_with("pub(crate) use ");
        open = (open || begins) && !line.ends_with(';');
    }
    found
}

#[test]
fn a_floor_names_only_what_stands_below_it() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    assert!(files.len() > 50);
    let mut broken = Vec::new();
    for path in files {
        let shown = path.display().to_string();
        let floor = shown.split('/').nth(1).unwrap().trim_end_matches(".rs");
        for (line, statement) in statements(&std::fs::read_to_string(&path).unwrap()) {
            if let Some((_, modules, crates)) = RULES.iter().find(|(name, ..)| *name == floor) {
                broken.extend(
                    own_modules(&statement).iter().filter(|m| modules.contains(&m.as_str())).map(|m| format!("{shown}:{line}: crate::{m}")),
                );
                broken.extend(crates.iter().filter(|c| names(&statement, &format!("{c}::"))).map(|c| format!("{shown}:{line}: {c}")));
            }
            if PURE.contains(&floor) && !shown.ends_with("/tests.rs") {
                broken.extend(OUTSIDE.iter().filter(|what| names(&statement, what)).map(|what| format!("{shown}:{line}: {what}")));
            }
            broken.extend(
                ONLY.iter()
                    .filter(|(what, place)| !shown.starts_with(place) && names(&statement, what))
                    .map(|(what, _)| format!("{shown}:{line}: {what}")),
            );
        }
    }
    assert!(broken.is_empty(), "the floors are broken:\n{}", broken.join("\n"));
}

#[test]
fn the_test_sees_what_it_should() {
    assert_eq!(own_modules("use crate::{clock::{DAY, Time}, store, wire::xml};"), ["clock", "store", "wire"]);
    assert_eq!(own_modules("let x = crate::service::health::check(a, crate::app::y());"), ["service", "app"]);
    assert!(names("use diesel::prelude::*;", "diesel::") && !names("mydiesel::x", "diesel::"));
    assert_eq!(statements("use crate::{\n    a,\n    b,\n};\nfn x() {}\n#[cfg(test)]\nuse crate::c;").len(), 2);
}

#[test]
fn the_program_itself_is_small() {
    assert!(std::fs::read_to_string("src/main.rs").unwrap().lines().count() < 40);
}
