//! See `muster_fuzz::provisioning`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::provisioning(data));
