//! What a new passkey says of the authenticator that made it (WebAuthn, section 6.5).

use super::Malformed;
use super::cbor::{self, Value};

/// Where the AAGUID is in the authenticator data: after the hash of the relying party, the flags and the counter.
const AAGUID: std::ops::Range<usize> = 37..53;
/// The flag that says that there is one.
const ATTESTED: u8 = 0x40;

/// The authenticator behind a new passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticator {
    /// Its model. Nothing proves it unless the attestation is verified.
    pub aaguid: [u8; 16],
    /// The certificates of the attestation as they came, from the leaf on, DER.
    pub certificates: Vec<Vec<u8>>,
}

/// Reads an attestation object.
///
/// # Errors
/// [`Malformed`] when it is none, or names no credential.
pub fn authenticator(object: &[u8]) -> Result<Authenticator, Malformed> {
    let wrong = |what| Malformed::new(what, "attestation object");
    let object = cbor::decode(object)?;
    let Some(Value::Bytes(data)) = object.get("authData") else { return Err(wrong("no authenticator data")) };
    if data.get(32).is_none_or(|flags| flags & ATTESTED == 0) {
        return Err(wrong("no credential"));
    }
    let aaguid = data.get(AAGUID).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| wrong("cut off"))?;
    let certificates = match object.get("attStmt").and_then(|statement| statement.get("x5c")) {
        Some(Value::Array(all)) => {
            all.iter().filter_map(|one| if let Value::Bytes(der) = one { Some(der.clone()) } else { None }).collect()
        }
        _ => Vec::new(),
    };
    Ok(Authenticator { aaguid, certificates })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"fmt": "none", "attStmt": {}, "authData": data}`.
    fn object(data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".to_vec();
        bytes.push(u8::try_from(data.len()).unwrap());
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn the_model_is_read_where_it_is() {
        let mut data = vec![0; 37];
        data[32] = 0x45;
        data.extend_from_slice(&[7; 16]);
        data.extend_from_slice(&[0, 0]);
        assert_eq!(authenticator(&object(&data)).unwrap(), Authenticator { aaguid: [7; 16], certificates: Vec::new() });
        assert!(authenticator(&object(&data[..50])).is_err(), "cut off");
        data[32] = 0x05;
        assert!(authenticator(&object(&data)).is_err(), "it names no credential");
        assert!(authenticator(b"").is_err() && authenticator(b"\xa0").is_err());
    }
}
