//! See `muster_fuzz::syncml`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::syncml(data));
