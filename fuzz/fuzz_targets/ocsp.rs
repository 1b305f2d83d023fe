//! See `muster_fuzz::ocsp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::ocsp(data));
