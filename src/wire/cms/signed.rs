//! SignedData (RFC 5652 5).

use openssl::pkey::{PKey, Private, Public};

use super::super::Malformed;
use super::super::asn1::{self, Element, Reader};
use super::{Algorithm, CertificateView, DATA, Digest, Identifier, RSA_ENCRYPTION, SIGNED_DATA, content_info, identifier, wrap};

/// Contents of the OBJECT IDENTIFIER `id-contentType`, 1.2.840.113549.1.9.3.
pub const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
/// Contents of the OBJECT IDENTIFIER `id-messageDigest`, 1.2.840.113549.1.9.4.
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];
/// Contents of the OBJECT IDENTIFIER `id-signingTime`, 1.2.840.113549.1.9.5.
pub const SIGNING_TIME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 5];
/// How many certificates, revocation lists, signers or attributes a message may have.
const LIST: usize = 64;

/// A SignedData over the bytes it was read from.
#[derive(Clone, Debug)]
pub struct SignedData<'a> {
    /// The content, if any.
    pub content: Option<&'a [u8]>,
    /// The certificates as they came.
    pub certificates: Vec<&'a [u8]>,
    /// The revocation lists as they came.
    pub crls: Vec<&'a [u8]>,
    /// Who signed.
    pub signers: Vec<SignerInfo<'a>>,
}

/// One signature.
#[derive(Clone, Debug)]
pub struct SignerInfo<'a> {
    /// Whose certificate.
    pub identifier: Identifier<'a>,
    /// The digest; `None` when we do not know it.
    pub digest: Option<Digest>,
    /// The signed attributes as they came, without identifier and length; `None` when there are none.
    signed_attributes: Option<&'a [u8]>,
    /// The signed attributes, in the order they came.
    pub attributes: Vec<Attribute<'a>>,
    /// Contents of the signature algorithm's OBJECT IDENTIFIER.
    signature_algorithm: &'a [u8],
    signature: &'a [u8],
}

/// A signed attribute.
#[derive(Clone, Debug)]
pub struct Attribute<'a> {
    /// Contents of the type's OBJECT IDENTIFIER.
    pub oid: &'a [u8],
    /// The values.
    pub values: Vec<Element<'a>>,
}

/// Why a signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The digest or signature algorithm is unknown or not what the other one says.
    #[error("algorithm not supported")]
    Algorithm,
    /// An attribute appears twice or has not exactly one value.
    #[error("an attribute is repeated or does not have one value")]
    Attributes,
    /// There are no signed attributes, or content type or message digest is missing among them.
    #[error("no signed attributes with content type and message digest")]
    Unattributed,
    /// No certificate in the message is the signer's.
    #[error("the signer's certificate is not in the message")]
    NoCertificate,
    /// The content is not what was signed.
    #[error("the message digest is wrong")]
    Content,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
}

impl<'a> SignedData<'a> {
    /// Reads a `ContentInfo` with SignedData, in definite lengths (see [`super::ber::to_der`]).
    ///
    /// # Errors
    /// [`Malformed`] when it is none.
    pub fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = content_info(der, SIGNED_DATA)?.reader();
        fields.expect(asn1::INTEGER, "SignedData version")?;
        fields.expect(asn1::SET, "digestAlgorithms")?;
        let mut encapsulated = fields.expect(asn1::SEQUENCE, "encapContentInfo")?.reader();
        encapsulated.expect(asn1::OID, "eContentType")?;
        let content = match encapsulated.optional(asn1::context(0))? {
            Some(explicit) => Some(asn1::single(explicit.value, asn1::OCTET_STRING, "eContent")?.value),
            None => None,
        };
        let certificates = raw_list(fields.optional(asn1::context(0))?, "certificates")?;
        let crls = raw_list(fields.optional(asn1::context(1))?, "crls")?;
        let mut list = fields.expect(asn1::SET, "signerInfos")?.reader();
        fields.end()?;
        let mut signers = Vec::new();
        while !list.is_empty() {
            if signers.len() == LIST {
                return Err(Malformed::new("too many", "signerInfos"));
            }
            signers.push(SignerInfo::read(&list.expect(asn1::SEQUENCE, "SignerInfo")?)?);
        }
        Ok(Self { content, certificates, crls, signers })
    }

    /// The certificate that signed, after its signature over the attributes and the attributes' digest over the content were checked.
    ///
    /// # Errors
    /// [`Broken`] says what is wrong.
    pub fn verify(&self, signer: &SignerInfo<'a>) -> Result<CertificateView<'a>, Broken> {
        self.verify_with_key(signer).map(|(certificate, _)| certificate)
    }

    /// The same, with the certificate's key as it was built for the check, for callers that go on to use it.
    ///
    /// # Errors
    /// [`Broken`] says what is wrong.
    pub fn verify_with_key(&self, signer: &SignerInfo<'a>) -> Result<(CertificateView<'a>, PKey<Public>), Broken> {
        let digest = signer.digest.ok_or(Broken::Algorithm)?;
        let signed = signer.signed_attributes.ok_or(Broken::Unattributed)?;
        signer.check_attributes()?;
        let certificate = self.signer_certificate(signer).ok_or(Broken::NoCertificate)?;
        let content_type = signer.attribute(CONTENT_TYPE).ok_or(Broken::Unattributed)?;
        let message_digest = signer.attribute(MESSAGE_DIGEST).ok_or(Broken::Unattributed)?;
        if content_type.tag != asn1::OID || message_digest.tag != asn1::OCTET_STRING {
            return Err(Broken::Unattributed);
        }
        if message_digest.value != digest.of(self.content.unwrap_or_default()) {
            return Err(Broken::Content);
        }
        // RFC 5652 5.4: the attributes are signed as a SET OF, not under the implicit tag they travel with.
        let key = signer.check_signature(digest, &certificate, &asn1::tlv(asn1::SET, signed))?;
        Ok((certificate, key))
    }

    /// The same, and also for a signer that signed the content itself, without attributes (RFC 5652 5.4): Apple devices may.
    ///
    /// # Errors
    /// [`Broken`] says what is wrong.
    pub fn verify_bare(&self, signer: &SignerInfo<'a>) -> Result<CertificateView<'a>, Broken> {
        if signer.signed_attributes.is_some() {
            return self.verify(signer);
        }
        let digest = signer.digest.ok_or(Broken::Algorithm)?;
        let certificate = self.signer_certificate(signer).ok_or(Broken::NoCertificate)?;
        signer.check_signature(digest, &certificate, self.content.unwrap_or_default())?;
        Ok(certificate)
    }

    /// The certificate that a signer names, unchecked.
    #[must_use]
    pub fn signer_certificate(&self, signer: &SignerInfo<'_>) -> Option<CertificateView<'a>> {
        self.certificates.iter().filter_map(|raw| CertificateView::parse(raw).ok()).find(|c| signer.identifier.names(c))
    }
}

impl<'a> SignerInfo<'a> {
    fn read(element: &Element<'a>) -> Result<Self, Malformed> {
        let mut fields = element.reader();
        fields.expect(asn1::INTEGER, "SignerInfo version")?;
        let identifier = Identifier::of(&fields.element()?)?;
        let digest = Digest::from_oid(Algorithm::read(&mut fields)?.oid);
        let signed = fields.optional(asn1::context(0))?;
        let signature_algorithm = Algorithm::read(&mut fields)?.oid;
        let signature = fields.expect(asn1::OCTET_STRING, "signature")?.value;
        fields.optional(asn1::context(1))?;
        fields.end()?;
        let attributes = match &signed {
            Some(list) => Attribute::list(list.reader())?,
            None => Vec::new(),
        };
        Ok(Self { identifier, digest, signed_attributes: signed.map(|s| s.value), attributes, signature_algorithm, signature })
    }

    /// The first value of the first attribute of that type.
    #[must_use]
    pub fn attribute(&self, oid: &[u8]) -> Option<Element<'a>> {
        self.attributes.iter().find(|a| a.oid == oid).and_then(|a| a.values.first().copied())
    }

    /// Checks the signature over `bytes` by the certificate's key, and gives the key back.
    fn check_signature(&self, digest: Digest, certificate: &CertificateView<'_>, bytes: &[u8]) -> Result<PKey<Public>, Broken> {
        let named = Digest::from_signature_oid(self.signature_algorithm);
        if named != Some(digest) && self.signature_algorithm != RSA_ENCRYPTION {
            return Err(Broken::Algorithm);
        }
        let key = certificate.public_key().map_err(|_| Broken::NoCertificate)?;
        let mut verifier = openssl::sign::Verifier::new(digest.openssl(), &key).map_err(|_| Broken::Algorithm)?;
        match verifier.verify_oneshot(self.signature, bytes) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(Broken::Signature),
        }
        drop(verifier);
        Ok(key)
    }

    /// Each attribute once, each with one value.
    fn check_attributes(&self) -> Result<(), Broken> {
        let mut seen: Vec<&[u8]> = Vec::with_capacity(self.attributes.len());
        for attribute in &self.attributes {
            if attribute.values.len() != 1 || seen.contains(&attribute.oid) {
                return Err(Broken::Attributes);
            }
            seen.push(attribute.oid);
        }
        Ok(())
    }
}

impl<'a> Attribute<'a> {
    /// Reads attributes up to the end.
    ///
    /// # Errors
    /// [`Malformed`] when something else is among them, or they are too many.
    pub fn list(mut reader: Reader<'a>) -> Result<Vec<Self>, Malformed> {
        let mut attributes = Vec::new();
        while !reader.is_empty() {
            if attributes.len() == LIST {
                return Err(Malformed::new("too many", "attributes"));
            }
            let mut fields = reader.expect(asn1::SEQUENCE, "Attribute")?.reader();
            let oid = fields.expect(asn1::OID, "Attribute")?.value;
            let mut set = fields.expect(asn1::SET, "Attribute")?.reader();
            fields.end()?;
            let mut values = Vec::new();
            while !set.is_empty() {
                if values.len() == LIST {
                    return Err(Malformed::new("too many", "attribute values"));
                }
                values.push(set.element()?);
            }
            attributes.push(Self { oid, values });
        }
        Ok(attributes)
    }
}

fn raw_list<'a>(set: Option<Element<'a>>, what: &'static str) -> Result<Vec<&'a [u8]>, Malformed> {
    let Some(set) = set else { return Ok(Vec::new()) };
    let mut reader = set.reader();
    let mut list = Vec::new();
    while !reader.is_empty() {
        if list.len() == LIST {
            return Err(Malformed::new("too many", what));
        }
        list.push(reader.element()?.raw);
    }
    Ok(list)
}

/// Who signs, and how.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The signer's certificate; it goes into the message.
    pub certificate: &'a [u8],
    /// Its key.
    pub key: &'a PKey<Private>,
    /// The digest.
    pub digest: Digest,
}

/// Signs `content` (or nothing) and the attributes, each a type (contents of its OBJECT IDENTIFIER) and one encoded value; content type and
/// message digest are added, with or without content. An RSA signature is named `rsaEncryption`, which every client understands.
///
/// # Errors
/// [`Malformed`] when the certificate cannot be read or OpenSSL cannot sign.
pub fn sign(content: Option<&[u8]>, attributes: &[(&[u8], Vec<u8>)], signer: &Signer<'_>) -> Result<Vec<u8>, Malformed> {
    let carried = content.map(|bytes| asn1::tlv(asn1::context(0), &asn1::tlv(asn1::OCTET_STRING, bytes))).unwrap_or_default();
    sign_carrying(&carried, content.unwrap_or_default(), attributes, signer, &[])
}

/// Signs content without attributes of the caller's, and has the certificates above the signer's go with it, so that whoever knows only
/// the root can follow the chain.
///
/// # Errors
/// Those of [`sign`].
pub fn sign_with_chain(content: &[u8], signer: &Signer<'_>, above: &[&[u8]]) -> Result<Vec<u8>, Malformed> {
    let carried = asn1::tlv(asn1::context(0), &asn1::tlv(asn1::OCTET_STRING, content));
    sign_carrying(&carried, content, &[], signer, above)
}

/// The same for content that travels by itself.
///
/// # Errors
/// Those of [`sign`].
pub fn sign_detached(content: &[u8], attributes: &[(&[u8], Vec<u8>)], signer: &Signer<'_>) -> Result<Vec<u8>, Malformed> {
    sign_carrying(&[], content, attributes, signer, &[])
}

fn sign_carrying(
    carried: &[u8],
    content: &[u8],
    attributes: &[(&[u8], Vec<u8>)],
    signer: &Signer<'_>,
    above: &[&[u8]],
) -> Result<Vec<u8>, Malformed> {
    let certificate = CertificateView::parse(signer.certificate)?;
    let digest = signer.digest;
    let attribute = |oid: &[u8], value: &[u8]| asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, oid), &asn1::tlv(asn1::SET, value)]);
    let mut list: Vec<Vec<u8>> = attributes.iter().map(|(oid, value)| attribute(oid, value)).collect();
    list.push(attribute(CONTENT_TYPE, &asn1::tlv(asn1::OID, DATA)));
    list.push(attribute(MESSAGE_DIGEST, &asn1::tlv(asn1::OCTET_STRING, &digest.of(content))));
    list.sort();
    let list = list.concat();
    let failed = |_| Malformed::new("OpenSSL does not sign", "SignerInfo");
    let mut engine = openssl::sign::Signer::new(digest.openssl(), signer.key).map_err(failed)?;
    let signature = engine.sign_oneshot_to_vec(&asn1::tlv(asn1::SET, &list)).map_err(failed)?;
    let algorithm = match signer.key.id() {
        openssl::pkey::Id::RSA => identifier(RSA_ENCRYPTION, &[asn1::NULL, 0]),
        _ => return Err(Malformed::new("the key is not RSA", "SignerInfo")),
    };
    let info = asn1::wrap(
        asn1::SEQUENCE,
        &[
            &asn1::number(1),
            &certificate.issuer_and_serial(),
            &digest.identifier(),
            &asn1::tlv(asn1::context(0), &list),
            &algorithm,
            &asn1::tlv(asn1::OCTET_STRING, &signature),
        ],
    );
    let certificates = [&[signer.certificate], above].concat();
    Ok(signed_data(&digest.identifier(), carried, &asn1::wrap(asn1::context(0), &certificates), &[], &info))
}

/// A SignedData that nobody signed: a way to carry certificates and revocation lists (RFC 5652 5.2).
#[must_use]
pub fn degenerate(certificates: &[&[u8]], crls: &[&[u8]]) -> Vec<u8> {
    let list = |tag: u8, parts: &[&[u8]]| if parts.is_empty() { Vec::new() } else { asn1::wrap(tag, parts) };
    signed_data(&[], &[], &list(asn1::context(0), certificates), &list(asn1::context(1), crls), &[])
}

fn signed_data(digests: &[u8], content: &[u8], certificates: &[u8], crls: &[u8], infos: &[u8]) -> Vec<u8> {
    let encapsulated = asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, DATA), content]);
    let body = asn1::wrap(
        asn1::SEQUENCE,
        &[&asn1::number(1), &asn1::tlv(asn1::SET, digests), &encapsulated, certificates, crls, &asn1::tlv(asn1::SET, infos)],
    );
    wrap(SIGNED_DATA, &body)
}
