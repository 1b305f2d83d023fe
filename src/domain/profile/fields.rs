//! A payload's fields as a type of its own: one reader for whoever judges a profile and for whoever gives it to a device.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// How many letters of an explanation are kept: some repeat the value.
const LONGEST: usize = 300;

/// How serde calls things, and how the manual does.
const WORDS: [(&str, &str); 7] = [
    ("expected u32", "expected a whole number"),
    ("expected a boolean", "expected true or false"),
    ("expected a sequence", "expected a list"),
    ("expected a string", "expected a text"),
    ("expected struct Template", "expected a table"),
    ("expected struct KeyRules", "expected a table"),
    ("expected adjacently tagged enum San", "expected a table of type and value"),
];

/// One step into a document.
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

/// Reads the fields.
///
/// # Errors
/// `place: what is wrong`; the place is the innermost field that does not fit.
pub fn fields<T: DeserializeOwned>(body: &Map<String, Value>) -> Result<T, String> {
    let body = Value::Object(body.clone());
    T::deserialize(&body).map_err(|error| {
        let (place, why) = blame::<T>(&body, error.to_string());
        let mut why = why;
        for (word, plain) in WORDS {
            why = why.replace(word, plain);
        }
        let said = if place.is_empty() { why } else { format!("{place}: {why}") };
        said.chars().take(LONGEST).collect()
    })
}

/// Which part does not fit, found by leaving the others out, and why.
fn blame<T: DeserializeOwned>(body: &Value, mut why: String) -> (String, String) {
    let wrong = |path: &[Step<'_>], leaf: Value| T::deserialize(build(path, leaf)).err().map(|error| error.to_string());
    let (mut path, mut at) = (Vec::new(), body);
    loop {
        let (none, parts): (Value, Vec<(Step<'_>, &Value)>) = match at {
            Value::Object(fields) => (json!({}), fields.iter().map(|(name, value)| (Step::Field(name), value)).collect()),
            Value::Array(items) => (json!([]), items.iter().enumerate().map(|(index, item)| (Step::Item(index), item)).collect()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => break,
        };
        // Fields that are only good together are not taken apart.
        if wrong(&path, none).is_some() {
            break;
        }
        let mut found = None;
        for (step, part) in parts {
            path.push(step);
            if let Some(said) = wrong(&path, part.clone()) {
                found = Some((part, said));
                break;
            }
            path.pop();
        }
        let Some((part, said)) = found else { break };
        (at, why) = (part, said);
    }
    (show(&path), why)
}

/// The document that has nothing but that leaf.
fn build(path: &[Step<'_>], leaf: Value) -> Value {
    path.iter().rev().fold(leaf, |inner, step| match step {
        Step::Field(name) => json!({ *name: inner }),
        Step::Item(_) => json!([inner]),
    })
}

fn show(path: &[Step<'_>]) -> String {
    let mut shown = String::new();
    for step in path {
        match step {
            Step::Field(name) if shown.is_empty() => shown.push_str(name),
            Step::Field(name) => shown.push_str(&format!(".{name}")),
            Step::Item(index) => shown.push_str(&format!("[{index}]")),
        }
    }
    shown
}
