//! RSA keys as JSON Web Keys (RFC 7517; RFC 7518, section 6.3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The public half of an RSA key (`n`, `e` big-endian) as a JWK for RS256, and its `kid`: the RFC 7638 thumbprint.
#[must_use]
pub fn rsa_jwk(n: &[u8], e: &[u8]) -> (String, Value) {
    let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
    // RFC 7638: required members only, in alphabetical order, without blanks.
    let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
    let kid = URL_SAFE_NO_PAD.encode(openssl::sha::sha256(canonical.as_bytes()));
    let jwk = serde_json::json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e });
    (kid, jwk)
}

/// Modulus and exponent of a JWK; `None` when it is no RSA key.
#[must_use]
pub fn rsa_parts(jwk: &Value) -> Option<(Vec<u8>, Vec<u8>)> {
    if jwk.get("kty").and_then(Value::as_str) != Some("RSA") {
        return None;
    }
    let part = |name| URL_SAFE_NO_PAD.decode(jwk.get(name).and_then(Value::as_str)?).ok();
    Some((part("n")?, part("e")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_thumbprint_and_reads_back() {
        // RFC 7638, section 3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
                 tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbIS\
                 D08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let n = URL_SAFE_NO_PAD.decode(n).unwrap();
        let (kid, jwk) = rsa_jwk(&n, &[1, 0, 1]);
        assert_eq!(kid, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!(rsa_parts(&jwk), Some((n, vec![1, 0, 1])));
        assert_eq!(rsa_parts(&serde_json::json!({ "kty": "EC", "n": "", "e": "" })), None);
    }
}
