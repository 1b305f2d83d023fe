//! The manual is true: what it shows is taken, and what it names exists.

use std::path::Path;

use muster::service::files::GroupFile;

use crate::cli::{json, run};

/// The blocks of a page in that language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    text.split(&format!("```{language}\n")).skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

#[test]
fn every_profile_of_the_manual_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    json(path, &["init"]);
    let (examples, groups): (Vec<_>, Vec<_>) =
        blocks("docs/profiles.md", "toml").into_iter().partition(|example| example.contains("kind = "));
    assert!(examples.len() >= 6 && groups.len() == 1);
    for group in groups {
        GroupFile::parse(&group).unwrap();
    }
    for example in examples {
        std::fs::write(path.join("example.toml"), &example).unwrap();
        let order = if example.contains("kind = \"compliance\"") { "policy" } else { "profile" };
        let applied = json(path, &[order, "apply", "example.toml"]);
        assert_eq!(applied["result"], "created", "{example}");
    }
}

/// The pages of the manual.
fn pages() -> Vec<String> {
    let docs = std::fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path().display().to_string());
    docs.filter(|page| Path::new(page).extension().is_some_and(|ending| ending == "md")).chain(["README.md".to_owned()]).collect()
}

#[test]
fn every_order_of_the_manual_exists() {
    let folder = tempfile::tempdir().unwrap();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let inline = text.split('`').skip(1).step_by(2).map(str::to_owned);
        let lines = blocks(&page, "sh").iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>();
        for order in inline.chain(lines).filter(|order| order.starts_with("muster ")) {
            // The subcommands are the words before the first name, option or place holder.
            let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-');
            let words: Vec<&str> = order.split_whitespace().skip(1).take_while(plain).collect();
            let help = run(folder.path(), &[&words[..], &["--help"]].concat());
            assert!(help.status.success(), "{page}: {order}");
            let help = String::from_utf8(help.stdout).unwrap();
            for option in order.split_whitespace().filter(|word| word.starts_with("--")) {
                let option = option.trim_end_matches(|c: char| !c.is_alphanumeric());
                assert!(help.contains(option), "{page}: {order}: {option}");
            }
        }
    }
}

#[test]
fn every_link_of_the_manual_leads_somewhere() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let folder = Path::new(&page).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = file.is_empty() || target.starts_with("http");
            assert!(outside || folder.join(file).exists(), "{page}: {target}");
        }
    }
}

#[test]
fn lines_of_the_manual_fit_a_screen() {
    for page in pages().into_iter().chain(["CHANGELOG.md".to_owned()]) {
        for (number, line) in std::fs::read_to_string(&page).unwrap().lines().enumerate() {
            // Rows of tables cannot be broken.
            assert!(line.starts_with('|') || line.chars().count() <= 140, "{page}:{}: {} letters", number + 1, line.chars().count());
        }
    }
}
