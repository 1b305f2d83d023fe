//! Windows enrolment on the wire: MS-MDE2 discovery, MS-XCEP policy, MS-WSTEP tokens, SOAP faults. Both directions: the server reads
//! requests and writes answers, a device does the opposite.

pub mod discovery;
pub mod fault;
pub mod soap;
pub mod wstep;
pub mod xcep;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Malformed;

/// SOAP 1.2 envelope.
pub const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
/// WS-Addressing.
pub const ADDRESSING: &str = "http://www.w3.org/2005/08/addressing";
/// WS-Security extensions.
pub const SECURITY: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
/// WS-Security utilities.
pub const UTILITY: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
/// WS-Trust.
pub const TRUST: &str = "http://docs.oasis-open.org/ws-sx/ws-trust/200512";
/// Additional context of a token request.
pub const AUTHORIZATION: &str = "http://schemas.xmlsoap.org/ws/2006/12/authorization";
/// Certificate enrolment policy.
pub const POLICY: &str = "http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy";
/// Certificate enrolment.
pub const ENROLLMENT: &str = "http://schemas.microsoft.com/windows/pki/2009/01/enrollment";
/// Names of token types.
pub const CONFIGURATION: &str = "http://schemas.microsoft.com/5.0.0.0/ConfigurationManager/Enrollment";
/// Discovery; clients also write it with a slash at the end.
pub const DISCOVERY: &str = "http://schemas.microsoft.com/windows/management/2012/01/enrollment";
/// Correlation of an answer with the server's log.
pub const DIAGNOSTICS: &str = "http://schemas.microsoft.com/2004/09/ServiceModel/Diagnostics";

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// Reads base64 as clients write it: standard or URL-safe, padded or not, with white space anywhere.
///
/// # Errors
/// When it is not base64; `at` names the place.
pub fn decode_base64(text: &str, at: &'static str) -> Result<Vec<u8>, Malformed> {
    let plain: Vec<u8> = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .map(|b| match b {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    LENIENT.decode(plain).map_err(|_| Malformed::new("not base64", at))
}

/// Writes standard base64 with padding.
#[must_use]
pub fn encode_base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn base64_is_read_however_it_is_written(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0usize..100) {
            let mut text = encode_base64(&bytes);
            prop_assert_eq!(&decode_base64(&text, "t").unwrap(), &bytes);
            let safe = text.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
            prop_assert_eq!(&decode_base64(&safe, "t").unwrap(), &bytes);
            text.insert_str(at.min(text.len()), "\r\n  ");
            prop_assert_eq!(&decode_base64(&text, "t").unwrap(), &bytes);
        }
    }

    #[test]
    fn rubbish_is_not_base64() {
        assert!(decode_base64("not base64!", "t").is_err());
    }
}
