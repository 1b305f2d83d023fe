//! The binary form (`bplist00`): decoding. Objects refer to each other by number; the budget is spent per visit, so that neither cycles
//! nor objects that are referred to a million times cost more than [`Limits`] allow.

use super::xml::clean;
use super::{Data, Date, Dict, Limits, Malformed, Value};

pub(super) const MAGIC: &[u8] = b"bplist00";

const TRAILER: usize = 32;

/// Seconds from 1970 to 2001, when Apple's time begins.
const EPOCH: f64 = 978_307_200.0;

struct Decoder<'d> {
    bytes: &'d [u8],
    offset_size: usize,
    ref_size: usize,
    objects: usize,
    table: usize,
    limits: Limits,
    nodes: usize,
    volume: usize,
}

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Value, Malformed> {
    let fail = || Malformed::new("bad trailer", "binary property list");
    let trailer = bytes.len().checked_sub(TRAILER).filter(|at| *at >= MAGIC.len()).ok_or_else(fail)?;
    let at = |from: usize, size: usize| bytes.get(trailer + from..trailer + from + size).and_then(size_of).ok_or_else(fail);
    let decoder =
        Decoder { bytes, offset_size: at(6, 1)?, ref_size: at(7, 1)?, objects: at(8, 8)?, table: at(24, 8)?, limits, nodes: 0, volume: 0 };
    let whole = decoder.offset_size.checked_mul(decoder.objects).and_then(|size| size.checked_add(decoder.table));
    let sizes = (1..=8).contains(&decoder.offset_size) && (1..=8).contains(&decoder.ref_size);
    if !sizes || whole.is_none_or(|end| end > trailer) || decoder.table < MAGIC.len() {
        return Err(fail());
    }
    let top = at(16, 8)?;
    let mut decoder = decoder;
    decoder.object(top, 0)
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn size_of(bytes: &[u8]) -> Option<usize> {
    usize::try_from(number_of(bytes)?).ok()
}

impl Decoder<'_> {
    fn malformed(&self, what: &'static str, object: usize) -> Malformed {
        Malformed::new(what, format!("object {object}"))
    }

    /// The bytes of an object, from its marker on; they never reach into the offset table.
    fn at(&self, object: usize) -> Option<&[u8]> {
        let entry = self.table.checked_add(object.checked_mul(self.offset_size)?)?;
        let offset = size_of(self.bytes.get(entry..entry.checked_add(self.offset_size)?)?)?;
        self.bytes.get(offset.max(MAGIC.len())..self.table).filter(|_| offset >= MAGIC.len())
    }

    fn object(&mut self, object: usize, depth: usize) -> Result<Value, Malformed> {
        if depth > self.limits.depth {
            return Err(self.malformed("nested too deeply", object));
        }
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            return Err(self.malformed("too many values", object));
        }
        if object >= self.objects {
            return Err(self.malformed("no such object", object));
        }
        // Copied out, so that the budget can be counted while the bytes are read; every copy is paid for.
        let broken = || Malformed::new("ends early", format!("object {object}"));
        let (marker, rest) = self.at(object).and_then(<[u8]>::split_first).ok_or_else(broken)?;
        let (high, low) = (marker >> 4, marker & 0xf);
        match (high, low) {
            (0, 8 | 9) => Ok(Value::Boolean(low == 9)),
            (1, 0..=4) => integer(rest.get(..1 << low).ok_or_else(broken)?).ok_or_else(|| self.malformed("not an integer", object)),
            (2, 2) => {
                let bytes = rest.first_chunk::<4>().ok_or_else(broken)?;
                Ok(Value::Real(f32::from_be_bytes(*bytes).into()))
            }
            (2, 3) => Ok(Value::Real(f64::from_be_bytes(*rest.first_chunk::<8>().ok_or_else(broken)?))),
            (3, 3) => {
                let seconds = (f64::from_be_bytes(*rest.first_chunk::<8>().ok_or_else(broken)?) + EPOCH).floor();
                // From year 0 to the end of 9999.
                if !(-62_167_219_200.0..253_402_300_800.0).contains(&seconds) {
                    return Err(self.malformed("not a date", object));
                }
                #[allow(clippy::cast_possible_truncation, reason = "whole, and its range was just checked")]
                Ok(Value::Date(Date(seconds as i64)))
            }
            (4..=7 | 0xa | 0xd, _) => {
                let (count, rest) = count(low, rest).ok_or_else(broken)?;
                let size = match high {
                    4 | 5 | 7 => 1,
                    6 => 2,
                    0xa => self.ref_size,
                    _ => 2 * self.ref_size,
                };
                let contents = count.checked_mul(size).and_then(|length| rest.get(..length)).ok_or_else(broken)?.to_vec();
                self.volume = self.volume.saturating_add(contents.len());
                if self.volume > self.limits.bytes {
                    return Err(self.malformed("too much content", object));
                }
                self.compound(high, &contents, object, depth)
            }
            _ => Err(self.malformed("a kind that is not used in messages", object)),
        }
    }

    fn compound(&mut self, high: u8, contents: &[u8], object: usize, depth: usize) -> Result<Value, Malformed> {
        Ok(match high {
            4 => Value::Data(Data(contents.to_vec())),
            5 | 7 => Value::String(clean(String::from_utf8_lossy(contents).into_owned())),
            6 => {
                let units = contents.chunks_exact(2).map(|pair| match pair {
                    [high, low] => u16::from_be_bytes([*high, *low]),
                    _ => 0,
                });
                Value::String(clean(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()))
            }
            0xa => {
                let mut items = Vec::new();
                for reference in contents.chunks_exact(self.ref_size) {
                    items.push(self.reference(reference, object, depth)?);
                }
                Value::Array(items)
            }
            _ => {
                let (keys, values) = contents.split_at(contents.len() / 2);
                let mut entries = Vec::new();
                for (key, value) in keys.chunks_exact(self.ref_size).zip(values.chunks_exact(self.ref_size)) {
                    let Value::String(key) = self.reference(key, object, depth)? else {
                        return Err(self.malformed("a key that is no string", object));
                    };
                    entries.push((key, self.reference(value, object, depth)?));
                }
                Value::Dict(Dict::of(entries).ok_or_else(|| self.malformed("a key that is there twice", object))?)
            }
        })
    }

    fn reference(&mut self, bytes: &[u8], object: usize, depth: usize) -> Result<Value, Malformed> {
        let to = size_of(bytes).ok_or_else(|| self.malformed("no such object", object))?;
        self.object(to, depth + 1)
    }
}

/// Up to four bytes are without sign, eight are with it, and sixteen hold what only fits without.
fn integer(bytes: &[u8]) -> Option<Value> {
    Some(match *bytes {
        [a, b, c, d, e, f, g, h] => Value::Integer(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        [0, 0, 0, 0, 0, 0, 0, 0, ref low @ ..] => Value::from(number_of(low)?),
        ref few => Value::from(number_of(few)?),
    })
}

/// The length of an object: in the marker, or in an integer that follows it.
fn count(low: u8, rest: &[u8]) -> Option<(usize, &[u8])> {
    if low != 0xf {
        return Some((low.into(), rest));
    }
    let (marker, rest) = rest.split_first()?;
    let size = (marker >> 4 == 1 && marker & 0xf <= 3).then(|| 1_usize << (marker & 0xf))?;
    let (number, rest) = rest.split_at_checked(size)?;
    Some((size_of(number)?, rest))
}
