//! A certificate request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::pkcs10::Request;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = Request::parse(data) {
        let _ = request.verify();
    }
});
