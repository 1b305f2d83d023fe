//! A security event token.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::set::{Token, compact};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = Token::decode(text) {
        assert_eq!(Token::decode(&compact(&token.signed, &token.signature)), Ok(token));
    }
});
