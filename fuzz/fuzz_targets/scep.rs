//! A SCEP message, as it comes by POST and by GET.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::scep::{Capabilities, Message, decode_get_message, read_issuer_and_serial};

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = Message::parse(data) {
        let _ = message.verify();
    }
    let _ = decode_get_message(data);
    let _ = read_issuer_and_serial(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let capabilities = Capabilities::parse(text);
        assert_eq!(Capabilities::parse(&capabilities.text()).text(), capabilities.text());
    }
});
