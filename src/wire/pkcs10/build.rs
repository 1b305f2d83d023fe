//! Making requests: for simulated devices and tests.

use openssl::pkey::{Id, PKey, Private};

use super::super::Malformed;
use super::super::asn1;
use super::super::cms::{Digest, identifier};
use super::{CHALLENGE_PASSWORD, EXTENSION_REQUEST, GeneralName, NamePart, name};

/// What a request asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The subject.
    pub subject: Vec<NamePart>,
    /// Alternative names.
    pub san: Vec<GeneralName>,
    /// Extended key usages, dotted.
    pub ext_key_usage: Vec<String>,
    /// Key usage, see [`super::key_usage`].
    pub key_usage: Option<u16>,
    /// Other extensions: dotted type and encoded value.
    pub extensions: Vec<(String, Vec<u8>)>,
    /// The challenge password.
    pub challenge: Option<String>,
}

impl Wish {
    /// Asks for a subject that is a common name.
    #[must_use]
    pub fn common_name(name: &str) -> Self {
        Self { subject: vec![NamePart { rdn: 0, oid: "2.5.4.3".into(), value: name.into() }], ..Self::default() }
    }
}

/// Makes a request, signed with the key that it is about (RSA or EC).
///
/// # Errors
/// [`Malformed`] for identifiers that are none, or when OpenSSL cannot sign.
pub fn build(wish: &Wish, key: &PKey<Private>, digest: Digest) -> Result<Vec<u8>, Malformed> {
    let failed = |_| Malformed::new("OpenSSL does not sign", "CertificationRequest");
    let mut attributes = Vec::new();
    if let Some(challenge) = &wish.challenge {
        attributes.push(attribute(CHALLENGE_PASSWORD, &asn1::directory_string(challenge)));
    }
    let extensions = extensions(wish)?;
    if !extensions.is_empty() {
        attributes.push(attribute(EXTENSION_REQUEST, &asn1::tlv(asn1::SEQUENCE, &extensions.concat())));
    }
    let info = asn1::wrap(
        asn1::SEQUENCE,
        &[
            &asn1::number(0),
            &name::write_name(&wish.subject)?,
            &key.public_key_to_der().map_err(failed)?,
            &asn1::set_of(asn1::context(0), attributes),
        ],
    );
    let algorithm = match key.id() {
        Id::RSA => identifier(&digest.rsa_oid(), &[asn1::NULL, 0]),
        _ => identifier(digest.ecdsa_oid(), &[]),
    };
    let mut signer = openssl::sign::Signer::new(digest.openssl(), key).map_err(failed)?;
    let mut signature = vec![0];
    signature.extend(signer.sign_oneshot_to_vec(&info).map_err(failed)?);
    Ok(asn1::wrap(asn1::SEQUENCE, &[&info, &algorithm, &asn1::tlv(asn1::BIT_STRING, &signature)]))
}

fn attribute(oid: &[u8], value: &[u8]) -> Vec<u8> {
    asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, oid), &asn1::tlv(asn1::SET, value)])
}

fn extensions(wish: &Wish) -> Result<Vec<Vec<u8>>, Malformed> {
    let oid = |text: &str| {
        let value = asn1::oid_value(text).ok_or_else(|| Malformed::new("bad identifier", "Extension"))?;
        Ok::<_, Malformed>(asn1::tlv(asn1::OID, &value))
    };
    let extension =
        |text: &str, value: &[u8]| Ok::<_, Malformed>(asn1::wrap(asn1::SEQUENCE, &[&oid(text)?, &asn1::tlv(asn1::OCTET_STRING, value)]));
    let mut list = Vec::new();
    if !wish.san.is_empty() {
        list.push(extension("2.5.29.17", &name::write_general_names(&wish.san))?);
    }
    if let Some(usage) = wish.key_usage {
        let [low, high] = usage.to_le_bytes().map(u8::reverse_bits);
        let octets = if high == 0 { vec![low] } else { vec![low, high] };
        let unused = octets.last().map_or(0, |last| last.trailing_zeros().min(7));
        let mut bits = vec![u8::try_from(unused).unwrap_or(0)];
        bits.extend(octets);
        list.push(extension("2.5.29.15", &asn1::tlv(asn1::BIT_STRING, &bits))?);
    }
    if !wish.ext_key_usage.is_empty() {
        let purposes = wish.ext_key_usage.iter().map(|text| oid(text)).collect::<Result<Vec<_>, _>>()?;
        list.push(extension("2.5.29.37", &asn1::tlv(asn1::SEQUENCE, &purposes.concat()))?);
    }
    for (text, value) in &wish.extensions {
        list.push(extension(text, value)?);
    }
    Ok(list)
}
