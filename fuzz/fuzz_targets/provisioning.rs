//! A provisioning document that was read is written as one that says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::provisioning::Document;

fuzz_target!(|data: &[u8]| {
    if let Ok(document) = Document::decode(data) {
        let _ = Document::decode(&document.encode());
    }
});
