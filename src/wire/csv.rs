//! Tables as text (RFC 4180), as people and programs write them: with a byte order mark, with semicolons or tabs in the place of
//! commas, and in UTF-16 as Windows PowerShell writes.

use super::Malformed;

/// Longest cell, in bytes.
const LONGEST_CELL: usize = 64 * 1024;
/// How many cells a row has at most.
const MOST_CELLS: usize = 200;
/// The signs that stand between cells.
const SEPARATORS: [char; 3] = [',', ';', '\t'];

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The line of the text on which it begins, from 1.
    pub line: usize,
    /// Its cells.
    pub cells: Vec<String>,
}

/// Why a text is no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// On which line.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Reads the text of a file.
///
/// # Errors
/// [`Malformed`] when it is neither UTF-8 nor UTF-16 with its mark.
pub fn decode(bytes: &[u8]) -> Result<String, Malformed> {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = rest.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(unit).collect();
        String::from_utf16(&units).map_err(|_| Malformed::new("not UTF-16", "table"))
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        plain => utf8(plain),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed::new("neither UTF-8 nor UTF-16 with its mark", "table"))
}

/// Reads a table; lines without anything are no rows.
///
/// # Errors
/// [`Wrong`], with the line.
pub fn parse(text: &str) -> Result<Vec<Row>, Wrong> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let separator = separator(text);
    let (mut rows, mut cells, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut begins) = (1, 1);
    let (mut quoted, mut closed) = (false, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\n' || (letter == '\r' && letters.peek() != Some(&'\n')) {
            line += 1;
        }
        if cell.len() > LONGEST_CELL || cells.len() >= MOST_CELLS {
            return Err(Wrong { line, what: "the row has too many cells, or one that is too long; is a quote missing?" });
        }
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' if quoted => (quoted, closed) = (false, true),
            _ if quoted => cell.push(letter),
            '"' if cell.is_empty() && !closed => quoted = true,
            '"' => return Err(Wrong { line, what: "a quote inside a cell is written twice, in a cell that stands in quotes" }),
            '\r' if letters.peek() == Some(&'\n') => {}
            '\n' | '\r' => {
                cells.push(std::mem::take(&mut cell));
                closed = false;
                finish(&mut rows, begins, std::mem::take(&mut cells));
                begins = line;
            }
            _ if letter == separator => {
                cells.push(std::mem::take(&mut cell));
                closed = false;
            }
            _ if closed => return Err(Wrong { line, what: "something stands after the quote that ends a cell" }),
            _ => cell.push(letter),
        }
    }
    if quoted {
        return Err(Wrong { line: begins, what: "the quote that begins in this row has no end" });
    }
    cells.push(cell);
    finish(&mut rows, begins, cells);
    Ok(rows)
}

fn finish(rows: &mut Vec<Row>, line: usize, cells: Vec<String>) {
    if cells.iter().any(|cell| !cell.trim().is_empty()) {
        rows.push(Row { line, cells });
    }
}

/// The sign that stands between cells: which of them is most often in the first lines, outside of quotes.
fn separator(text: &str) -> char {
    let head: Vec<&str> = text.lines().take(3).collect();
    let count = |sign: char| {
        let mut quoted = false;
        let outside = |letter: &char| {
            quoted ^= *letter == '"';
            !quoted && *letter == sign
        };
        head.iter().flat_map(|line| line.chars()).filter(outside).count()
    };
    // The first of those that are as frequent.
    SEPARATORS.into_iter().rev().max_by_key(|sign| count(*sign)).unwrap_or(',')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cells(text: &str) -> Vec<Vec<String>> {
        parse(text).unwrap().into_iter().map(|row| row.cells).collect()
    }

    #[test]
    fn tables_are_read_as_they_are_written() {
        assert_eq!(cells("a,b\r\n1,2\r\n"), [["a", "b"], ["1", "2"]]);
        assert_eq!(cells("\u{feff}a;b,c\n\"1;2\";\"x\"\"y\"\n"), [["a", "b,c"], ["1;2", "x\"y"]]);
        assert_eq!(cells("a\tb\n1\t\n"), [["a", "b"], ["1", ""]]);
        assert_eq!(cells("\"a,b;;;\",c\n"), [["a,b;;;", "c"]]);
        assert_eq!(cells("a"), [["a"]]);
        assert!(cells("").is_empty() && cells("\n\n,,\n").is_empty());
        let rows = parse("a,b\n\n\"1\n2\",3\r4,5").unwrap();
        assert_eq!(rows.iter().map(|row| (row.line, row.cells[0].as_str())).collect::<Vec<_>>(), [(1, "a"), (3, "1\n2"), (5, "4")]);
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        assert_eq!(parse("a,b\n1,\"2\n3").unwrap_err().line, 2);
        assert_eq!(parse("a,b\n1,2\n\"x\"y,2").unwrap_err().line, 3);
        assert_eq!(parse("a,b\n1,x\"y").unwrap_err().line, 2);
        assert_eq!(parse(&",".repeat(300)).unwrap_err().line, 1);
        assert_eq!(parse(&format!("a\n\"{}", "x".repeat(70_000))).unwrap_err().line, 2);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(table in proptest::collection::vec(proptest::collection::vec("[a-z,;\"\n ]{1,8}x", 2), 1..8)) {
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",");
            let text = table.iter().map(line).collect::<Vec<_>>().join("\r\n");
            prop_assert_eq!(cells(&text), table);
        }

        #[test]
        fn reading_never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }

    #[test]
    fn marks_say_how_a_file_is_written() {
        let wide: Vec<u8> = "é,1".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(&[&[0xff, 0xfe], wide.as_slice()].concat()).unwrap(), "é,1");
        assert_eq!(decode("\u{feff}é".as_bytes()).unwrap(), "é");
        assert_eq!(decode(&[0xfe, 0xff, 0, b'x']).unwrap(), "x");
        assert!(decode(&[0xff, 0xff]).is_err() && decode(&[0xff, 0xfe, 0, 0xd8]).is_err());
    }
}
