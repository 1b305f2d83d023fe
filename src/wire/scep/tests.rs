use super::*;
use crate::wire::cms::{Cipher, EnvelopedData, ber, degenerate, seal};
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::x509::{X509, X509NameBuilder};
use proptest::prelude::*;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::LazyLock;

struct Party {
    key: PKey<Private>,
    certificate: Vec<u8>,
}

/// A self-signed certificate with a serial number of that many octets.
fn party(name: &str, serial: usize) -> Party {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_slice(&vec![0x7f; serial]).unwrap()).unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(1_700_000_000).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(1_900_000_000).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    Party { certificate: builder.build().to_der().unwrap(), key }
}

static CLIENT: LazyLock<Party> = LazyLock::new(|| party("client", 33));
static SERVER: LazyLock<Party> = LazyLock::new(|| party("server", 16));

fn signer(party: &Party, digest: Digest) -> Signer<'_> {
    Signer { certificate: &party.certificate, key: &party.key, digest }
}

fn envelope(cipher: Cipher, content: &[u8]) -> Vec<u8> {
    let server = CertificateView::parse(&SERVER.certificate).unwrap();
    seal(content, &server, cipher, &vec![7; cipher.key_length()], &vec![9; cipher.block()]).unwrap()
}

fn open(sealed: &[u8]) -> Vec<u8> {
    let read = EnvelopedData::parse(sealed).unwrap();
    read.open(&read.recipients[0], &SERVER.key, &[1; 32]).unwrap().to_vec()
}

fn request() -> Vec<u8> {
    let content = envelope(Cipher::Aes128, b"payload");
    let request = PkiRequest { message_type: MessageType::PkcsReq, transaction_id: "AB 01", sender_nonce: &[5; 16], content: &content };
    request.sign(&signer(&CLIENT, Digest::Sha256)).unwrap()
}

#[test]
fn a_request_reads_as_it_was_signed_even_with_a_serial_of_33_octets() {
    let bytes = request();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.transaction_id.as_str(), message.sender_nonce), ("AB 01", &[5u8; 16][..]));
    let verified = message.verify().unwrap();
    assert_eq!(verified.message_type, MessageType::PkcsReq);
    assert_eq!(verified.signer.raw, CLIENT.certificate);
    assert_eq!(verified.signer.rsa_bits(), Some(2048));
    assert_eq!(open(verified.content.unwrap()), b"payload");
}

#[test]
fn every_answer_reads_as_it_was_signed() {
    for status in [Status::Success(b"x".to_vec()), Status::Failure(FailInfo::BadCertId, Some("no".into())), Status::Pending] {
        for digest in [Digest::Sha1, Digest::Sha256, Digest::Sha512] {
            let id = printable("1");
            let answer = CertRep { transaction_id_raw: &id, recipient_nonce: &[2; 8], sender_nonce: &[3; 16], status: &status };
            let bytes = answer.sign(&signer(&SERVER, digest)).unwrap();
            let verified = Message::parse(&bytes).unwrap().verify().unwrap();
            assert_eq!((verified.status.as_ref(), verified.recipient_nonce), (Some(&status), &[2u8; 8][..]));
        }
    }
}

#[test]
fn every_cipher_opens_what_it_sealed() {
    for cipher in [Cipher::TripleDes, Cipher::Aes128, Cipher::Aes192, Cipher::Aes256] {
        for length in [0, 1, 15, 16, 17, 1000] {
            assert_eq!(open(&envelope(cipher, &vec![b'x'; length])), vec![b'x'; length], "{cipher:?} {length}");
        }
    }
    let server = CertificateView::parse(&SERVER.certificate).unwrap();
    assert!(seal(b"x", &server, Cipher::Des, &[0; 8], &[0; 8]).is_err());
    assert!(seal(b"x", &server, Cipher::Aes128, &[0; 15], &[0; 16]).is_err());
}

#[test]
fn what_does_not_open_comes_back_without_meaning_instead_of_an_error() {
    let sealed = envelope(Cipher::Aes128, b"payload");
    let other = party("other", 16);
    let read = EnvelopedData::parse(&sealed).unwrap();
    assert_ne!(read.open(&read.recipients[0], &other.key, &[1; 32]).unwrap().as_slice(), b"payload");
    // The last ciphertext octet decides the padding.
    let mut broken = sealed.clone();
    *broken.last_mut().unwrap() ^= 1;
    let read = EnvelopedData::parse(&broken).unwrap();
    assert_eq!(read.open(&read.recipients[0], &SERVER.key, &[1; 32]).unwrap().len(), 16);
}

/// Replaces the wrapped key by what `wrap` makes, with that key transport identifier.
fn rewrapped(oid: &str, parameters: &[u8], key: &[u8]) -> Vec<u8> {
    let sealed = envelope(Cipher::Aes128, b"payload");
    let server = CertificateView::parse(&SERVER.certificate).unwrap();
    let info = asn1::wrap(
        asn1::SEQUENCE,
        &[
            &asn1::number(0),
            &server.issuer_and_serial(),
            &cms::identifier(&asn1::oid_value(oid).unwrap(), parameters),
            &asn1::tlv(asn1::OCTET_STRING, key),
        ],
    );
    let outer = cms::content_info(&sealed, cms::ENVELOPED_DATA).unwrap();
    let mut fields = outer.reader();
    let version = fields.element().unwrap().raw;
    fields.element().unwrap();
    let content = fields.element().unwrap().raw;
    let body = asn1::wrap(asn1::SEQUENCE, &[version, &asn1::tlv(asn1::SET, &info), content]);
    asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, cms::ENVELOPED_DATA), &asn1::tlv(asn1::context(0), &body)])
}

#[test]
fn oaep_wrapping_opens() {
    use openssl::encrypt::Encrypter;
    for (digest, md) in [(Digest::Sha1, MessageDigest::sha1()), (Digest::Sha256, MessageDigest::sha256())] {
        let public = CertificateView::parse(&SERVER.certificate).unwrap().public_key().unwrap();
        let mut engine = Encrypter::new(&public).unwrap();
        engine.set_rsa_padding(Padding::PKCS1_OAEP).unwrap();
        engine.set_rsa_oaep_md(md).unwrap();
        engine.set_rsa_mgf1_md(md).unwrap();
        let mut key = vec![0; 256];
        engine.encrypt(&[7; 16], &mut key).unwrap();
        let hash = asn1::tlv(asn1::context(0), &digest.identifier());
        let mgf1 = cms::identifier(&asn1::oid_value("1.2.840.113549.1.1.8").unwrap(), &digest.identifier());
        let parameters = asn1::wrap(asn1::SEQUENCE, &[&hash, &asn1::tlv(asn1::context(1), &mgf1)]);
        assert_eq!(open(&rewrapped("1.2.840.113549.1.1.7", &parameters, &key)), b"payload", "{digest:?}");
    }
}

#[test]
fn a_key_of_the_wrong_length_is_replaced_by_the_substitute() {
    let rsa = SERVER.key.rsa().unwrap();
    let mut key = vec![0; 256];
    rsa.public_encrypt(&[7; 17], &mut key, Padding::PKCS1).unwrap();
    let sealed = rewrapped("1.2.840.113549.1.1.1", &[5, 0], &key);
    let read = EnvelopedData::parse(&sealed).unwrap();
    // Under the right substitute the content opens: the wrapped key was not used.
    assert_eq!(read.open(&read.recipients[0], &SERVER.key, &[7; 32]).unwrap().as_slice(), b"payload");
    assert_ne!(read.open(&read.recipients[0], &SERVER.key, &[8; 32]).unwrap().as_slice(), b"payload");
}

/// Signed attributes are DER in every message.
fn is_signed_attributes(element: &asn1::Element<'_>) -> bool {
    let first = asn1::Reader::lenient(element.value).element().unwrap();
    element.tag == asn1::context(0) && asn1::Reader::lenient(first.value).peek() == Some(asn1::OID) && first.tag == asn1::SEQUENCE && {
        let mut fields = first.reader();
        fields.element().unwrap();
        fields.peek() == Some(asn1::SET)
    }
}

/// Every constructed element with indefinite length, every OCTET STRING of the outermost levels in chunks.
fn to_ber(der: &[u8], out: &mut Vec<u8>) {
    let mut reader = asn1::Reader::lenient(der);
    while let Ok(element) = reader.element() {
        if element.tag == asn1::OCTET_STRING && element.value.len() > 40 {
            out.extend([0x24, 0x80]);
            for chunk in element.value.chunks(33) {
                asn1::put(out, asn1::OCTET_STRING, chunk);
            }
            out.extend([0, 0]);
        } else if element.tag == 0x80 && element.value.len() > 40 {
            out.extend([0xa0, 0x80]);
            for chunk in element.value.chunks(32) {
                asn1::put(out, asn1::OCTET_STRING, chunk);
            }
            out.extend([0, 0]);
        } else if element.tag & 0x20 != 0 && element.raw != CLIENT.certificate && !is_signed_attributes(&element) {
            out.extend([element.tag, 0x80]);
            to_ber(element.value, out);
            out.extend([0, 0]);
        } else {
            out.extend(element.raw);
        }
    }
}

#[test]
fn ber_inside_and_outside_reads_like_der() {
    let mut inner = Vec::new();
    to_ber(&envelope(Cipher::Aes256, &[b'p'; 200]), &mut inner);
    let der = ber::to_der(&inner).unwrap().into_owned();
    assert_eq!(open(&der), vec![b'p'; 200]);
    let request = PkiRequest { message_type: MessageType::PkcsReq, transaction_id: "1", sender_nonce: &[5; 16], content: &inner };
    let mut outer = Vec::new();
    to_ber(&request.sign(&signer(&CLIENT, Digest::Sha256)).unwrap(), &mut outer);
    let der = ber::to_der(&outer).unwrap();
    let verified = Message::parse(&der).unwrap().verify().unwrap();
    assert_eq!(verified.content.unwrap(), inner);
}

#[test]
fn openssl_reads_and_verifies_what_we_sign() {
    let Some(mut openssl) = crate::wire::openssl_program() else { return };
    let mut child = openssl
        .args(["cms", "-verify", "-inform", "DER", "-noverify", "-binary"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&request()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(open(&output.stdout), b"payload");
}

/// The request with its SignerInfo changed.
fn with_signer_info(change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let bytes = request();
    let body = cms::content_info(&bytes, cms::SIGNED_DATA).unwrap();
    let mut fields = body.reader();
    let mut parts = Vec::new();
    while !fields.is_empty() {
        parts.push(fields.element().unwrap());
    }
    let infos = asn1::tlv(asn1::SET, &change(parts.pop().unwrap().value));
    let kept: Vec<&[u8]> = parts.iter().map(|p| p.raw).chain([infos.as_slice()]).collect();
    let body = asn1::wrap(asn1::SEQUENCE, &kept);
    asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, cms::SIGNED_DATA), &asn1::tlv(asn1::context(0), &body)])
}

#[test]
fn two_signers_are_refused_but_can_be_answered() {
    let bytes = with_signer_info(|info| [info, info].concat());
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.verify().unwrap_err(), Fault::Signers);
}

#[test]
fn a_repeated_transaction_id_is_refused_but_can_be_answered() {
    let bytes = with_signer_info(|info| {
        let mut fields = asn1::single(info, asn1::SEQUENCE, "x").unwrap().reader();
        let mut parts = Vec::new();
        while !fields.is_empty() {
            let part = fields.element().unwrap();
            if part.tag == asn1::context(0) {
                let mut list = part.value.to_vec();
                let id = asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, &TRANSACTION_ID), &asn1::tlv(asn1::SET, &printable("other"))]);
                list.extend(id);
                parts.push(asn1::tlv(asn1::context(0), &list));
            } else {
                parts.push(part.raw.to_vec());
            }
        }
        asn1::tlv(asn1::SEQUENCE, &parts.concat())
    });
    assert_eq!(Message::parse(&bytes).unwrap().verify().unwrap_err(), Fault::Broken(Broken::Attributes));
}

#[test]
fn a_degenerate_message_carries_certificates_that_openssl_reads() {
    let bytes = degenerate(&[&SERVER.certificate, &CLIENT.certificate], &[]);
    let read = SignedData::parse(&bytes).unwrap();
    assert_eq!(read.certificates, [SERVER.certificate.as_slice(), CLIENT.certificate.as_slice()]);
    let theirs = openssl::pkcs7::Pkcs7::from_der(&bytes).unwrap();
    assert_eq!(theirs.signed().unwrap().certificates().unwrap().len(), 2);
}

#[test]
fn get_messages_are_read_in_every_spelling() {
    let bytes: Vec<u8> = (0..=255).collect();
    use base64::Engine as _;
    let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes);
    let lines = standard.as_bytes().chunks(64).collect::<Vec<_>>().join(&b"\r\n"[..]);
    for text in [standard.clone().into_bytes(), standard.replace('+', " ").into_bytes(), url.into_bytes(), lines] {
        assert_eq!(decode_get_message(&text).unwrap(), bytes);
    }
    assert!(decode_get_message(b"a!").is_err());
}

#[test]
fn capabilities_have_no_blank_line() {
    let capabilities = Capabilities::new(&["AES", "SCEPStandard"]);
    assert_eq!(capabilities.text(), "AES\nSCEPStandard");
    assert!(capabilities.has("SHA-256") && !capabilities.has("DES3"));
    assert_eq!(Capabilities::parse("AES\r\nSCEPStandard\r\n\r\n"), capabilities);
}

proptest! {
    #[test]
    fn any_bytes_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::parse(&bytes);
        let _ = EnvelopedData::parse(&bytes);
        let _ = decode_get_message(&bytes);
        let _ = CertificateView::parse(&bytes);
    }

    #[test]
    fn a_changed_octet_never_passes_for_the_original(at in 0usize..3000, bit in 0u8..8) {
        static REQUEST: LazyLock<Vec<u8>> = LazyLock::new(request);
        let mut bytes = REQUEST.clone();
        let original = Message::parse(&REQUEST).unwrap().verify().unwrap();
        if let Some(octet) = bytes.get_mut(at) {
            *octet ^= 1 << bit;
            let Ok(der) = ber::to_der(&bytes) else { return Ok(()) };
            let Ok(message) = Message::parse(&der) else { return Ok(()) };
            if let Ok(verified) = message.verify() {
                // What was not signed may change (versions, the list of digests, the certificate's own signature); what was may not.
                prop_assert_eq!(verified.content, original.content);
                let key = |spki: &[u8]| PKey::public_key_from_der(spki).unwrap().rsa().unwrap().n().to_vec();
                prop_assert_eq!(key(verified.signer.spki), key(original.signer.spki));
                prop_assert_eq!(&message.transaction_id, "AB 01");
            }
        }
    }
}
