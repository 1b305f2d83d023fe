//! From types of ours to trees.

use serde::ser::{self, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, Serializer};

use super::de::DATE;
use super::{Data, Date, Dict, Malformed, Value};

impl ser::Error for Malformed {
    fn custom<T: std::fmt::Display>(what: T) -> Self {
        Self::new(what.to_string(), "")
    }
}

/// Puts a value of a type into a tree. What is `None` is left out.
///
/// # Errors
/// When the type holds what property lists cannot: `None` in a list, keys that are no texts, enums with content.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, Malformed> {
    value.serialize(ToValue)?.ok_or_else(|| ser::Error::custom("nothing cannot be written"))
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(DATE, &self.0)
    }
}

impl Serialize for Dict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::String(text) => serializer.serialize_str(text),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Unsigned(number) => serializer.serialize_u64(*number),
            Self::Real(number) => serializer.serialize_f64(*number),
            Self::Boolean(truth) => serializer.serialize_bool(*truth),
            Self::Data(bytes) => bytes.serialize(serializer),
            Self::Date(date) => date.serialize(serializer),
            Self::Array(items) => items.serialize(serializer),
            Self::Dict(dict) => dict.serialize(serializer),
        }
    }
}

struct ToValue;

type Done = Result<Option<Value>, Malformed>;

fn impossible<T>() -> Result<T, Malformed> {
    Err(ser::Error::custom("property lists cannot hold this"))
}

macro_rules! plain {
    ($($method:ident: $type:ty;)+) => {
        $(fn $method(self, value: $type) -> Done {
            Ok(Some(Value::from(value)))
        })+
    };
}

impl Serializer for ToValue {
    type Ok = Option<Value>;
    type Error = Malformed;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Impossible<Option<Value>, Malformed>;
    type SerializeTupleVariant = Impossible<Option<Value>, Malformed>;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Impossible<Option<Value>, Malformed>;

    plain! {
        serialize_bool: bool;
        serialize_i32: i32;
        serialize_i64: i64;
        serialize_u32: u32;
        serialize_u64: u64;
        serialize_f64: f64;
        serialize_str: &str;
    }

    fn serialize_i8(self, number: i8) -> Done {
        self.serialize_i32(number.into())
    }

    fn serialize_i16(self, number: i16) -> Done {
        self.serialize_i32(number.into())
    }

    fn serialize_u8(self, number: u8) -> Done {
        self.serialize_u32(number.into())
    }

    fn serialize_u16(self, number: u16) -> Done {
        self.serialize_u32(number.into())
    }

    fn serialize_f32(self, number: f32) -> Done {
        self.serialize_f64(number.into())
    }

    fn serialize_char(self, c: char) -> Done {
        self.serialize_str(c.encode_utf8(&mut [0; 4]))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Done {
        Ok(Some(Value::Data(bytes.into())))
    }

    fn serialize_none(self) -> Done {
        Ok(None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        Ok(None)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Done {
        Ok(None)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Done {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Done {
        match value.serialize(self)? {
            Some(Value::Integer(seconds)) if name == DATE => Ok(Some(Value::Date(Date(seconds)))),
            other => Ok(other),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: &'static str, _: u32, _: &'static str, _: &T) -> Done {
        impossible()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items, Malformed> {
        Ok(Items(Vec::new()))
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, Malformed> {
        Ok(Items(Vec::new()))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Malformed> {
        impossible()
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self::SerializeTupleVariant, Malformed> {
        impossible()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, Malformed> {
        Ok(Entries { entries: Vec::new(), key: None })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Entries, Malformed> {
        Ok(Entries { entries: Vec::new(), key: None })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Malformed> {
        impossible()
    }
}

struct Items(Vec<Value>);

impl SerializeSeq for Items {
    type Ok = Option<Value>;
    type Error = Malformed;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Malformed> {
        self.0.push(to_value(value)?);
        Ok(())
    }

    fn end(self) -> Done {
        Ok(Some(Value::Array(self.0)))
    }
}

impl SerializeTuple for Items {
    type Ok = Option<Value>;
    type Error = Malformed;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Malformed> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Done {
        SerializeSeq::end(self)
    }
}

struct Entries {
    entries: Vec<(String, Value)>,
    key: Option<String>,
}

impl SerializeMap for Entries {
    type Ok = Option<Value>;
    type Error = Malformed;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Malformed> {
        match to_value(key)? {
            Value::String(key) => self.key = Some(key),
            other => return Err(ser::Error::custom(format!("a key is a string, not {}", other.kind()))),
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Malformed> {
        let key = self.key.take().ok_or_else(|| ser::Error::custom("a value without a key"))?;
        if let Some(value) = value.serialize(ToValue)? {
            self.entries.push((key, value));
        }
        Ok(())
    }

    fn end(self) -> Done {
        let dict = Dict::of(self.entries).ok_or_else(|| ser::Error::custom("a key that is there twice"))?;
        Ok(Some(Value::Dict(dict)))
    }
}

impl SerializeStruct for Entries {
    type Ok = Option<Value>;
    type Error = Malformed;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Malformed> {
        if let Some(value) = value.serialize(ToValue)? {
            self.entries.push((key.to_owned(), value));
        }
        Ok(())
    }

    fn end(self) -> Done {
        SerializeMap::end(self)
    }
}
