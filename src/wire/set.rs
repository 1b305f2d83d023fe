//! Security event tokens (RFC 8417) with CAEP 1.0 and SSF 1.0 events, as compact JWS.
//!
//! What we send and what a receiver accepts is strict: header `typ` is `secevent+jwt`, the algorithm RS256 with a `kid`, exactly one
//! event, and neither `sub` nor `exp`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Malformed;

/// Media type of a pushed token (RFC 8935).
pub const CONTENT_TYPE: &str = "application/secevent+jwt";
/// Type of a flip of a device's compliance.
pub const DEVICE_COMPLIANCE_CHANGE: &str = "https://schemas.openid.net/secevent/caep/event-type/device-compliance-change";
/// Type of the event that only shows that the stream works.
pub const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";
/// The member of [`DEVICE_COMPLIANCE_CHANGE`] that says what is.
pub const CURRENT_STATUS: &str = "current_status";
/// The member of [`DEVICE_COMPLIANCE_CHANGE`] that says what was.
pub const PREVIOUS_STATUS: &str = "previous_status";
/// Longest token that is read.
pub const MAX_TOKEN: usize = 64 * 1024;

/// One event: its type and its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The event type's URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its members.
    pub members: Map<String, Value>,
}

impl Event {
    /// CAEP `device-compliance-change`; `at` in seconds since the epoch.
    #[must_use]
    pub fn device_compliance_change(previous: bool, current: bool, at: i64, initiator: &str, reason: &str) -> Self {
        let status = |compliant: bool| Value::from(if compliant { "compliant" } else { "not-compliant" });
        let mut members = Map::new();
        members.insert(CURRENT_STATUS.into(), status(current));
        members.insert(PREVIOUS_STATUS.into(), status(previous));
        members.insert("event_timestamp".into(), at.into());
        members.insert("initiating_entity".into(), initiator.into());
        members.insert("reason_admin".into(), serde_json::json!({ "en": reason }));
        Self { kind: DEVICE_COMPLIANCE_CHANGE.into(), members }
    }

    /// SSF `verification`, with the state of whoever asked for it.
    #[must_use]
    pub fn verification(state: Option<&str>) -> Self {
        let members = state.map(|s| ("state".to_owned(), Value::from(s))).into_iter().collect();
        Self { kind: VERIFICATION.into(), members }
    }
}

/// A simple subject identifier (RFC 9493).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format")]
pub enum Simple {
    /// `email`.
    #[serde(rename = "email")]
    Email {
        /// The address.
        email: String,
    },
    /// `iss_sub`.
    #[serde(rename = "iss_sub")]
    IssSub {
        /// Who names the subject.
        iss: String,
        /// The name there.
        sub: String,
    },
    /// `opaque`.
    #[serde(rename = "opaque")]
    Opaque {
        /// The identifier.
        id: String,
    },
}

/// What a token is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Subject {
    /// SSF `complex`: several identifiers of one principal.
    Complex(Complex),
    /// One identifier.
    Simple(Simple),
}

/// An SSF complex subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Complex {
    format: ComplexFormat,
    /// The device.
    pub device: Simple,
    /// Its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Simple>,
    /// The organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Simple>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum ComplexFormat {
    #[serde(rename = "complex")]
    Complex,
}

impl Complex {
    /// A device of an organisation and perhaps its user.
    #[must_use]
    pub fn new(device: Simple, user: Option<Simple>, tenant: Simple) -> Self {
        Self { format: ComplexFormat::Complex, device, user, tenant: Some(tenant) }
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    typ: String,
    alg: String,
    kid: String,
}

/// The claims of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who says it.
    pub iss: String,
    /// For whom.
    pub aud: String,
    /// When it was signed, in seconds.
    pub iat: i64,
    /// Identifies the token.
    pub jti: String,
    /// Same for everything that one change causes.
    pub txn: Option<String>,
    /// What it is about.
    pub sub_id: Subject,
    /// What happened.
    pub event: Event,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    iss: String,
    aud: String,
    iat: i64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    txn: Option<String>,
    sub_id: Subject,
    events: BTreeMap<String, Map<String, Value>>,
}

/// A token that was read; nothing is believed before its signature is checked over `signed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Which key signed it.
    pub kid: String,
    /// What it says.
    pub claims: Claims,
    /// The bytes that the signature covers.
    pub signed: String,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Header and claims in the form that is signed with RS256.
#[must_use]
pub fn signing_input(kid: &str, claims: &Claims) -> String {
    let header = Header { typ: "secevent+jwt".into(), alg: "RS256".into(), kid: kid.to_owned() };
    let raw = Raw {
        iss: claims.iss.clone(),
        aud: claims.aud.clone(),
        iat: claims.iat,
        jti: claims.jti.clone(),
        txn: claims.txn.clone(),
        sub_id: claims.sub_id.clone(),
        events: BTreeMap::from([(claims.event.kind.clone(), claims.event.members.clone())]),
    };
    // Neither struct holds what JSON cannot express, so the empty default is never used.
    let part = |text: serde_json::Result<String>| URL_SAFE_NO_PAD.encode(text.unwrap_or_default());
    format!("{}.{}", part(serde_json::to_string(&header)), part(serde_json::to_string(&raw)))
}

/// Joins what was signed and its signature.
#[must_use]
pub fn compact(signing_input: &str, signature: &[u8]) -> String {
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

impl Token {
    /// Reads a compact token; the signature is not checked here.
    ///
    /// # Errors
    /// When it is too long, not three parts, or breaks one of the rules above.
    pub fn decode(text: &str) -> Result<Self, Malformed> {
        if text.len() > MAX_TOKEN {
            return Err(Malformed::new("too long", "token"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or_else(|| Malformed::new("not three parts", "token"))?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| Malformed::new("not three parts", "token"))?;
        let header: Header = part(header, "header")?;
        if !header.typ.eq_ignore_ascii_case("secevent+jwt") {
            return Err(Malformed::new("typ is not secevent+jwt", "header"));
        }
        if header.alg != "RS256" {
            return Err(Malformed::new("alg is not RS256", "header"));
        }
        let raw: Raw = part(claims, "claims")?;
        let mut events = raw.events.into_iter();
        let (Some((kind, members)), None) = (events.next(), events.next()) else {
            return Err(Malformed::new("not exactly one event", "claims"));
        };
        let claims = Claims {
            iss: raw.iss,
            aud: raw.aud,
            iat: raw.iat,
            jti: raw.jti,
            txn: raw.txn,
            sub_id: raw.sub_id,
            event: Event { kind, members },
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Malformed::new("not base64url", "signature"))?;
        Ok(Self { kid: header.kid, claims, signed: signed.to_owned(), signature })
    }
}

fn part<T: serde::de::DeserializeOwned>(text: &str, at: &'static str) -> Result<T, Malformed> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Malformed::new("not base64url", at))?;
    serde_json::from_slice(&bytes).map_err(|e| Malformed::new(e.to_string(), at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claims(sub: &str, user: Option<String>, reason: &str) -> Claims {
        Claims {
            iss: "https://mdm.example".into(),
            aud: "https://receiver.example".into(),
            iat: 1_760_000_000,
            jti: "j".into(),
            txn: Some("t".into()),
            sub_id: Subject::Complex(Complex::new(
                Simple::IssSub { iss: "https://mdm.example".into(), sub: sub.into() },
                user.map(|email| Simple::Email { email }),
                Simple::Opaque { id: "tenant".into() },
            )),
            event: Event::device_compliance_change(true, false, 1_760_000_000, "policy", reason),
        }
    }

    #[test]
    fn a_token_has_the_shape_that_receivers_demand() {
        let text = signing_input("k1", &claims("d", Some("ana@example.org".into()), "no TPM"));
        let (header, body) = text.split_once('.').unwrap();
        let header: Value = part(header, "h").unwrap();
        assert_eq!(header, serde_json::json!({ "typ": "secevent+jwt", "alg": "RS256", "kid": "k1" }));
        let body: Value = part(body, "b").unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "iss": "https://mdm.example", "aud": "https://receiver.example", "iat": 1_760_000_000, "jti": "j", "txn": "t",
                "sub_id": {
                    "format": "complex",
                    "device": { "format": "iss_sub", "iss": "https://mdm.example", "sub": "d" },
                    "user": { "format": "email", "email": "ana@example.org" },
                    "tenant": { "format": "opaque", "id": "tenant" }
                },
                "events": { DEVICE_COMPLIANCE_CHANGE: {
                    "current_status": "not-compliant", "previous_status": "compliant", "event_timestamp": 1_760_000_000,
                    "initiating_entity": "policy", "reason_admin": { "en": "no TPM" }
                } }
            })
        );
    }

    #[test]
    fn what_receivers_must_refuse_is_refused() {
        let make = |header: &str, body: &str| format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(body));
        let good = r#"{"typ":"secevent+jwt","alg":"RS256","kid":"k"}"#;
        let body = |more: &str, events: &str| {
            format!(r#"{{"iss":"i","aud":"a","iat":1,"jti":"j","sub_id":{{"format":"opaque","id":"x"}}{more},"events":{{{events}}}}}"#)
        };
        assert!(Token::decode(&make(good, &body("", r#""e":{}"#))).is_ok());
        for (header, claims) in [
            (r#"{"typ":"JWT","alg":"RS256","kid":"k"}"#, body("", r#""e":{}"#)),
            (r#"{"typ":"secevent+jwt","alg":"none","kid":"k"}"#, body("", r#""e":{}"#)),
            (r#"{"typ":"secevent+jwt","alg":"RS256"}"#, body("", r#""e":{}"#)),
            (good, body("", "")),
            (good, body("", r#""e":{},"f":{}"#)),
            (good, body(r#","sub":"s""#, r#""e":{}"#)),
            (good, body(r#","exp":9"#, r#""e":{}"#)),
        ] {
            assert!(Token::decode(&make(header, &claims)).is_err(), "{header} {claims}");
        }
        assert!(Token::decode(&"a".repeat(MAX_TOKEN + 1)).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in ".{0,200}") {
            let _ = Token::decode(&text);
        }

        #[test]
        fn what_is_written_reads_back(sub in ".{0,40}", user in proptest::option::of(".{1,40}"), reason in ".{0,60}", sig in proptest::collection::vec(any::<u8>(), 0..64)) {
            let claims = claims(&sub, user, &reason);
            let token = Token::decode(&compact(&signing_input("kid", &claims), &sig)).unwrap();
            prop_assert_eq!(&token.claims, &claims);
            prop_assert_eq!(token.signature, sig);
            prop_assert_eq!(token.signed, signing_input("kid", &claims));
        }
    }
}
