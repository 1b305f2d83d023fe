//! See `muster_fuzz::locuri`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::locuri(data));
