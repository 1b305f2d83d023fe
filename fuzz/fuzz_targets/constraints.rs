//! See `muster_fuzz::constraints`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::constraints(data));
