//! From trees to types of ours.

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::{Data, Date, Dict, Malformed, Value, whole};

/// Marks a newtype that holds the seconds of a date.
pub(super) const DATE: &str = "plist date";

impl de::Error for Malformed {
    fn custom<T: std::fmt::Display>(what: T) -> Self {
        Self::new(what.to_string(), "")
    }
}

/// Reads a tree into a type. Numbers are taken as the type wants them, whether the device wrote an integer or a real, and truth values
/// also as 0 and 1: devices differ. Keys that the type does not have are passed over.
///
/// # Errors
/// When something is missing or of another kind; the error names the path.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Malformed> {
    T::deserialize(value)
}

/// As [`from_value`], from a dictionary.
///
/// # Errors
/// As [`from_value`].
pub fn from_dict<T: DeserializeOwned>(dict: &Dict) -> Result<T, Malformed> {
    T::deserialize(MapAccessDeserializer::new(Entries { entries: dict.0.iter(), value: None }))
}

fn below(error: Malformed, step: &str) -> Malformed {
    let at = if error.at.is_empty() { step.to_owned() } else { format!("{step}/{}", error.at) };
    Malformed { what: error.what, at }
}

struct Entries<'v> {
    entries: std::slice::Iter<'v, (String, Value)>,
    value: Option<(&'v str, &'v Value)>,
}

impl<'v> MapAccess<'v> for Entries<'v> {
    type Error = Malformed;

    fn next_key_seed<K: DeserializeSeed<'v>>(&mut self, seed: K) -> Result<Option<K::Value>, Malformed> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, value));
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'v>>(&mut self, seed: V) -> Result<V::Value, Malformed> {
        let (key, value) = self.value.take().ok_or_else(|| de::Error::custom("a value without a key"))?;
        seed.deserialize(value).map_err(|error| below(error, key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

struct Items<'v>(std::iter::Enumerate<std::slice::Iter<'v, Value>>);

impl<'v> SeqAccess<'v> for Items<'v> {
    type Error = Malformed;

    fn next_element_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<Option<S::Value>, Malformed> {
        let Some((index, value)) = self.0.next() else { return Ok(None) };
        seed.deserialize(value).map(Some).map_err(|error| below(error, &index.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

macro_rules! numbers {
    ($($method:ident),+) => {
        $(fn $method<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Malformed> {
            match self {
                Value::Real(number) => match whole(*number) {
                    Some(number) => visitor.visit_i64(number),
                    None => self.deserialize_any(visitor),
                },
                _ => self.deserialize_any(visitor),
            }
        })+
    };
}

impl<'v> Deserializer<'v> for &'v Value {
    type Error = Malformed;

    fn deserialize_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Malformed> {
        match self {
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Unsigned(number) => visitor.visit_u64(*number),
            Value::Real(number) => visitor.visit_f64(*number),
            Value::Boolean(truth) => visitor.visit_bool(*truth),
            Value::Data(bytes) => visitor.visit_borrowed_bytes(&bytes.0),
            Value::Date(Date(seconds)) => visitor.visit_newtype_struct((*seconds).into_deserializer()),
            Value::Array(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Dict(dict) => visitor.visit_map(Entries { entries: dict.0.iter(), value: None }),
        }
    }

    fn deserialize_bool<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Malformed> {
        match self.as_bool() {
            Some(truth) => visitor.visit_bool(truth),
            None => self.deserialize_any(visitor),
        }
    }

    numbers!(
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64
    );

    // Nothing in a property list is "none": what is there, is.
    fn deserialize_option<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Malformed> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'v>>(self, name: &'static str, visitor: V) -> Result<V::Value, Malformed> {
        match self {
            Value::Date(_) if name == DATE => self.deserialize_any(visitor),
            _ if name == DATE => Err(de::Error::custom(format!("a date is expected, not {}", self.kind()))),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'v>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        match self {
            Value::String(text) => StrDeserializer::new(text).deserialize_enum(name, variants, visitor),
            _ => Err(de::Error::custom(format!("a string is expected, not {}", self.kind()))),
        }
    }

    forward_to_deserialize_any! {
        <V: Visitor<'v>>
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Data;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("data")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Data, E> {
                Ok(Data(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl<'de> Visitor<'de> for Seconds {
            type Value = Date;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a date")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, seconds: D) -> Result<Date, D::Error> {
                i64::deserialize(seconds).map(Date)
            }
        }
        deserializer.deserialize_newtype_struct(DATE, Seconds)
    }
}

impl<'de> Deserialize<'de> for Dict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Dict(dict) => Ok(dict),
            other => Err(de::Error::custom(format!("a dictionary is expected, not {}", other.kind()))),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value of a property list")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(text.into())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
                Ok(number.into())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
                Ok(number.into())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
                Ok(number.into())
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Value, E> {
                Ok(truth.into())
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
                Ok(Value::Data(bytes.into()))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, seconds: D) -> Result<Value, D::Error> {
                i64::deserialize(seconds).map(|seconds| Value::Date(Date(seconds)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                Ok(Value::Array(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, Value>()? {
                    entries.push(entry);
                }
                Dict::of(entries).map(Value::Dict).ok_or_else(|| de::Error::custom("a key that is there twice"))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
