//! What a device says of its declarations. Its reports are incremental: each holds what has changed, and only a full one replaces
//! everything. So what was said is kept, and a profile is judged by all of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::declarations::{PREDICATE, Set};
use crate::wire::apple::ddm::{Declaration, Kind, StatusReport, Valid};

/// Most reasons that are kept of one declaration.
const REASONS: usize = 10;
/// Longest code of a reason, in characters.
const LONGEST_CODE: usize = 100;

/// What the device last said of its declarations, by their identifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Declared(BTreeMap<String, Told>);

/// What the device last said of one declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    token: String,
    active: bool,
    valid: Valid,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

/// How it stands with the declarations of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The device has not said anything of all of them in their present version.
    Unknown,
    /// All of them are in force, but for those whose condition does not hold on the device.
    InForce,
    /// The device takes them, and something keeps them from being in force.
    NotInForce(String),
    /// The device refuses one of them, or what activates them.
    Refused(String),
}

impl Declared {
    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a report in. What is not declared (any more) is not kept, whatever the device says of it.
    pub fn take(&mut self, report: &StatusReport, set: &Set) {
        if report.full_report {
            self.0.clear();
        }
        for status in Kind::ALL.iter().filter_map(|kind| report.declarations(*kind)).flatten() {
            if status.removed {
                self.0.remove(&status.identifier);
                continue;
            }
            let code = |code: &str| code.chars().take(LONGEST_CODE).collect();
            let told = Told {
                token: status.server_token,
                active: status.active,
                valid: status.valid,
                reasons: status.reasons.iter().take(REASONS).map(|reason| code(&reason.code)).collect(),
            };
            self.0.insert(status.identifier, told);
        }
        self.0.retain(|identifier, told| {
            set.iter().any(|declaration| declaration.identifier == *identifier && declaration.server_token == told.token)
        });
    }

    /// How it stands with declarations of the set. Only what is said of the present version counts.
    #[must_use]
    pub fn standing<'n>(&self, set: &Set, names: impl IntoIterator<Item = &'n str>) -> Standing {
        let current = |name: &str| {
            let declaration = set.iter().find(|declaration| declaration.identifier == name)?;
            let told = self.0.get(name).filter(|told| told.token == declaration.server_token)?;
            Some((Kind::of_type(&declaration.kind), told))
        };
        let conditional = |activation: &Declaration| activation.payload.contains_key(PREDICATE);
        // Where no condition holds under which a configuration is in force, it is as declared that it is not.
        let held_back = |name: &str| {
            let off = |a: &Declaration| conditional(a) && current(&a.identifier).is_some_and(|(_, t)| t.valid == Valid::Valid && !t.active);
            set.activations(name).next().is_some() && set.activations(name).all(off)
        };
        let (mut unknown, mut any) = (false, false);
        let mut activations = BTreeMap::new();
        let mut waits = None;
        for name in names {
            any = true;
            let Some((kind, told)) = current(name) else {
                unknown = true;
                continue;
            };
            if kind == Some(Kind::Configuration) {
                activations.extend(set.activations(name).map(|activation| (activation.identifier.as_str(), activation)));
            }
            if told.valid != Valid::Invalid && !told.active && held_back(name) {
                continue;
            }
            match told.valid {
                Valid::Invalid => return Standing::Refused(told.reasons.join(", ")),
                Valid::Unknown => unknown = true,
                Valid::Valid if kind == Some(Kind::Configuration) && !told.active => waits = Some(told.reasons.join(", ")),
                Valid::Valid => {}
            }
        }
        for activation in activations.into_values() {
            match current(&activation.identifier) {
                Some((_, told)) if told.valid == Valid::Invalid => return Standing::Refused(told.reasons.join(", ")),
                Some((_, told)) if told.valid == Valid::Valid && !told.active && !conditional(activation) => {
                    waits = Some(told.reasons.join(", "));
                }
                _ => {}
            }
        }
        match waits {
            Some(why) => Standing::NotInForce(why),
            None if unknown || !any => Standing::Unknown,
            None => Standing::InForce,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::domain::apple::declarations::Wanted;

    fn set() -> Set {
        let test = |echo: &str| Wanted {
            kind: "com.apple.configuration.management.test".into(),
            payload: Map::from_iter([("Echo".to_owned(), echo.into())]),
            behind: String::new(),
        };
        let mut set = Set::default();
        assert!(set.add("a", test("1")) && set.add("b", test("2")) && set.activate("all", None));
        set
    }

    fn token(set: &Set, name: &str) -> String {
        set.iter().find(|declaration| declaration.identifier == name).unwrap().server_token.clone()
    }

    fn entry(set: &Set, name: &str, active: bool, valid: &str) -> Value {
        let reasons = if valid == "valid" && active { json!([]) } else { json!([{ "code": format!("Error.{name}") }]) };
        json!({ "identifier": name, "server-token": token(set, name), "active": active, "valid": valid, "reasons": reasons })
    }

    fn report(activations: &[Value], configurations: &[Value], full: bool) -> StatusReport {
        let lists = json!({ "activations": activations, "configurations": configurations });
        let text = json!({ "StatusItems": { "management": { "declarations": lists } }, "FullReport": full });
        StatusReport::decode(text.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn reports_add_up_and_a_full_one_replaces() {
        let (set, mut declared) = (set(), Declared::default());
        let both = ["a", "b"];
        declared.take(&report(&[], &[entry(&set, "a", true, "valid")], false), &set);
        assert_eq!(declared.standing(&set, both), Standing::Unknown);
        declared.take(&report(&[], &[entry(&set, "b", true, "valid")], false), &set);
        assert_eq!(declared.standing(&set, both), Standing::InForce);
        declared.take(&report(&[], &[entry(&set, "b", true, "valid")], true), &set);
        assert_eq!(declared.standing(&set, both), Standing::Unknown, "nothing of a in the full report");
        assert_eq!(declared.standing(&set, ["b"]), Standing::InForce);
        let mut gone = entry(&set, "b", true, "valid");
        gone["_removed"] = true.into();
        declared.take(&report(&[], &[gone], false), &set);
        assert!(declared.is_empty());
    }

    #[test]
    fn what_is_not_active_is_not_in_force_and_an_invalid_activation_refuses_all() {
        let (set, mut declared) = (set(), Declared::default());
        declared.take(&report(&[], &[entry(&set, "a", false, "valid")], false), &set);
        assert_eq!(declared.standing(&set, ["a"]), Standing::NotInForce("Error.a".into()));
        declared.take(&report(&[entry(&set, "all", false, "valid")], &[entry(&set, "a", true, "valid")], false), &set);
        assert_eq!(declared.standing(&set, ["a"]), Standing::NotInForce("Error.all".into()));
        declared.take(&report(&[entry(&set, "all", false, "invalid")], &[], false), &set);
        assert_eq!(declared.standing(&set, ["a"]), Standing::Refused("Error.all".into()));
        declared.take(&report(&[entry(&set, "all", true, "valid")], &[entry(&set, "b", true, "invalid")], false), &set);
        assert_eq!(declared.standing(&set, ["a"]), Standing::InForce);
        assert_eq!(declared.standing(&set, ["a", "b"]), Standing::Refused("Error.b".into()), "active and invalid has failed");
    }

    #[test]
    fn a_configuration_whose_condition_does_not_hold_is_as_declared_and_holds_nothing_else_up() {
        let mut set = Set::default();
        let test = |echo: &str| Wanted {
            kind: "com.apple.configuration.management.test".into(),
            payload: Map::from_iter([("Echo".to_owned(), echo.into())]),
            behind: String::new(),
        };
        assert!(set.add("a", test("1")) && set.activate("some", Some("@property(x) == 1")));
        assert!(set.add("b", test("2")) && set.activate("all", None));
        let mut declared = Declared::default();
        let configurations = [entry(&set, "a", false, "unknown"), entry(&set, "b", true, "valid")];
        let activations = |some| [entry(&set, "some", some, "valid"), entry(&set, "all", true, "valid")];
        declared.take(&report(&activations(false), &configurations, false), &set);
        assert_eq!(declared.standing(&set, ["a", "b", "some"]), Standing::InForce);
        // The condition holds, and the configuration is not in force yet.
        declared.take(&report(&activations(true), &[], false), &set);
        assert_eq!(declared.standing(&set, ["a"]), Standing::Unknown);
        declared.take(&report(&[], &[entry(&set, "a", false, "invalid")], false), &set);
        assert_eq!(declared.standing(&set, ["a"]), Standing::Refused("Error.a".into()));
        assert_eq!(declared.standing(&set, ["b"]), Standing::InForce);
    }

    #[test]
    fn what_is_stale_or_not_declared_is_not_kept() {
        let (set, mut declared) = (set(), Declared::default());
        let mut stale = entry(&set, "a", true, "valid");
        stale["server-token"] = "old".into();
        let mut foreign = entry(&set, "b", true, "valid");
        foreign["identifier"] = "x".into();
        declared.take(&report(&[], &[stale, foreign], false), &set);
        assert!(declared.is_empty());
        assert_eq!(declared.standing(&set, [""; 0]), Standing::Unknown);
    }
}
