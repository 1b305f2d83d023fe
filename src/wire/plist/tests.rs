use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
    \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\"><plist version=\"1.0\">";

fn xml(inner: &str) -> Result<Value, Malformed> {
    decode(format!("{HEAD}{inner}</plist>").as_bytes(), Limits::MESSAGE)
}

fn what(inner: &str) -> String {
    xml(inner).unwrap_err().what.into_owned()
}

#[test]
fn every_kind_is_read() {
    let text = "<dict>
        <key>s</key><string> a &amp; <![CDATA[<b>]]> </string>
        <key>i</key><integer>-7</integer> <key>h</key><integer>0x1F</integer> <key>u</key><integer>18446744073709551615</integer>
        <key>r</key><real>1.5</real> <key>t</key><true/> <key>f</key><false></false>
        <key>d</key><data>
            AQID
            BA==
        </data>
        <key>m</key><date>2026-01-02T03:04:05Z</date>
        <key>a</key><array><string/><array/><dict/></array><!-- nothing -->
    </dict>";
    let dict = xml(text).unwrap().into_dict("").unwrap();
    assert_eq!(dict.string("s"), Some(" a & <b> "));
    assert_eq!((dict.integer("i"), dict.integer("h")), (Some(-7), Some(31)));
    assert_eq!(dict.get("u"), Some(&Value::Unsigned(u64::MAX)));
    assert_eq!(dict.get("r"), Some(&Value::Real(1.5)));
    assert_eq!((dict.boolean("t"), dict.boolean("f")), (Some(true), Some(false)));
    assert_eq!(dict.data("d"), Some(&[1, 2, 3, 4][..]));
    assert_eq!(dict.get("m"), Some(&Value::Date(Date(1_767_323_045))));
    assert_eq!(dict.array("a").unwrap(), [Value::from(""), Value::Array(vec![]), Value::Dict(Dict::new())]);
    assert_eq!(dict.keys().collect::<String>(), "sihurtfdma");
}

#[test]
fn what_is_written_is_what_apple_writes() {
    let inner = Dict::new().with("Number", 1).with("Yes", true).with("Bytes", Data(vec![0, 255])).with("Empty", Dict::new());
    let text = String::from_utf8(encode(&Value::Dict(Dict::new().with("A & B", vec![Value::Dict(inner), Value::Real(2.0)])))).unwrap();
    assert_eq!(
        text,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n\t<key>A &amp; B</key>\n\t<array>\n\t\t<dict>\n\t\t\t<key>Number</key>\n\
         \t\t\t<integer>1</integer>\n\t\t\t<key>Yes</key>\n\t\t\t<true/>\n\t\t\t<key>Bytes</key>\n\t\t\t<data>AP8=</data>\n\
         \t\t\t<key>Empty</key>\n\t\t\t<dict/>\n\t\t</dict>\n\t\t<real>2.0</real>\n\t</array>\n</dict>\n</plist>\n"
    );
}

#[test]
fn padding_of_data_is_no_matter() {
    for text in ["AQID", "AQID=", "AQIDBA", "AQIDBA=", "AQIDBA==", "AQIDBB=="] {
        assert_eq!(xml(&format!("<data>{text}</data>")).unwrap().as_data().unwrap()[..3], [1, 2, 3], "{text}");
    }
    assert!(xml("<data>A</data>").is_err() && xml("<data>A=A</data>").is_err());
    assert_eq!(xml("<data/>").unwrap().as_data(), Some(&[][..]));
}

#[test]
fn texts_that_are_no_xml_do_not_spoil_the_message() {
    let mut bytes = format!("{HEAD}<string>a\u{1}b").into_bytes();
    bytes.extend_from_slice(b"\xffc</string></plist>");
    assert_eq!(decode(&bytes, Limits::MESSAGE).unwrap().as_str(), Some("a\u{fffd}b\u{fffd}c"));
}

#[test]
fn broken_lists_are_refused() {
    for inner in [
        "",
        "text",
        "<string>",
        "<string/><string/>",
        "<dict><string/></dict>",
        "<dict><key>a</key></dict>",
        "<dict><key>a</key><key>b</key></dict>",
        "<dict><key>a</key><true/><key>a</key><true/></dict>",
        "<dict>x</dict>",
        "<array><key>a</key></array>",
        "<integer>1.5</integer>",
        "<integer></integer>",
        "<integer>-</integer>",
        "<integer>++1</integer>",
        "<integer>18446744073709551616</integer>",
        "<integer>-9223372036854775809</integer>",
        "<real>x</real>",
        "<true>x</true>",
        "<data>!</data>",
        "<date>2026-13-01T00:00:00Z</date>",
        "<date>yesterday</date>",
        "<string><true/></string>",
        "<foo/>",
        "<string xmlns='urn:x'/>",
    ] {
        assert!(xml(inner).is_err(), "{inner}");
    }
    for document in ["", "bplist00", "<dict/>", "<plist/>", "<plist></plist>x", "<html/>", "{}"] {
        assert!(decode(document.as_bytes(), Limits::MESSAGE).is_err(), "{document}");
    }
}

#[test]
fn entities_are_never_expanded() {
    for declaration in ["<!ENTITY a 'aaaa'>", "<!ENTITY a SYSTEM 'file:///etc/passwd'>", "<!ENTITY % p SYSTEM 'http://h/'> %p;"] {
        let text = format!("<!DOCTYPE plist [{declaration}]><plist><string>&a;</string></plist>");
        assert!(decode(text.as_bytes(), Limits::MESSAGE).unwrap_err().what.contains("document type"));
    }
    assert!(what("<string>&a;</string>").contains("entity"));
}

#[test]
fn limits_hold_in_xml() {
    let deep = |n: usize| format!("{}{}", "<array>".repeat(n), "</array>".repeat(n));
    assert!(xml(&deep(Limits::MESSAGE.depth + 1)).is_ok());
    assert!(what(&deep(Limits::MESSAGE.depth + 2)).contains("deep"));
    assert!(what(&deep(10_000)).contains("deep"));
    assert!(what(&format!("<array>{}</array>", "<true/>".repeat(Limits::MESSAGE.nodes))).contains("too many"));
    assert!(what(&format!("<array>{}</array>", "<!-- -->".repeat(140_000))).contains("long"));
    assert!(what(&format!("<string>{}</string>", "x".repeat(Limits::MESSAGE.bytes))).contains("long"));
}

/// A binary list of objects as they are, each object's bytes given, with references of one byte.
fn binary(objects: &[&[u8]], top: u8) -> Vec<u8> {
    let mut out = b"bplist00".to_vec();
    let mut offsets = Vec::new();
    for object in objects {
        offsets.extend_from_slice(&u16::try_from(out.len()).unwrap().to_be_bytes());
        out.extend_from_slice(object);
    }
    let table = out.len() as u64;
    out.extend_from_slice(&offsets);
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 2, 1]);
    out.extend_from_slice(&(objects.len() as u64).to_be_bytes());
    out.extend_from_slice(&u64::from(top).to_be_bytes());
    out.extend_from_slice(&table.to_be_bytes());
    out
}

fn read(objects: &[&[u8]], top: u8) -> Result<Value, Malformed> {
    decode(&binary(objects, top), Limits::MESSAGE)
}

#[test]
fn a_list_that_apples_own_tool_wrote_is_read() {
    // From macOS: {"CommandUUID": "x", "Status": "Idle", "N": [1, true, <0102>, 2026-01-02T03:04:05Z, -1, 1.5, "ü"]}
    let bytes = binary(
        &[
            &[0xd3, 1, 2, 3, 4, 5, 6],
            b"\x5bCommandUUID",
            b"\x56Status",
            b"\x51N",
            b"\x51x",
            b"\x54Idle",
            &[0xa7, 7, 8, 9, 10, 11, 12, 13],
            &[0x10, 1],
            &[0x09],
            &[0x42, 1, 2],
            &[0x33, 0x41, 0xc7, 0x83, 0xce, 0x92, 0x80, 0, 0],
            &[0x13, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x23, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0],
            &[0x61, 0, 0xfc],
        ],
        0,
    );
    let dict = decode_dict(&bytes, Limits::MESSAGE).unwrap();
    assert_eq!((dict.string("CommandUUID"), dict.string("Status")), (Some("x"), Some("Idle")));
    let list = dict.array("N").unwrap();
    assert_eq!(list[0], Value::Integer(1));
    assert_eq!((&list[1], &list[2], &list[4]), (&Value::Boolean(true), &Value::Data(Data(vec![1, 2])), &Value::Integer(-1)));
    assert!(matches!(list[3], Value::Date(_)));
    assert_eq!((&list[5], &list[6]), (&Value::Real(1.5), &Value::from("ü")));
}

#[test]
fn long_objects_carry_their_length() {
    let text = [&b"\x5f\x10\x14"[..], &[b'a'; 20]].concat();
    assert_eq!(read(&[&text], 0).unwrap(), Value::from("a".repeat(20)));
    let unsigned = [&[0x14, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0xff; 8]].concat();
    assert_eq!(read(&[&unsigned], 0).unwrap(), Value::Unsigned(u64::MAX));
    assert!(read(&[&[0x14; 17]], 0).is_err());
}

#[test]
fn hostile_binary_lists_are_refused() {
    // Itself inside itself; two that hold each other.
    assert!(read(&[&[0xa1, 0]], 0).unwrap_err().what.contains("deep"));
    assert!(read(&[&[0xa1, 1], &[0xd1, 2, 0], b"\x51k"], 0).unwrap_err().what.contains("deep"));
    // Each level names the next one many times.
    let mut levels: Vec<Vec<u8>> = (1..=8_u8).map(|next| [&[0xaf, 0x10, 100][..], &[next; 100]].concat()).collect();
    levels.push(vec![0x09]);
    let levels: Vec<&[u8]> = levels.iter().map(Vec::as_slice).collect();
    assert!(read(&levels, 0).unwrap_err().what.contains("too many"));
    // One large object that is named often.
    let large = [&[0x4f, 0x12, 0, 0, 0xf0, 0][..], &[7; 0xf000]].concat();
    assert!(read(&[&[0xae, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], &large], 0).is_ok());
    let often = [&[0xaf, 0x10, 60][..], &[1; 60]].concat();
    assert!(read(&[&often, &large], 0).unwrap_err().what.contains("too much"));
    for (object, about) in [
        (&[0x4f, 0x13, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], "a length beyond the end"),
        (&[0x6f, 0x13, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "a length that overflows"),
        (&[0x5f, 0x50], "a length that is no integer"),
        (&[0x52, b'a'], "a text that ends early"),
        (&[0xa1, 9], "no such object"),
        (&[0xd1, 0, 0], "a key that is no text"),
        (&[0x00], "nothing"),
        (&[0x80, 1], "a keyed archive's reference"),
        (&[0x33, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], "a date that is no number"),
        (&[0x33, 0x7e, 0xf8, 0, 0, 0, 0, 0, 0], "a date out of range"),
        (&[], "no marker"),
    ] {
        assert!(read(&[object], 0).is_err(), "{about}");
    }
    let unprintable = read(&[&[0xd2, 1, 2, 3, 3], b"\x51\x01", b"\x51\x02", &[0x09]], 0);
    assert!(unprintable.is_err(), "keys that could not be told apart in XML");
    assert!(read(&[&[0x09]], 1).is_err(), "the top is not there");
    assert!(read(&[&[0xd2, 1, 1, 2, 2], b"\x51k", &[0x09]], 0).is_err(), "a key twice");
    let good = binary(&[&[0x09]], 0);
    for length in 0..good.len() {
        assert!(decode(&good[..length], Limits::MESSAGE).is_err(), "cut at {length}");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Example {
    name: String,
    count: u32,
    #[serde(default)]
    flag: bool,
    ratio: f64,
    bytes: Data,
    at: Option<Date>,
    missing: Option<String>,
    word: Word,
    list: Vec<Example2>,
    any: Dict,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Example2 {
    #[serde(rename = "Key Usage")]
    usage: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Word {
    #[serde(rename = "Redirect")]
    Redirect,
}

fn example() -> Example {
    Example {
        name: "n".into(),
        count: 3,
        flag: true,
        ratio: 0.5,
        bytes: Data(vec![1]),
        at: Some(Date(0)),
        missing: None,
        word: Word::Redirect,
        list: vec![Example2 { usage: 5 }],
        any: Dict::new().with("d", Date(1)).with("b", Data(vec![2])).with("z", 1.5),
    }
}

#[test]
fn types_go_in_and_out() {
    let value = to_value(&example()).unwrap();
    let dict = value.as_dict().unwrap();
    assert!(dict.get("Missing").is_none());
    assert_eq!(dict.get("At"), Some(&Value::Date(Date(0))));
    assert_eq!(from_value::<Example>(&value).unwrap(), example());
    assert_eq!(decode_as::<Example>(&encode(&value), Limits::MESSAGE).unwrap(), example());
    assert_eq!(from_dict::<Example>(dict).unwrap(), example());
}

#[test]
fn devices_write_numbers_and_truth_in_several_ways() {
    let mut dict = to_value(&example()).unwrap().into_dict("").unwrap();
    dict.insert("Count", 3.0);
    dict.insert("Ratio", 1);
    dict.insert("Flag", 1);
    dict.insert("Unheard", "of");
    let read: Example = from_dict(&dict).unwrap();
    assert_eq!((read.count, read.flag), (3, true));
    assert!((read.ratio - 1.0).abs() < f64::EPSILON);
    dict.insert("Count", 3.5);
    assert!(from_dict::<Example>(&dict).is_err());
}

#[test]
fn what_does_not_fit_a_type_is_named_with_its_path() {
    let mut dict = to_value(&example()).unwrap().into_dict("").unwrap();
    dict.insert("List", vec![Value::Dict(Dict::new().with("Key Usage", "five"))]);
    let error = from_value::<Example>(&Value::Dict(dict.clone())).unwrap_err();
    assert_eq!(error.at, "List/0/Key Usage");
    dict.insert("List", Value::Array(vec![]));
    dict.insert("At", "today");
    assert_eq!(from_dict::<Example>(&dict).unwrap_err().at, "At");
    dict.remove("At");
    dict.insert("Word", "Credential");
    assert!(from_dict::<Example>(&dict).is_err());
    assert!(to_value(&BTreeMap::from([(1, 2)])).is_err());
    assert!(to_value(&vec![None::<i64>]).is_err());
}

#[test]
fn json_comes_in_without_its_nulls() {
    let json = serde_json::json!({"a": [1, null, u64::MAX, 1.5], "b": null, "c": "x"});
    let list = vec![Value::Integer(1), Value::Unsigned(u64::MAX), Value::Real(1.5)];
    assert_eq!(Value::from_json(&json), Some(Value::Dict(Dict::new().with("a", list).with("c", "x"))));
}

#[test]
fn json_goes_out_with_bytes_and_dates_as_text() {
    let value = Value::Dict(Dict::new().with("b", Data(vec![1])).with("d", Date(0)).with("l", vec![Value::from(true)]));
    assert_eq!(value.to_json(), serde_json::json!({"b": "AQ==", "d": "1970-01-01T00:00:00Z", "l": [true]}));
}

fn text() -> impl Strategy<Value = String> {
    "[\t\n\r -\u{d7ff}\u{e000}-\u{fffd}]{0,12}"
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        text().prop_map(Value::String),
        any::<i64>().prop_map(Value::Integer),
        any::<u64>().prop_map(Value::from),
        (-1e300..1e300).prop_map(Value::Real),
        any::<bool>().prop_map(Value::Boolean),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|b| Value::Data(Data(b))),
        (-62_167_219_200_i64..253_402_300_800).prop_map(|s| Value::Date(Date(s))),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::vec((text(), inner), 0..6).prop_map(|e| Value::Dict(e.into_iter().collect())),
        ]
    })
}

/// A plain writer of the binary form, for the tests: every object once per use, wide references.
fn write_binary(value: &Value) -> Vec<u8> {
    fn head(high: u8, count: usize) -> Vec<u8> {
        match u8::try_from(count) {
            Ok(count @ 0..15) => vec![high << 4 | count],
            _ => [&[high << 4 | 0xf, 0x12][..], &u32::try_from(count).unwrap().to_be_bytes()].concat(),
        }
    }
    fn put(value: &Value, objects: &mut Vec<Vec<u8>>) -> u32 {
        let place = objects.len();
        objects.push(Vec::new());
        let refs = |all: Vec<u32>| all.into_iter().flat_map(u32::to_be_bytes).collect::<Vec<u8>>();
        objects[place] = match value {
            Value::String(text) => {
                let units: Vec<u16> = text.encode_utf16().collect();
                [head(6, units.len()), units.iter().flat_map(|u| u.to_be_bytes()).collect()].concat()
            }
            Value::Integer(n) => [&[0x13][..], &n.to_be_bytes()].concat(),
            Value::Unsigned(n) => [&[0x14, 0, 0, 0, 0, 0, 0, 0, 0][..], &n.to_be_bytes()].concat(),
            Value::Real(n) => [&[0x23][..], &n.to_be_bytes()].concat(),
            Value::Boolean(truth) => vec![8 + u8::from(*truth)],
            Value::Data(bytes) => [head(4, bytes.len()), bytes.0.clone()].concat(),
            #[allow(clippy::cast_precision_loss)]
            Value::Date(Date(s)) => [&[0x33][..], &((s - 978_307_200) as f64).to_be_bytes()].concat(),
            Value::Array(items) => {
                let all = items.iter().map(|item| put(item, objects)).collect();
                [head(0xa, items.len()), refs(all)].concat()
            }
            Value::Dict(dict) => {
                let keys = dict.keys().map(|key| put(&Value::from(key), objects)).collect();
                let values = dict.iter().map(|(_, value)| put(value, objects)).collect();
                [head(0xd, dict.len()), refs(keys), refs(values)].concat()
            }
        };
        u32::try_from(place).unwrap()
    }
    let mut objects = Vec::new();
    let top = put(value, &mut objects);
    let mut out = b"bplist00".to_vec();
    let mut offsets = Vec::new();
    for object in &objects {
        offsets.extend_from_slice(&u32::try_from(out.len()).unwrap().to_be_bytes());
        out.extend_from_slice(object);
    }
    let table = out.len() as u64;
    out.extend_from_slice(&offsets);
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 4, 4]);
    for number in [objects.len() as u64, u64::from(top), table] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out
}

proptest! {
    #[test]
    fn every_tree_survives_xml(value in value()) {
        prop_assert_eq!(decode(&encode(&value), Limits::MESSAGE).unwrap(), value);
    }

    #[test]
    fn every_tree_survives_the_binary_form(value in value()) {
        prop_assert_eq!(decode(&write_binary(&value), Limits::MESSAGE).unwrap(), value);
    }

    #[test]
    fn every_tree_survives_serde(value in value()) {
        prop_assert_eq!(&to_value(&value).unwrap(), &value);
        prop_assert_eq!(&from_value::<Value>(&value).unwrap(), &value);
    }

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), binary: bool) {
        let bytes = if binary { [&b"bplist00"[..], &bytes].concat() } else { bytes };
        let _ = decode(&bytes, Limits::MESSAGE);
    }

    #[test]
    fn damaged_lists_never_panic(value in value(), damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        for mut bytes in [write_binary(&value), encode(&value)] {
            for (at, with) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *with;
            }
            let _ = decode(&bytes, Limits::MESSAGE);
        }
    }
}
