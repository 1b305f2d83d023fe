//! Apple's push service (APNs) as device management uses it, and the request for a push certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::super::plist::{self, Dict};

/// What push topics of device management begin with.
pub const TOPIC_PREFIX: &str = "com.apple.mgmt.";
/// Longest answer that is read, in bytes; Apple's have fewer than a hundred.
pub const LONGEST_ANSWER: usize = 4096;

/// Whether a text can be a push topic of device management: the prefix, and something after it, in characters of a header.
#[must_use]
pub fn is_topic(text: &str) -> bool {
    text.len() <= 255
        && text
            .strip_prefix(TOPIC_PREFIX)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_'))
}

/// The path to a device's token.
#[must_use]
pub fn path(token: &[u8]) -> String {
    format!("/3/device/{}", hex::encode(token))
}

/// What a wake says: the device's own magic word and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wake {
    /// `PushMagic` of the channel.
    pub mdm: String,
}

/// What the push service says when it says no.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why, in one word; empty when it gave none.
    #[serde(default)]
    pub reason: String,
    /// Since when a token is dead, in milliseconds since 1970 (with status 410).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
}

impl Answer {
    /// Reads the body of an answer; what cannot be read gives no reason. The word is shortened, and bare of what logs should not hold.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let read: Self = serde_json::from_slice(body).unwrap_or_default();
        let reason = read.reason.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        Self { reason, ..read }
    }
}

/// A request for a push certificate as Apple's portal takes it: countersigned by somebody whom Apple lets do so (an MDM vendor).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The request (PKCS#10, DER).
    pub request: Vec<u8>,
    /// The vendor's certificate, the intermediate and the root, PEM.
    pub chain: String,
    /// RSA with SHA-256 over the request, by the vendor's key.
    pub signature: Vec<u8>,
}

impl CertificateRequest {
    /// The file for the portal: the property list in base64.
    #[must_use]
    pub fn encode(&self) -> String {
        let list = Dict::new()
            .with("PushCertRequestCSR", STANDARD.encode(&self.request))
            .with("PushCertCertificateChain", self.chain.clone())
            .with("PushCertSignature", STANDARD.encode(&self.signature));
        STANDARD.encode(plist::encode(&list.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::plist::Limits;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_are_told_from_other_texts() {
        assert!(is_topic("com.apple.mgmt.External.0f1e2d3c-0000-4000-8000-123456789abc"));
        for text in ["", "com.apple.mgmt.", "com.example.mgmt.External.x", "com.apple.mgmt.a b", "com.apple.mgmt.a\r\nx: y"] {
            assert!(!is_topic(text), "{text:?}");
        }
        assert!(!is_topic(&format!("com.apple.mgmt.{}", "a".repeat(255))));
    }

    #[test]
    fn a_wake_has_the_bytes_that_apple_wants() {
        assert_eq!(path(&[0xab, 0x00, 0x1f]), "/3/device/ab001f");
        assert_eq!(serde_json::to_string(&Wake { mdm: "7A2F-\"x".into() }).unwrap(), r#"{"mdm":"7A2F-\"x"}"#);
    }

    #[test]
    fn answers_are_read_with_and_without_a_moment() {
        let answer = Answer::read(br#"{"reason":"Unregistered","timestamp":1454948015990}"#);
        assert_eq!(answer, Answer { reason: "Unregistered".into(), timestamp: Some(1_454_948_015_990) });
        assert_eq!(Answer::read(br#"{"reason":"BadDeviceToken"}"#).reason, "BadDeviceToken");
        assert_eq!(Answer::read(b"<html>"), Answer::default());
        assert_eq!(Answer::read(b"{\"reason\":\"a\\nb\"}").reason, "ab");
    }

    #[test]
    fn the_request_for_the_portal_is_a_property_list_in_base64() {
        let request = CertificateRequest { request: vec![1, 2], chain: "-----BEGIN\n".into(), signature: vec![3] };
        let list = plist::decode_dict(&STANDARD.decode(request.encode()).unwrap(), Limits::MESSAGE).unwrap();
        assert_eq!(list.keys().collect::<Vec<_>>(), ["PushCertRequestCSR", "PushCertCertificateChain", "PushCertSignature"]);
        assert_eq!(list.string("PushCertRequestCSR"), Some("AQI="));
        assert_eq!(list.string("PushCertCertificateChain"), Some("-----BEGIN\n"));
        assert_eq!(list.string("PushCertSignature"), Some("Aw=="));
    }

    proptest! {
        #[test]
        fn answers_of_any_kind_are_read(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Answer::read(&body).reason.len() <= 64);
        }
    }
}
