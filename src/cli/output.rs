//! How answers look: tables for people, JSON for programs.

use std::io::Write as _;

use serde_json::{Map, Value};

/// A column is not cut to less than that many letters.
const NARROWEST: usize = 10;

/// Prints an answer. A reader that has gone away is not an error.
pub(super) fn print(answer: &Value, json: bool) -> anyhow::Result<()> {
    // `None` where nobody looks: then nothing is cut.
    let width = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    let text = if json { format!("{answer:#}\n") } else { render(answer, width) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A list of objects.
fn is_table(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_object))
}

/// A PEM text, whose lines mean nothing on one line. Only what has nothing but printable lines is one.
fn is_block(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("-----BEGIN ") && text.chars().all(|c| c == '\n' || !c.is_control()))
}

/// The answer for people: a list of objects as a table that fits into `width`, an object as `key  value` lines with the tables and PEM texts
/// in it after them.
fn render(answer: &Value, width: Option<usize>) -> String {
    match answer {
        Value::Null => String::new(),
        Value::String(text) => format!("{}\n", text.trim_end()),
        Value::Object(fields) => {
            let (tables, lines): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_table(value));
            let (blocks, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|(_, value)| is_block(value));
            let mut text = align(lines.into_iter().map(|(name, value)| vec![name.clone(), cell(value)]).collect());
            for (name, value) in tables.into_iter().chain(blocks) {
                text.push_str(&format!("\n{name}\n{}", render(value, width)));
            }
            text
        }
        Value::Array(items) if items.is_empty() => "nothing\n".to_owned(),
        Value::Array(items) => match items.iter().map(Value::as_object).collect::<Option<Vec<_>>>() {
            Some(objects) => table(&objects, width),
            None => items.iter().map(|item| format!("{}\n", cell(item))).collect(),
        },
        other => format!("{other}\n"),
    }
}

fn table(objects: &[&Map<String, Value>], width: Option<usize>) -> String {
    let mut columns: Vec<&String> = Vec::new();
    for name in objects.iter().flat_map(|object| object.keys()) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let mut rows = vec![columns.iter().map(|name| name.to_uppercase().replace('_', " ")).collect::<Vec<_>>()];
    rows.extend(objects.iter().map(|object| columns.iter().map(|name| object.get(*name).map_or_else(String::new, entry)).collect()));
    if let Some(width) = width {
        fit(&mut rows, width);
    }
    align(rows)
}

/// Cuts the longest columns until the table fits. Identifiers stay whole, because they are copied into other orders.
fn fit(rows: &mut [Vec<String>], width: usize) {
    let Some(head) = rows.first().cloned() else { return };
    let mut widths: Vec<usize> =
        (0..head.len()).map(|at| rows.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max().unwrap_or(0)).collect();
    loop {
        let excess = (widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)).saturating_sub(width);
        let cuttable = || (0..widths.len()).filter(|at| head.get(*at).is_some_and(|name| name != "ID"));
        let Some(longest) = cuttable().max_by_key(|at| widths.get(*at)) else { break };
        let next = cuttable().filter(|at| *at != longest).filter_map(|at| widths.get(at)).max().copied().unwrap_or(0);
        let Some(found) = widths.get_mut(longest).filter(|found| excess > 0 && **found > NARROWEST) else { break };
        // Down to the next longest, which then takes its part.
        *found = found.saturating_sub(excess).max(next.min(*found - 1)).max(NARROWEST);
    }
    for row in rows {
        for (cell, width) in row.iter_mut().zip(&widths) {
            if cell.chars().count() > *width {
                *cell = cell.chars().take(width.saturating_sub(1)).chain(['…']).collect();
            }
        }
    }
}

/// A value in a table: of a list that would be a table of its own the number.
fn entry(value: &Value) -> String {
    match value.as_array().filter(|_| is_table(value)) {
        Some(items) => format!("{} (see --json)", items.len()),
        None => cell(value),
    }
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
        let text = render(&json!([{"id": "a", "long_name": "x\u{1b}y"}, {"id": "bbb", "long_name": null}]), None);
        assert_eq!(text, "ID   LONG NAME\na    x y\nbbb  -\n");
        assert_eq!(render(&json!({"a": [1, 2], "bc": true}), None), "a   1, 2\nbc  true\n");
        assert_eq!(render(&json!([]), None), "nothing\n");
        assert_eq!(render(&json!({"a": 1, "b": [{"x": 1}], "c": []}), None), "a  1\nc  -\n\nb\nX\n1\n");
        assert_eq!(render(&json!([{"a": 1, "b": [{"x": 1}, {"x": 2}]}]), None), "A  B\n1  2 (see --json)\n");
    }

    #[test]
    fn a_table_fits_the_terminal_by_cutting_its_longest_columns() {
        let id = "0123456789-0123456789-0123456789";
        let rows = json!([{"id": id, "name": "short", "text": "y".repeat(90), "other": "z".repeat(40)}]);
        let full = render(&rows, None);
        assert!(full.contains(&"y".repeat(90)) && full.contains(&"z".repeat(40)));
        assert_eq!(render(&rows, Some(400)), full);
        let cut = render(&rows, Some(80));
        assert!(cut.lines().all(|line| line.chars().count() <= 80), "{cut}");
        assert!(cut.contains(id) && cut.contains("short") && cut.matches('…').count() == 2, "{cut}");
        let one = render(&rows, Some(150));
        assert!(one.contains(&"z".repeat(40)) && one.lines().any(|line| line.chars().count() == 150), "{one}");
        // What cannot fit is as narrow as it may be.
        assert!(render(&rows, Some(20)).contains(id));
    }

    #[test]
    fn a_pem_text_comes_last_in_its_own_lines() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        assert_eq!(render(&json!({"pem": pem, "z": 1}), None), format!("z  1\n\npem\n{pem}"));
        assert_eq!(render(&json!({"a": "-----BEGIN x\n\u{1b}[2J"}), None), "a  -----BEGIN x  [2J\n");
        assert_eq!(render(&json!({"a": "one\ntwo"}), None), "a  one two\n");
    }
}
