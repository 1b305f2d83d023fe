//! What of an object is shown: `$select`, and the properties that only beta has.

use serde_json::{Map, Value};

use super::{Wrong, quoted};

/// The properties of a type.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Shown unless others are selected.
    pub usual: &'static [&'static str],
    /// Shown when they are selected.
    pub more: &'static [&'static str],
    /// Those of either that only beta has.
    pub beta: &'static [&'static str],
}

impl Shape {
    /// Whether there is a property of that name.
    #[must_use]
    pub fn has(&self, name: &str, beta: bool) -> bool {
        (beta || !self.beta.contains(&name)) && (self.usual.contains(&name) || self.more.contains(&name))
    }

    /// Holds a selection against the type.
    ///
    /// # Errors
    /// [`Wrong`], with the first name that is none.
    pub fn check(&self, select: &[String], beta: bool) -> Result<(), Wrong> {
        match select.iter().find(|name| *name != "*" && *name != "id" && !name.starts_with('@') && !self.has(name, beta)) {
            Some(name) => Err(Wrong::new(format!("Could not find a property named '{}'.", quoted(name)))),
            None => Ok(()),
        }
    }

    /// The object with what is to be shown of it. Annotations and the id always stay.
    #[must_use]
    pub fn show(&self, object: Map<String, Value>, select: &[String], beta: bool) -> Map<String, Value> {
        let all = select.iter().any(|name| name == "*");
        let chosen = |name: &str| {
            if select.is_empty() || all {
                self.usual.contains(&name) || (all && self.more.contains(&name))
            } else {
                select.iter().any(|s| s == name)
            }
        };
        let shown = |name: &str| {
            name == "id"
                || name.contains('@')
                || (chosen(name) && (beta || !self.beta.contains(&name)) && (self.usual.contains(&name) || self.more.contains(&name)))
        };
        object.into_iter().filter(|(name, _)| shown(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHAPE: Shape = Shape { usual: &["a", "b"], more: &["c"], beta: &["b"] };

    fn show(select: &[&str], beta: bool) -> Value {
        let Value::Object(object) = json!({ "id": 1, "@odata.type": "t", "a": 1, "b": 2, "c": 3, "secret": 4 }) else { unreachable!() };
        let select: Vec<String> = select.iter().map(|s| (*s).to_owned()).collect();
        Value::Object(SHAPE.show(object, &select, beta))
    }

    #[test]
    fn a_selection_shows_what_it_names_and_the_type() {
        assert_eq!(show(&[], false), json!({ "id": 1, "@odata.type": "t", "a": 1 }));
        assert_eq!(show(&[], true), json!({ "id": 1, "@odata.type": "t", "a": 1, "b": 2 }));
        assert_eq!(show(&["c", "b"], false), json!({ "id": 1, "@odata.type": "t", "c": 3 }));
        assert_eq!(show(&["*"], true), json!({ "id": 1, "@odata.type": "t", "a": 1, "b": 2, "c": 3 }));
        assert_eq!(show(&["secret"], true), json!({ "id": 1, "@odata.type": "t" }));
        let check = |name: &str, beta| SHAPE.check(&[name.to_owned()], beta).is_ok();
        assert!(check("a", false) && check("c", false) && check("b", true) && !check("b", false) && !check("secret", true));
    }
}
