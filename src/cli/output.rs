//! How answers look: tables for people, JSON for programs.

use std::io::Write as _;

use serde_json::{Map, Value};

use super::page;

/// A column is not wider than that many letters for the sake of a single cell.
const WIDEST: usize = 80;
/// A column is not cut to less than that many letters: rather, the last columns are left out.
const NARROWEST: usize = 20;

/// In how many lines a cell is shown at most.
const TALLEST: usize = 3;

/// So many rows are shown one below the other where their table does not fit.
const FEW: usize = 10;

/// The width of lines where nobody says how wide they may be.
const READABLE: usize = 100;

/// How an answer is shown to people, in lines of that many letters where somebody looks.
pub(super) type View = fn(&Value, Option<usize>) -> String;

/// Prints an answer in a view for people, or in JSON. A reader that has gone away is not an error.
pub(super) fn print(answer: &Value, view: Option<View>) -> anyhow::Result<()> {
    let text = view.map_or_else(|| format!("{answer:#}\n"), |view| view(answer, width()));
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The width of the terminal; `None` where nobody looks: then nothing is cut. `COLUMNS` goes before both.
fn width() -> Option<usize> {
    let asked = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
    asked.or_else(|| console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns)))
}

/// The width that texts are wrapped to.
pub(super) fn readable(width: Option<usize>) -> usize {
    width.unwrap_or(READABLE).min(READABLE)
}

/// The text in lines of at most `width` letters, each after `indent`, and indented further from the second on. Longer words stay whole.
pub(super) fn wrap(text: &str, width: usize, indent: &str) -> String {
    let (mut shown, mut line) = (String::new(), indent.to_owned());
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            shown.push_str(&line);
            shown.push('\n');
            line = format!("{indent}  ");
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    if !empty {
        shown.push_str(&line);
        shown.push('\n');
    }
    shown
}

/// A state of compliance in people's words. Programs get the spellings that Graph and CAEP each have for the same thing.
pub(super) fn spoken(word: &str) -> &str {
    match word {
        "noncompliant" | "nonCompliant" | "not-compliant" => "not compliant",
        "inGracePeriod" => "in grace",
        "notApplicable" => "not applicable",
        "notAssigned" => "not assigned",
        "notJudged" => "not judged yet",
        other => other,
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
pub(super) fn render(answer: &Value, width: Option<usize>) -> String {
    match answer {
        Value::Null => String::new(),
        Value::String(text) => format!("{}\n", text.trim_end()),
        Value::Object(fields) => {
            let (tables, lines): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_table(value));
            let (blocks, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|(_, value)| is_block(value));
            let (inner, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|(_, value)| value.is_object());
            let pairs = |fields: Vec<(&String, &Value)>, indent: &str| {
                pairs(fields.into_iter().map(|(name, value)| (format!("{indent}{name}"), cell(value))).collect(), width)
            };
            let mut text = pairs(lines, "");
            for (name, value) in inner {
                let fields = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()).collect();
                text.push_str(&format!("\n{name}\n{}", pairs(fields, "  ")));
            }
            for (name, value) in tables.into_iter().chain(blocks) {
                text.push_str(&format!("\n{name}\n{}", render(value, width)));
            }
            text
        }
        Value::Array(items) if items.is_empty() => "nothing\n".to_owned(),
        Value::Array(items) => match items.iter().map(Value::as_object).collect::<Option<Vec<_>>>() {
            Some(_) => {
                let mut page = answer.clone();
                let rest = page::rest(&mut page);
                let objects: Vec<_> = page.as_array().into_iter().flatten().filter_map(Value::as_object).collect();
                let (mut text, left_out) = table(&objects, width);
                if !left_out.is_empty() && objects.len() <= FEW {
                    text = blocks(&objects, width);
                } else if !left_out.is_empty() {
                    text.push_str(&format!("({} left out here; --json has all)\n", left_out.join(", ").to_lowercase()));
                }
                text + &rest
            }
            None => items.iter().map(|item| format!("{}\n", cell(item))).collect(),
        },
        other => format!("{other}\n"),
    }
}

/// Objects one below the other, each whole, without what they do not have.
pub(super) fn blocks(objects: &[&Map<String, Value>], width: Option<usize>) -> String {
    let block = |object: &&Map<String, Value>| {
        let told = object.iter().filter(|(_, value)| !value.is_null() && value.as_str() != Some(""));
        pairs(told.map(|(name, value)| (name.replace('_', " "), entry(value))).collect(), width)
    };
    objects.iter().map(block).collect::<Vec<_>>().join("\n")
}

/// The table, and the columns that found no room in it.
fn table(objects: &[&Map<String, Value>], width: Option<usize>) -> (String, Vec<String>) {
    let mut columns: Vec<&String> = Vec::new();
    for name in objects.iter().flat_map(|object| object.keys()) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    // What has a name is looked for by it.
    let named = columns.iter().any(|name| ["name", "display_name", "upn", "serial"].contains(&name.as_str()));
    if let Some(at) = columns.iter().position(|name| *name == "id").filter(|_| named) {
        let id = columns.remove(at);
        columns.push(id);
    }
    let mut rows = vec![columns.iter().map(|name| name.to_uppercase().replace('_', " ")).collect::<Vec<_>>()];
    rows.extend(objects.iter().map(|object| columns.iter().map(|name| object.get(*name).map_or_else(String::new, entry)).collect()));
    let left_out = width.map(|width| fit(&mut rows, width)).unwrap_or_default();
    (align(rows), left_out)
}

/// Narrows the longest columns until the table fits, and where that is not enough leaves the last ones out, which it names. Identifiers
/// and the first column stay whole, because they are copied into other orders.
fn fit(rows: &mut Vec<Vec<String>>, width: usize) -> Vec<String> {
    let Some(mut head) = rows.first().cloned() else { return Vec::new() };
    let longest = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..head.len()).map(longest).collect();
    let least = |(at, (name, natural)): (usize, (&String, &usize))| match at {
        _ if name == "ID" => *natural,
        0 => *natural.min(&NARROWEST.max(width / 2)),
        _ => *natural.min(&NARROWEST),
    };
    let floors: Vec<usize> = head.iter().zip(&widths).enumerate().map(least).collect();
    let mut left_out = Vec::new();
    loop {
        let narrow: usize = floors.iter().take(head.len()).map(|floor| floor + 2).sum();
        if head.len() <= 2 || narrow <= width + 2 {
            break;
        }
        widths.pop();
        left_out.extend(head.pop());
    }
    left_out.reverse();
    loop {
        let excess = (widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)).saturating_sub(width);
        let cuttable = || (0..widths.len()).filter(|at| widths.get(*at) > floors.get(*at));
        let Some(longest) = cuttable().max_by_key(|at| widths.get(*at)) else { break };
        let next = cuttable().filter(|at| *at != longest).filter_map(|at| widths.get(at)).max().copied().unwrap_or(0);
        let floor = floors.get(longest).copied().unwrap_or(NARROWEST);
        let Some(found) = widths.get_mut(longest).filter(|_| excess > 0) else { break };
        // Down to the next longest, which then takes its part.
        *found = found.saturating_sub(excess).max(next.min(*found - 1)).max(floor);
    }
    let folded = rows.iter().flat_map(|row| {
        let cells: Vec<Vec<String>> = row.iter().zip(&widths).map(|(cell, width)| fold(cell, *width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(1);
        (0..height).map(move |at| cells.iter().map(|lines| lines.get(at).cloned().unwrap_or_default()).collect())
    });
    *rows = folded.collect();
    left_out
}

/// A cell in lines of at most `width` letters, broken between words. Longer words are cut, and so is what takes too many lines.
fn fold(cell: &str, width: usize) -> Vec<String> {
    let cut = |text: &str| -> String { text.chars().take(width.saturating_sub(1)).chain(['…']).collect() };
    let mut lines: Vec<String> = Vec::new();
    for word in cell.split(' ') {
        let (long, height) = (word.chars().count(), lines.len());
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + long <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(line) if height == TALLEST => {
                *line = cut(&format!("{line} {word}"));
                break;
            }
            _ if long > width => lines.push(cut(word)),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A moment as tables show it: `2026-11-26 08:16:40`.
fn moment(text: &str) -> Option<String> {
    let digits = |part: Option<&str>| part.is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit() || b"-:.".contains(&b)));
    let inside = text.strip_suffix('Z')?;
    let formed = inside.get(10..11) == Some("T") && digits(inside.get(..10)) && digits(inside.get(11..));
    formed.then(|| inside.get(..19).unwrap_or(inside).replace('T', " "))
}

/// A value in a table: of a list that would be a table of its own the number.
pub(super) fn entry(value: &Value) -> String {
    if let Some(moment) = value.as_str().and_then(moment) {
        return moment;
    }
    match value.as_array().filter(|_| is_table(value)) {
        Some(items) => format!("{} (see --json)", items.len()),
        None => cell(value),
    }
}

/// Whether a character of strangers is kept from the terminal: it controls it, turns the direction of what follows, or is not seen.
pub(super) fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A value on one line; what is not to be seen in it does not reach the terminal.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.chars().map(|c| if is_unseen(c) { ' ' } else { c }).collect(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) if items.iter().all(|i| !i.is_object() && !i.is_array()) => {
            items.iter().map(cell).collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join("; "),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| format!("{name} {}", cell(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Columns under each other. A cell that is much longer than others sticks out, instead of pushing a whole column away.
pub(super) fn align(rows: Vec<Vec<String>>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).filter(|n| *n <= WIDEST).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Names and what they stand for, which goes on below itself where the line is full; words stay whole.
pub(super) fn pairs(rows: Vec<(String, String)>, width: Option<usize>) -> String {
    let Some(width) = width else { return align(rows.into_iter().map(|(name, value)| vec![name, value]).collect()) };
    let names = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let room = width.saturating_sub(names + 2).max(NARROWEST);
    let mut text = String::new();
    for (name, value) in rows {
        let mut lines: Vec<String> = vec![String::new()];
        for word in value.split(' ') {
            match lines.last_mut() {
                Some(line) if line.is_empty() => line.push_str(word),
                Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        for (at, line) in lines.iter().enumerate() {
            let name = if at == 0 { name.as_str() } else { "" };
            text.push_str(format!("{name:<names$}  {line}").trim_end());
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_objects_are_tables() {
        let text = render(&json!([{"id": "a", "long_name": "x\u{202e}y"}, {"id": "bbb", "long_name": null}]), None);
        assert_eq!(text, "ID   LONG NAME\na    x y\nbbb  -\n");
        assert_eq!(render(&json!({"a": [1, 2], "bc": true}), None), "a   1, 2\nbc  true\n");
        assert_eq!(render(&json!([]), None), "nothing\n");
        let inner = json!({"a": {"b": 1, "c": null}, "d": 2, "e": [{"f": {"g": [true, "h"], "i": null}}]});
        assert_eq!(render(&inner, None), "d  2\n\na\n  b  1\n\ne\nF\ng true, h\n", "no JSON for people");
        assert_eq!(render(&json!({"a": 1, "b": [{"x": 1}], "c": []}), None), "a  1\nc  -\n\nb\nX\n1\n");
        assert_eq!(render(&json!([{"a": 1, "b": [{"x": 1}, {"x": 2}]}]), None), "A  B\n1  2 (see --json)\n");
    }

    #[test]
    fn what_does_not_fit_beside_its_name_goes_on_below_itself() {
        let fields = json!({"a": "one two three four five six", "name": "x".repeat(30)});
        assert_eq!(render(&fields, Some(26)), format!("a     one two three four\n      five six\nname  {}\n", "x".repeat(30)));
        assert_eq!(render(&fields, None).lines().count(), 2);
    }

    #[test]
    fn the_last_row_of_a_page_says_how_the_rest_is_seen() {
        let rows = || vec![json!({"name": "a"}), json!({"name": "b c"}), json!({"name": "d"})];
        let page = page::cut(rows(), 2, page::after("name"));
        assert_eq!(page[1]["more"], "--after 'b c', or --limit");
        assert_eq!(render(&page, None), "NAME\na\nb c\n(there are more: --after 'b c', or --limit)\n");
        assert_eq!(page::cut(rows(), 3, page::after("name")), json!(rows()));
        assert_eq!(page::cut(rows(), 1, |_| None)[0]["more"], "--limit");
    }

    #[test]
    fn a_table_fits_the_terminal_by_cutting_its_longest_columns() {
        let id = "0123456789-0123456789-0123456789";
        let rows = json!([{"id": id, "title": "short", "text": "y".repeat(90), "other": "z".repeat(40)}]);
        let full = render(&rows, None);
        assert!(full.contains(&"y".repeat(90)) && full.contains(&"z".repeat(40)));
        assert_eq!(render(&rows, Some(400)), full);
        let cut = render(&rows, Some(84));
        assert!(cut.lines().all(|line| line.chars().count() <= 84), "{cut}");
        assert!(cut.contains(id) && cut.contains("short") && cut.matches('…').count() == 2, "{cut}");
        let one = render(&rows, Some(150));
        assert!(one.contains(&"z".repeat(40)) && one.lines().any(|line| line.chars().count() == 150), "{one}");
        // What identifies a row stays whole.
        let order = json!({"order": "renew-management-certificate", "help": "y".repeat(90), "id": id});
        assert!(render(&Value::Array(vec![order; FEW + 1]), Some(80)).contains("renew-management-certificate  yyyyy"));
        assert!(render(&json!([{"id": id, "order": "x"}]), Some(20)).contains(id));
    }

    #[test]
    fn a_text_is_folded_into_its_column_and_cut_after_three_lines() {
        let rows =
            json!([{"rule": "Active", "wanted": "a check-in with all facts within the last thirty days"}, {"rule": "x", "wanted": "y"}]);
        let shown = render(&rows, Some(36));
        assert_eq!(shown, "RULE    WANTED\nActive  a check-in with all facts\n        within the last thirty days\nx       y\n");
        assert_eq!(fold("", 5), [""]);
        assert_eq!(fold("abcdefgh ij", 5), ["abcd…", "ij"]);
        assert_eq!(fold("aa bb cc dd ee", 5), ["aa bb", "cc dd", "ee"]);
        assert_eq!(fold("aaa bbb ccc ddd eee", 4), ["aaa", "bbb", "ccc…"]);
    }

    #[test]
    fn what_has_a_name_is_shown_by_it_and_its_id_comes_last() {
        assert_eq!(render(&json!([{"id": "a", "name": "b"}]), None), "NAME  ID\nb     a\n");
        assert_eq!(render(&json!([{"id": "a", "order": "b"}]), None), "ID  ORDER\na   b\n");
    }

    #[test]
    fn columns_that_do_not_fit_are_left_out_and_named() {
        let text = "y".repeat(60);
        let row = json!({"seq": 1, "at": "2026-11-26T08:16:40.559Z", "what": text, "by": text, "hash": text, "origin": null});
        let shown = render(&Value::Array(vec![row.clone(); FEW + 1]), Some(70));
        assert!(shown.lines().all(|line| line.chars().count() <= 70), "{shown}");
        assert!(shown.contains("2026-11-26 08:16:40  y") && shown.ends_with("(hash, origin left out here; --json has all)\n"), "{shown}");
        // Of few nothing is left out.
        let shown = render(&Value::Array(vec![row; 2]), Some(70));
        let block = format!("seq   1\nat    2026-11-26 08:16:40\nwhat  {text}\nby    {text}\nhash  {text}\n");
        assert_eq!(shown, format!("{block}\n{block}"));
        assert_eq!(moment("2026-11-26T08:16:40Z").as_deref(), Some("2026-11-26 08:16:40"));
        for text in ["", "Z", "2026-11-26", "äääääTääääZ", "2026-11-26T08:16:40+02:00"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_cell_does_not_push_the_other_rows_away() {
        let rows = json!([{"a": "x".repeat(300), "b": 1}, {"a": "y", "b": 2}]);
        assert_eq!(render(&rows, None), format!("A  B\n{}  1\ny  2\n", "x".repeat(300)));
    }

    #[test]
    fn texts_are_wrapped_between_words() {
        assert_eq!(wrap("one two three", 10, "  "), "  one two\n    three\n");
        assert_eq!(wrap("incomprehensibilities", 10, ""), "incomprehensibilities\n");
        assert_eq!(wrap(" ", 10, ""), "");
        assert_eq!((readable(None), readable(Some(40)), readable(Some(400))), (100, 40, 100));
    }

    #[test]
    fn a_pem_text_comes_last_in_its_own_lines() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        assert_eq!(render(&json!({"pem": pem, "z": 1}), None), format!("z  1\n\npem\n{pem}"));
        assert_eq!(render(&json!({"a": "-----BEGIN x\n\u{1b}[2J"}), None), "a  -----BEGIN x  [2J\n");
        assert_eq!(render(&json!({"a": "one\ntwo"}), None), "a  one two\n");
    }
}
