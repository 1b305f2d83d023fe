//! A tree of elements is read within its limits, and its texts survive being escaped.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::xml::{Element, Limits, Reader, Token, escaped, escaped_len};

fuzz_target!(|data: &[u8]| {
    if let Ok(root) = Element::parse(data, Limits::SOAP) {
        let text = root.text();
        assert_eq!(escaped(&text).len(), escaped_len(&text));
    }
    let Ok(mut reader) = Reader::new(data, Limits::SOAP) else { return };
    while let Ok(token) = reader.next() {
        if matches!(token, Token::End) {
            break;
        }
    }
});
