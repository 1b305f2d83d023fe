//! What an attestation proves, and when it proves nothing.

use crate::clock::{DAY, Time};
use crate::wire::apple::attestation::Properties;

words! {
    /// Why there is no evidence.
    Fault {
        /// The device did not answer with one.
        Missing = "missing",
        /// The chain cannot be read.
        Malformed = "malformed",
        /// It does not lead to Apple's root, or one of its certificates is not good now.
        Chain = "chain",
        /// It is not for a code that this server gave to this enrolment, or for one that is too old.
        Freshness = "freshness",
        /// It is another device's.
        Device = "device",
        /// It is for another key.
        Key = "key",
    }
}

/// A freshness code that was given to an enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// The code.
    pub nonce: Vec<u8>,
    /// When it was given.
    pub issued_at: Time,
}

/// The device that is to be proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Its serial number.
    pub serial: Option<&'a str>,
    /// The UDID that attestations have: of a Mac the provisioning UDID; `None` while it is not known.
    pub udid: Option<&'a str>,
}

/// Judges an attestation that came with `DeviceInformation`: devices make a new one at most every seven days and send the last one until
/// then, so that an older code counts, too, when this enrolment was given it not longer than `days` ago.
///
/// # Errors
/// The first thing that is wrong.
pub fn judge(properties: &Properties, expected: &Expected<'_>, nonces: &[Nonce], days: u32, now: Time) -> Result<(), Fault> {
    is_of(properties, expected)?;
    let oldest = now.plus(-i64::from(days) * DAY);
    let fresh = nonces.iter().any(|given| given.issued_at >= oldest && properties.is_fresh_for(&given.nonce));
    if fresh { Ok(()) } else { Err(Fault::Freshness) }
}

/// Judges an attestation that came with the challenge `device-attest-01`: the code is the SHA-256 of the challenge's token, and the attested
/// key is that of the request (both SubjectPublicKeyInfo, DER).
///
/// # Errors
/// The first thing that is wrong.
pub fn judge_key(properties: &Properties, expected: &Expected<'_>, token: &str, attested: &[u8], requested: &[u8]) -> Result<(), Fault> {
    is_of(properties, expected)?;
    if !properties.is_fresh_for(&openssl::sha::sha256(token.as_bytes())) {
        return Err(Fault::Freshness);
    }
    if attested == requested { Ok(()) } else { Err(Fault::Key) }
}

/// An attestation without a serial number proves some device of Apple's, not this one.
fn is_of(properties: &Properties, expected: &Expected<'_>) -> Result<(), Fault> {
    let same = |attested: Option<&str>, known: Option<&str>| match (attested, known) {
        (Some(attested), Some(known)) => attested.eq_ignore_ascii_case(known),
        (_, None) => true,
        (None, Some(_)) => false,
    };
    let serial = expected.serial.is_some() && same(properties.serial.as_deref(), expected.serial);
    if serial && same(properties.udid.as_deref(), expected.udid) { Ok(()) } else { Err(Fault::Device) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attested() -> Properties {
        Properties {
            serial: Some("C02".into()),
            udid: Some("00008112-A".into()),
            freshness: Some(b"nonce".to_vec()),
            ..Properties::default()
        }
    }

    const EXPECTED: Expected<'static> = Expected { serial: Some("C02"), udid: Some("00008112-a") };

    #[test]
    fn only_this_device_with_a_code_of_ours_that_is_not_too_old_is_proven() {
        let given = |nonce: &[u8], days: i64| Nonce { nonce: nonce.to_vec(), issued_at: Time(100 * DAY - days * DAY) };
        let judged =
            |properties: &Properties, expected: &Expected<'_>, nonces: &[Nonce]| judge(properties, expected, nonces, 30, Time(100 * DAY));
        assert_eq!(judged(&attested(), &EXPECTED, &[given(b"other", 0), given(b"nonce", 29)]), Ok(()));
        assert_eq!(judged(&attested(), &EXPECTED, &[given(b"nonce", 31)]), Err(Fault::Freshness));
        assert_eq!(judged(&attested(), &EXPECTED, &[given(b"other", 0)]), Err(Fault::Freshness));
        assert_eq!(judged(&attested(), &EXPECTED, &[]), Err(Fault::Freshness));
        let wrapped = Properties { freshness: Some([&[4, 5][..], b"nonce"].concat()), ..attested() };
        assert_eq!(judged(&wrapped, &EXPECTED, &[given(b"nonce", 0)]), Ok(()));
        let nonces = [given(b"nonce", 0)];
        for other in [
            Properties { serial: Some("C03".into()), ..attested() },
            Properties { serial: None, ..attested() },
            Properties { udid: Some("00008112-B".into()), ..attested() },
            Properties { udid: None, ..attested() },
        ] {
            assert_eq!(judged(&other, &EXPECTED, &nonces), Err(Fault::Device), "{other:?}");
        }
        // The UDID of device management is not that of a Mac's attestation: until the right one is known it is left out.
        assert_eq!(judged(&attested(), &Expected { udid: None, ..EXPECTED }, &nonces), Ok(()));
        assert_eq!(judged(&attested(), &Expected::default(), &nonces), Err(Fault::Device), "without a serial number nothing is proven");
    }

    #[test]
    fn a_key_is_proven_for_its_own_token_and_request_only() {
        let token = "token";
        let good = Properties { freshness: Some(openssl::sha::sha256(token.as_bytes()).to_vec()), ..attested() };
        assert_eq!(judge_key(&good, &EXPECTED, token, b"key", b"key"), Ok(()));
        assert_eq!(judge_key(&good, &EXPECTED, "other", b"key", b"key"), Err(Fault::Freshness));
        assert_eq!(judge_key(&good, &EXPECTED, token, b"key", b"another"), Err(Fault::Key));
        let other = Properties { serial: Some("C03".into()), ..good };
        assert_eq!(judge_key(&other, &EXPECTED, token, b"key", b"key"), Err(Fault::Device));
    }
}
