//! Tables as text (RFC 4180), as other programs write them: UTF-8, or UTF-16 with its mark as Windows PowerShell does.

use super::Malformed;

/// Most rows of a table.
const MOST_ROWS: usize = 10_000;

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

/// The rows of a table, each with its fields.
///
/// # Errors
/// [`Malformed`] when a quote has no end, or there are too many rows.
pub fn rows(text: &str) -> Result<Vec<Vec<String>>, Malformed> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut signs) = (false, text.chars().peekable());
    while let Some(sign) = signs.next() {
        match sign {
            '"' if quoted && signs.peek() == Some(&'"') => {
                signs.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
                if rows.len() > MOST_ROWS {
                    return Err(Malformed::new("too many rows", "table"));
                }
            }
            other => field.push(other),
        }
    }
    if quoted {
        return Err(Malformed::new("a quote has no end", "table"));
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows.retain(|row| row.iter().any(|field| !field.trim().is_empty()));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_as_programs_write_them() {
        let read = |text: &str| rows(text).unwrap();
        assert_eq!(read("a,b\r\n1,2\r\n"), [["a", "b"], ["1", "2"]]);
        assert_eq!(read("a,\"b,\"\"c\"\"\nd\"\n\n,\n1,"), [["a", "b,\"c\"\nd"], ["1", ""]]);
        assert_eq!(read(""), Vec::<Vec<String>>::new());
        assert!(rows("a,\"b").is_err() && rows(&"a\n".repeat(MOST_ROWS + 1)).is_err());
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
