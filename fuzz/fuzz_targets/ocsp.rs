//! A request about a certificate's status.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::ocsp::Request;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = Request::parse(data) {
        let ids: Vec<_> = request.certificates.iter().map(|id| id.raw.clone()).collect();
        assert_eq!(Request::parse(&Request::der(&ids, request.nonce.as_deref())), Ok(request));
    }
});
