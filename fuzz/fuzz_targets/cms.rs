//! Signed and enveloped data, in BER and DER.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::cms::ber::to_der;
use muster::wire::cms::{EnvelopedData, SignedData};

fuzz_target!(|data: &[u8]| {
    let Ok(der) = to_der(data) else { return };
    // What is definite stays as it is.
    assert_eq!(to_der(&der).as_deref(), Ok(der.as_ref()));
    if let Ok(signed) = SignedData::parse(&der) {
        for signer in &signed.signers {
            let _ = signed.verify(signer);
        }
    }
    let _ = EnvelopedData::parse(&der);
});
