//! How answers look: tables for people, JSON for programs.

use std::io::Write as _;

use serde_json::{Map, Value};

/// Prints an answer. A reader that has gone away is not an error.
pub(super) fn print(answer: &Value, json: bool) -> anyhow::Result<()> {
    let text = if json { format!("{answer:#}\n") } else { render(answer) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A list of objects.
fn is_table(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_object))
}

/// The answer for people: a list of objects as a table, an object as `key  value` lines with the tables in it after them.
fn render(answer: &Value) -> String {
    match answer {
        Value::Null => String::new(),
        Value::String(text) => format!("{}\n", text.trim_end()),
        Value::Object(fields) => {
            let (tables, lines): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_table(value));
            let mut text = align(lines.into_iter().map(|(name, value)| vec![name.clone(), cell(value)]).collect());
            for (name, value) in tables {
                text.push_str(&format!("\n{name}\n{}", render(value)));
            }
            text
        }
        Value::Array(items) if items.is_empty() => "nothing\n".to_owned(),
        Value::Array(items) => match items.iter().map(Value::as_object).collect::<Option<Vec<_>>>() {
            Some(objects) => table(&objects),
            None => items.iter().map(|item| format!("{}\n", cell(item))).collect(),
        },
        other => format!("{other}\n"),
    }
}

fn table(objects: &[&Map<String, Value>]) -> String {
    let mut columns: Vec<&String> = Vec::new();
    for name in objects.iter().flat_map(|object| object.keys()) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let mut rows = vec![columns.iter().map(|name| name.to_uppercase().replace('_', " ")).collect::<Vec<_>>()];
    rows.extend(objects.iter().map(|object| columns.iter().map(|name| object.get(*name).map_or_else(String::new, cell)).collect()));
    align(rows)
}

/// A value on one line; control characters of strangers do not reach the terminal.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) if items.iter().all(|i| !i.is_object() && !i.is_array()) => {
            items.iter().map(cell).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Columns under each other.
pub(super) fn align(rows: Vec<Vec<String>>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|at| rows.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_objects_are_tables() {
        let text = render(&json!([{"id": "a", "long_name": "x\u{1b}y"}, {"id": "bbb", "long_name": null}]));
        assert_eq!(text, "ID   LONG NAME\na    x y\nbbb  -\n");
        assert_eq!(render(&json!({"a": [1, 2], "bc": true})), "a   1, 2\nbc  true\n");
        assert_eq!(render(&json!([])), "nothing\n");
        assert_eq!(render(&json!({"a": 1, "b": [{"x": 1}], "c": []})), "a  1\nc  -\n\nb\nX\n1\n");
    }
}
