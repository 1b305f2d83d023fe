//! See `muster_fuzz::scim`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::scim(data));
