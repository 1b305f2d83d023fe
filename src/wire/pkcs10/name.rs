//! Names in requests.

use super::super::Malformed;
use super::super::asn1::{self, Element};

/// `id-ms-upn`: the user principal name among the alternative names.
const UPN: &str = "1.3.6.1.4.1.311.20.2.3";
/// How many parts a name, or names a list may have.
const LIST: usize = 128;

/// One attribute of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePart {
    /// Which RDN it belongs to, from 0.
    pub rdn: usize,
    /// Its type, dotted.
    pub oid: String,
    /// Its value.
    pub value: String,
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GeneralName {
    /// rfc822Name.
    Email(String),
    /// dNSName.
    Dns(String),
    /// uniformResourceIdentifier.
    Uri(String),
    /// iPAddress: 4 or 16 octets.
    Ip(Vec<u8>),
    /// otherName with a user principal name.
    Upn(String),
    /// Anything else: the tag and the contents as they came.
    Other(u8, Vec<u8>),
}

/// Reads a Name; values that are no text become `#` and hexadecimal digits.
pub(super) fn read_name(name: &Element<'_>) -> Result<Vec<NamePart>, Malformed> {
    let mut rdns = name.reader();
    let mut parts = Vec::new();
    let mut rdn = 0;
    while !rdns.is_empty() {
        let mut set = rdns.expect(asn1::SET, "RelativeDistinguishedName")?.reader();
        while !set.is_empty() {
            if parts.len() == LIST {
                return Err(Malformed::new("too many parts", "subject"));
            }
            let mut fields = set.expect(asn1::SEQUENCE, "AttributeTypeAndValue")?.reader();
            let oid = asn1::oid_text(fields.expect(asn1::OID, "AttributeTypeAndValue")?.value);
            let value = fields.element()?;
            fields.end()?;
            parts.push(NamePart {
                rdn,
                oid: oid.ok_or_else(|| Malformed::new("bad identifier", "subject"))?,
                value: asn1::string(&value).unwrap_or_else(|| format!("#{}", hex::encode(value.raw))),
            });
        }
        rdn += 1;
    }
    Ok(parts)
}

/// Reads GeneralNames.
pub(super) fn read_general_names(der: &[u8]) -> Result<Vec<GeneralName>, Malformed> {
    let mut list = asn1::single(der, asn1::SEQUENCE, "subjectAltName")?.reader();
    let mut names = Vec::new();
    while !list.is_empty() {
        if names.len() == LIST {
            return Err(Malformed::new("too many", "subjectAltName"));
        }
        let name = list.element()?;
        let text = || String::from_utf8_lossy(name.value).into_owned();
        names.push(match name.tag {
            0x81 => GeneralName::Email(text()),
            0x82 => GeneralName::Dns(text()),
            0x86 => GeneralName::Uri(text()),
            0x87 => GeneralName::Ip(name.value.to_vec()),
            0xa0 => upn(&name).map_or_else(|| GeneralName::Other(name.tag, name.value.to_vec()), GeneralName::Upn),
            tag => GeneralName::Other(tag, name.value.to_vec()),
        });
    }
    Ok(names)
}

fn upn(name: &Element<'_>) -> Option<String> {
    let mut fields = name.reader();
    let oid = asn1::oid_text(fields.expect(asn1::OID, "otherName").ok()?.value)?;
    let explicit = fields.expect(asn1::context(0), "otherName").ok()?;
    let mut inner = explicit.reader();
    let value = inner.element().ok()?;
    (oid == UPN && inner.is_empty() && fields.is_empty()).then(|| asn1::string(&value))?
}

/// Writes a Name.
pub(super) fn write_name(parts: &[NamePart]) -> Result<Vec<u8>, Malformed> {
    let mut rdns: Vec<u8> = Vec::new();
    for group in parts.chunk_by(|a, b| a.rdn == b.rdn) {
        let mut set = Vec::new();
        for part in group {
            let oid = asn1::oid_value(&part.oid).ok_or_else(|| Malformed::new("bad identifier", "subject"))?;
            let value = match part.oid.as_str() {
                // emailAddress and domainComponent are IA5String (RFC 5280, appendix A).
                "1.2.840.113549.1.9.1" | "0.9.2342.19200300.100.1.25" => asn1::tlv(asn1::IA5_STRING, part.value.as_bytes()),
                _ => asn1::directory_string(&part.value),
            };
            set.push(asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, &oid), &value]));
        }
        rdns.extend_from_slice(&asn1::set_of(asn1::SET, set));
    }
    Ok(asn1::tlv(asn1::SEQUENCE, &rdns))
}

/// Writes GeneralNames.
pub(super) fn write_general_names(names: &[GeneralName]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = names
        .iter()
        .map(|name| match name {
            GeneralName::Email(text) => asn1::tlv(0x81, text.as_bytes()),
            GeneralName::Dns(text) => asn1::tlv(0x82, text.as_bytes()),
            GeneralName::Uri(text) => asn1::tlv(0x86, text.as_bytes()),
            GeneralName::Ip(octets) => asn1::tlv(0x87, octets),
            GeneralName::Upn(text) => {
                let oid = asn1::tlv(asn1::OID, &asn1::oid_value(UPN).unwrap_or_default());
                let value = asn1::tlv(asn1::context(0), &asn1::tlv(asn1::UTF8_STRING, text.as_bytes()));
                asn1::wrap(asn1::context(0), &[&oid, &value])
            }
            GeneralName::Other(tag, value) => asn1::tlv(*tag, value),
        })
        .collect();
    asn1::tlv(asn1::SEQUENCE, &parts.concat())
}
