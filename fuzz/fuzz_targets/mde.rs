//! See `muster_fuzz::mde`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::mde(data));
