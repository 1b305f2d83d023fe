//! See `muster_fuzz::plist`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::plist(data));
