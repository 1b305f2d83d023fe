//! CBOR (RFC 8949) as attestations use it: definite lengths, no tags, no floating point numbers.

use super::Malformed;

/// Deepest nesting that is read.
const DEPTH: usize = 8;
/// Most items of one list or map.
const ITEMS: u64 = 256;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An integer; negative ones are kept as `-1 - n`.
    Integer(i128),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// A list.
    Array(Vec<Self>),
    /// A map, in the order in which it was written.
    Map(Vec<(Self, Self)>),
    /// A truth value.
    Boolean(bool),
    /// Null or undefined.
    Null,
}

impl Value {
    /// The value of a key that is a text.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| matches!(name, Self::Text(name) if name == key)).map(|(_, value)| value)
    }
}

fn wrong(what: &'static str) -> Malformed {
    Malformed::new(what, "CBOR")
}

/// Reads one value that takes all of the bytes.
///
/// # Errors
/// [`Malformed`] when it is cut off, followed by something, nested too deeply, or of a kind that is not read.
pub fn decode(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut rest = bytes;
    let value = item(&mut rest, DEPTH)?;
    if rest.is_empty() { Ok(value) } else { Err(wrong("something follows the value")) }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Malformed> {
    let (head, tail) = rest.split_at_checked(count).ok_or_else(|| wrong("cut off"))?;
    *rest = tail;
    Ok(head)
}

/// The argument of an initial byte.
fn argument(rest: &mut &[u8], info: u8) -> Result<u64, Malformed> {
    let count = match info {
        0..=23 => return Ok(u64::from(info)),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Err(wrong("an indefinite length")),
    };
    Ok(take(rest, count)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

fn item(rest: &mut &[u8], depth: usize) -> Result<Value, Malformed> {
    let below = depth.checked_sub(1).ok_or_else(|| wrong("nested too deeply"))?;
    let initial = take(rest, 1)?.first().copied().unwrap_or_default();
    let (major, info) = (initial >> 5, initial & 0x1f);
    if major == 7 {
        return match info {
            20 => Ok(Value::Boolean(false)),
            21 => Ok(Value::Boolean(true)),
            22 | 23 => Ok(Value::Null),
            _ => Err(wrong("a kind of value that is not read")),
        };
    }
    let argument = argument(rest, info)?;
    let length = || usize::try_from(argument).map_err(|_| wrong("cut off"));
    let count = || if argument > ITEMS { Err(wrong("too many items")) } else { Ok(argument) };
    Ok(match major {
        0 => Value::Integer(i128::from(argument)),
        1 => Value::Integer(-1 - i128::from(argument)),
        2 => Value::Bytes(take(rest, length()?)?.to_vec()),
        3 => Value::Text(std::str::from_utf8(take(rest, length()?)?).map_err(|_| wrong("text that is not UTF-8"))?.to_owned()),
        4 => Value::Array((0..count()?).map(|_| item(rest, below)).collect::<Result<_, _>>()?),
        5 => Value::Map((0..count()?).map(|_| Ok((item(rest, below)?, item(rest, below)?))).collect::<Result<_, Malformed>>()?),
        _ => return Err(wrong("a tag")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_rfc_are_read() {
        let read = |text: &str| decode(&hex::decode(text).unwrap()).unwrap();
        for (text, value) in [
            ("00", Value::Integer(0)),
            ("1818", Value::Integer(24)),
            ("1b000000e8d4a51000", Value::Integer(1_000_000_000_000)),
            ("3903e7", Value::Integer(-1000)),
            ("f4", Value::Boolean(false)),
            ("f6", Value::Null),
            ("4401020304", Value::Bytes(vec![1, 2, 3, 4])),
            ("6449455446", Value::Text("IETF".into())),
            ("83010203", Value::Array(vec![Value::Integer(1), Value::Integer(2), Value::Integer(3)])),
        ] {
            assert_eq!(read(text), value, "{text}");
        }
        assert_eq!(read("a26161016162820203").get("a"), Some(&Value::Integer(1)));
    }

    #[test]
    fn what_is_cut_off_endless_or_deep_is_refused() {
        for text in
            ["", "18", "44010203", "0000", "9f01ff", "5f41ffff", "c11a514b67b0", "fb3ff199999999999a", "62ff20", "9b7fffffffffffffff"]
        {
            assert!(decode(&hex::decode(text).unwrap()).is_err(), "{text}");
        }
        assert!(decode(&[0x81; 10_000]).is_err());
        // A length that is longer than all memory.
        assert!(decode(&hex::decode("5bffffffffffffffff00").unwrap()).is_err());
    }
}
