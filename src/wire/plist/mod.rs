//! Property lists: what Apple devices and their servers say to each other, as XML or in Apple's binary form.
//!
//! [`Value`] is the tree. [`decode`] reads both forms within [`Limits`]; [`encode`] writes XML the way Apple's own writer does, always
//! the same bytes for the same tree. [`from_value`] and [`to_value`] carry trees into types of ours and back (serde).

mod binary;
mod de;
mod ser;
mod xml;

use serde_json::Value as Json;

pub use de::{from_dict, from_value};
pub use ser::to_value;
pub use xml::encode;

use super::Malformed;

/// What a property list may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest document, in bytes; also the most bytes of text and data in what comes out.
    pub bytes: usize,
    /// Deepest nesting of arrays and dictionaries.
    pub depth: usize,
    /// Most values and keys together.
    pub nodes: usize,
}

impl Limits {
    /// Check-in messages, signed device information and profiles: 1 MiB.
    pub const MESSAGE: Self = Self { bytes: 1024 * 1024, depth: 32, nodes: 50_000 };
    /// Results of commands, which list every application or certificate of a device: 16 MiB.
    pub const RESULT: Self = Self { bytes: 16 * 1024 * 1024, depth: 32, nodes: 500_000 };
}

/// A value of a property list.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A whole number above the signed range; smaller ones are [`Value::Integer`].
    Unsigned(u64),
    /// A number with a fraction.
    Real(f64),
    /// A truth value.
    Boolean(bool),
    /// Bytes.
    Data(Data),
    /// A moment.
    Date(Date),
    /// A list.
    Array(Vec<Self>),
    /// A dictionary.
    Dict(Dict),
}

/// Bytes. They are not shown in debug output: many of them are keys and tokens.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Data(pub Vec<u8>);

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Data({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Data {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl std::ops::Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A moment, in whole seconds since 1970-01-01 UTC; years 0 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(pub i64);

/// A dictionary, in the order in which it was written; a key occurs once.
#[derive(Clone, Debug, Default)]
pub struct Dict(Vec<(String, Value)>);

impl PartialEq for Dict {
    /// Two dictionaries are equal when they say the same, in whatever order.
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || (self.len() == other.len() && self.sorted() == other.sorted())
    }
}

impl Dict {
    /// An empty dictionary.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn sorted(&self) -> Vec<&(String, Value)> {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries
    }

    /// The dictionary of these entries; `None` when a key occurs twice.
    fn of(entries: Vec<(String, Value)>) -> Option<Self> {
        let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        let unique = keys.windows(2).all(|pair| pair.first() != pair.last());
        unique.then_some(Self(entries))
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Puts a value under a key, in the place of what stood there, else at the end.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// Puts a value under a key when there is one.
    pub fn insert_some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.insert(key, value);
        }
    }

    /// The same dictionary with one more entry.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// The entries in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The keys in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// The text under a key.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The truth value under a key.
    #[must_use]
    pub fn boolean(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// The whole number under a key.
    #[must_use]
    pub fn integer(&self, key: &str) -> Option<i64> {
        self.get(key)?.as_integer()
    }

    /// The bytes under a key.
    #[must_use]
    pub fn data(&self, key: &str) -> Option<&[u8]> {
        self.get(key)?.as_data()
    }

    /// The list under a key.
    #[must_use]
    pub fn array(&self, key: &str) -> Option<&[Value]> {
        self.get(key)?.as_array()
    }

    /// The dictionary under a key.
    #[must_use]
    pub fn dict(&self, key: &str) -> Option<&Self> {
        self.get(key)?.as_dict()
    }
}

impl IntoIterator for Dict {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Dict {
    /// Of two entries with one key the later one stays.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut dict = Self::new();
        for (key, value) in entries {
            dict.insert(key, value);
        }
        dict
    }
}

impl Value {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value; devices also write 0 and 1.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(truth) => Some(*truth),
            Self::Integer(0) => Some(false),
            Self::Integer(1) => Some(true),
            _ => None,
        }
    }

    /// The whole number; a real without a fraction is one, too: devices differ in which they write.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Real(number) => whole(*number),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub fn as_real(&self) -> Option<f64> {
        match self {
            Self::Real(number) => Some(*number),
            #[allow(clippy::cast_precision_loss, reason = "who asks for a real takes its precision")]
            Self::Integer(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_data(&self) -> Option<&[u8]> {
        match self {
            Self::Data(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The list.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The dictionary.
    #[must_use]
    pub fn as_dict(&self) -> Option<&Dict> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    /// The dictionary, or what is wrong.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn into_dict(self, at: &str) -> Result<Dict, Malformed> {
        match self {
            Self::Dict(dict) => Ok(dict),
            other => Err(Malformed::new(format!("a dictionary is expected, not {}", other.kind()), at)),
        }
    }

    /// What kind of value it is, for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) | Self::Unsigned(_) => "an integer",
            Self::Real(_) => "a real",
            Self::Boolean(_) => "a boolean",
            Self::Data(_) => "data",
            Self::Date(_) => "a date",
            Self::Array(_) => "an array",
            Self::Dict(_) => "a dictionary",
        }
    }

    /// The value as JSON, which has no bytes and dates: they become Base64 and RFC 3339. Reals that are no numbers become `null`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::String(text) => Json::from(text.as_str()),
            Self::Integer(number) => Json::from(*number),
            Self::Unsigned(number) => Json::from(*number),
            Self::Real(number) => Json::from(*number),
            Self::Boolean(truth) => Json::from(*truth),
            Self::Data(bytes) => Json::from(xml::base64(bytes)),
            Self::Date(date) => Json::from(xml::date(*date)),
            Self::Array(items) => items.iter().map(Self::to_json).collect(),
            Self::Dict(dict) => dict.iter().map(|(key, value)| (key.to_owned(), value.to_json())).collect(),
        }
    }

    /// The value that a JSON document says. JSON's `null` has no counterpart: entries and items that are `null` are left out.
    #[must_use]
    pub fn from_json(json: &Json) -> Option<Self> {
        Some(match json {
            Json::Null => return None,
            Json::Bool(truth) => Self::Boolean(*truth),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Self::Integer(number),
                (None, Some(number)) => Self::Unsigned(number),
                (None, None) => Self::Real(number.as_f64()?),
            },
            Json::String(text) => Self::String(text.clone()),
            Json::Array(items) => Self::Array(items.iter().filter_map(Self::from_json).collect()),
            Json::Object(entries) => {
                Self::Dict(Dict(entries.iter().filter_map(|(key, value)| Some((key.clone(), Self::from_json(value)?))).collect()))
            }
        })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the number is whole and inside the range in which reals are exact")]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

macro_rules! from {
    ($($from:ty => |$value:ident| $to:expr;)+) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $to
            }
        })+
    };
}

from! {
    &str => |text| Self::String(text.to_owned());
    String => |text| Self::String(text);
    bool => |truth| Self::Boolean(truth);
    i64 => |number| Self::Integer(number);
    i32 => |number| Self::Integer(number.into());
    u32 => |number| Self::Integer(number.into());
    u64 => |number| i64::try_from(number).map_or(Self::Unsigned(number), Self::Integer);
    f64 => |number| Self::Real(number);
    Data => |bytes| Self::Data(bytes);
    Date => |moment| Self::Date(moment);
    Dict => |dict| Self::Dict(dict);
    Vec<Value> => |items| Self::Array(items);
}

/// Reads a property list, XML or binary, whichever it is.
///
/// XML may carry the document type that Apple writes, without declarations of its own; no entity beyond XML's five is expanded. What is
/// not UTF-8, and characters that XML forbids, become the replacement character: devices put such texts into error messages.
///
/// # Errors
/// [`Malformed`] when it is neither, is broken, or exceeds a limit.
pub fn decode(document: &[u8], limits: Limits) -> Result<Value, Malformed> {
    if document.len() > limits.bytes {
        return Err(Malformed::new("document is too long", format!("byte {}", limits.bytes)));
    }
    if document.starts_with(binary::MAGIC) { binary::decode(document, limits) } else { xml::decode(document, limits) }
}

/// Reads a property list whose top is a dictionary.
///
/// # Errors
/// As [`decode`]; also when the top is something else.
pub fn decode_dict(document: &[u8], limits: Limits) -> Result<Dict, Malformed> {
    decode(document, limits)?.into_dict("the top of the property list")
}

/// Reads a property list into a type.
///
/// # Errors
/// As [`decode`] and [`from_value`].
pub fn decode_as<T: serde::de::DeserializeOwned>(document: &[u8], limits: Limits) -> Result<T, Malformed> {
    from_value(&decode(document, limits)?)
}

#[cfg(test)]
mod tests;
