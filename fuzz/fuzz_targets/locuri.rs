//! An address that was read is written in a form that names the same node.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::locuri::{LocUri, child_names, encode_name};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for name in child_names(text) {
        assert_eq!(child_names(&encode_name(&name)), [name]);
    }
    if let Ok(uri) = LocUri::parse(text) {
        let again = LocUri::parse(&uri.to_string());
        assert_eq!(again.as_ref(), Ok(&uri));
        assert_eq!(again.map(|again| again.scope()), Ok(uri.scope()));
    }
});
