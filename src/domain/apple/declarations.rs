//! The declarations of a channel as one set: tokens that change exactly when the content does, and the three answers that must agree.

use std::collections::BTreeMap;

use openssl::sha::sha256;
use serde_json::{Map, Value, json};

use crate::clock::Time;
use crate::wire::apple::ddm::{Declaration, Item, Kind, LONGEST, Manifest, SyncTokens, Tokens};

/// Puts configurations into force.
pub const ACTIVATION: &str = "com.apple.activation.simple";
/// Which configurations an activation puts into force.
pub const CONFIGURATIONS: &str = "StandardConfigurations";
/// Where it does; everywhere without it.
pub const PREDICATE: &str = "Predicate";

/// A declaration before it is named.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// What it declares.
    pub kind: String,
    /// What is declared.
    pub payload: Map<String, Value>,
    /// Hash of what stands behind its URLs (the bytes of a legacy profile); empty when it has none.
    pub behind: String,
}

/// The declarations of a channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    declarations: BTreeMap<String, Declaration>,
}

/// Identifiers of declarations that activations name are made from ours: `<prefix>.<kind>.<name>`, cut to what fits by a hash.
#[must_use]
pub fn identifier(prefix: &str, kind: Kind, name: &str) -> String {
    let whole = format!("{prefix}.{}.{name}", kind.as_str());
    if whole.len() <= LONGEST {
        return whole;
    }
    hex::encode(sha256(whole.as_bytes()))
}

/// The token of a declaration: a hash of everything that it says, also behind its URLs.
#[must_use]
pub fn server_token(wanted: &Wanted) -> String {
    // serde_json keeps objects in one order, so that equal content is equal text.
    let text = json!([wanted.kind, wanted.payload, wanted.behind]).to_string();
    hex::encode(sha256(text.as_bytes()))
}

impl Set {
    /// Adds a declaration; `false` when its type is of no kind, its identifier does not fit, or the identifier is taken.
    #[must_use]
    pub fn add(&mut self, identifier: impl Into<String>, wanted: Wanted) -> bool {
        let identifier = identifier.into();
        let fits = Kind::of_type(&wanted.kind).is_some() && (1..=LONGEST).contains(&identifier.len());
        if !fits || self.declarations.contains_key(&identifier) {
            return false;
        }
        let server_token = server_token(&wanted);
        let declaration = Declaration { kind: wanted.kind, identifier: identifier.clone(), server_token, payload: wanted.payload };
        self.declarations.insert(identifier, declaration);
        true
    }

    /// Adds an activation of all configurations that no activation names yet: without one a configuration has no effect.
    #[must_use]
    pub fn activate(&mut self, identifier: impl Into<String>, predicate: Option<&str>) -> bool {
        let configurations: Vec<Value> = self
            .declarations
            .values()
            .filter(|d| Kind::of_type(&d.kind) == Some(Kind::Configuration) && self.activations(&d.identifier).next().is_none())
            .map(|d| Value::from(d.identifier.as_str()))
            .collect();
        let mut payload = Map::new();
        payload.insert(CONFIGURATIONS.into(), configurations.into());
        if let Some(predicate) = predicate {
            payload.insert(PREDICATE.into(), predicate.into());
        }
        self.add(identifier, Wanted { kind: ACTIVATION.into(), payload, behind: String::new() })
    }

    /// The activations that name a configuration.
    pub fn activations<'s>(&'s self, configuration: &'s str) -> impl Iterator<Item = &'s Declaration> {
        let listed = |d: &'s Declaration| d.payload.get(CONFIGURATIONS).and_then(Value::as_array).into_iter().flatten();
        self.declarations
            .values()
            .filter(|d| Kind::of_type(&d.kind) == Some(Kind::Activation))
            .filter(move |d| listed(d).any(|name| name == configuration))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.declarations.is_empty()
    }

    /// All declarations, by identifier.
    pub fn iter(&self) -> impl Iterator<Item = &Declaration> {
        self.declarations.values()
    }

    /// A declaration, when it is of that kind.
    #[must_use]
    pub fn get(&self, kind: Kind, identifier: &str) -> Option<&Declaration> {
        self.declarations.get(identifier).filter(|d| Kind::of_type(&d.kind) == Some(kind))
    }

    /// The token of the whole: a hash over what the manifest lists, in order.
    #[must_use]
    pub fn token(&self) -> String {
        let mut text = String::new();
        for declaration in self.declarations.values() {
            text.push_str(&json!([declaration.identifier, declaration.server_token]).to_string());
        }
        hex::encode(sha256(text.as_bytes()))
    }

    /// The answer to `tokens`; `changed` is when the set last changed.
    #[must_use]
    pub fn tokens(&self, changed: Time) -> Tokens {
        let timestamp = Time::from_seconds(changed.seconds()).to_string();
        Tokens { sync_tokens: SyncTokens { declarations_token: self.token(), timestamp } }
    }

    /// The answer to `declaration-items`.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        let mut manifest = Manifest { declarations_token: self.token(), ..Manifest::default() };
        for declaration in self.declarations.values() {
            if let Some(kind) = Kind::of_type(&declaration.kind) {
                let item = Item { identifier: declaration.identifier.clone(), server_token: declaration.server_token.clone() };
                manifest.declarations.of_mut(kind).push(item);
            }
        }
        manifest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(kind: &str, payload: &Value, behind: &str) -> Wanted {
        Wanted { kind: kind.into(), payload: payload.as_object().unwrap().clone(), behind: behind.into() }
    }

    fn test(echo: &str) -> Wanted {
        wanted("com.apple.configuration.management.test", &json!({"Echo": echo}), "")
    }

    #[test]
    fn the_three_answers_agree() {
        let mut set = Set::default();
        assert!(set.is_empty());
        assert!(set.add("b", test("1")) && set.add("a", wanted("com.apple.asset.data", &json!({}), "x")));
        assert!(set.activate("z", Some("@property(shard) < 10")));
        let (tokens, manifest) = (set.tokens(Time(1_500)), set.manifest());
        assert_eq!(tokens.sync_tokens.declarations_token, manifest.declarations_token);
        assert_eq!(tokens.sync_tokens.timestamp, "1970-01-01T00:00:01Z");
        for kind in Kind::ALL {
            for item in manifest.declarations.of(kind) {
                assert_eq!(set.get(kind, &item.identifier).unwrap().server_token, item.server_token);
            }
        }
        assert_eq!(manifest.declarations.configurations.len(), 1);
        assert_eq!(set.get(Kind::Activation, "z").unwrap().payload["StandardConfigurations"], json!(["b"]));
        assert!(set.get(Kind::Asset, "b").is_none(), "of another kind");
        assert!(set.get(Kind::Asset, "../a").is_none());
    }

    #[test]
    fn what_cannot_be_declared_is_not_added() {
        let mut set = Set::default();
        assert!(!set.add("a", wanted("com.example.thing", &json!({}), "")));
        assert!(!set.add("x".repeat(65), test("1")) && !set.add("", test("1")));
        assert!(set.add("a", test("1")) && !set.add("a", test("2")));
    }

    #[test]
    fn an_activation_names_only_what_no_other_names() {
        let mut set = Set::default();
        assert!(set.add("a", test("1")) && set.activate("first", None));
        assert!(set.add("b", test("2")) && set.activate("second", None));
        assert_eq!(set.get(Kind::Activation, "second").unwrap().payload["StandardConfigurations"], json!(["b"]));
    }

    #[test]
    fn what_stands_behind_a_url_is_part_of_the_token() {
        let legacy = |behind| server_token(&wanted("com.apple.configuration.legacy", &json!({"ProfileURL": "https://h/p"}), behind));
        assert_ne!(legacy("1"), legacy("2"));
        assert_eq!(legacy("1").len(), LONGEST);
    }

    #[test]
    fn long_identifiers_are_cut_and_stay_apart() {
        let name = |last: &str| identifier("org.example", Kind::Configuration, &format!("{}{last}", "x".repeat(80)));
        assert!(name("1").len() <= LONGEST && name("1") != name("2"));
        assert_eq!(identifier("org.example", Kind::Asset, "root"), "org.example.asset.root");
    }

    proptest! {
        #[test]
        fn the_token_changes_exactly_with_the_content(
            a in proptest::collection::btree_map("[a-c]", "[x-z]", 0..4),
            b in proptest::collection::btree_map("[a-c]", "[x-z]", 0..4),
        ) {
            let set = |content: &BTreeMap<String, String>, backwards: bool| {
                let mut set = Set::default();
                let mut all: Vec<_> = content.iter().collect();
                if backwards {
                    all.reverse();
                }
                for (identifier, echo) in all {
                    assert!(set.add(identifier, test(echo)));
                }
                set
            };
            prop_assert_eq!(set(&a, false).token(), set(&a, true).token());
            prop_assert_eq!(set(&a, false).token() == set(&b, false).token(), a == b);
        }
    }
}
