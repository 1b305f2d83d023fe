//! See `muster_fuzz::scep`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::scep(data));
