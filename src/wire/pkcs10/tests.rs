use super::*;
use openssl::rsa::Rsa;
use proptest::prelude::*;
use std::sync::LazyLock;

static KEY: LazyLock<PKey<openssl::pkey::Private>> = LazyLock::new(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap());

fn full() -> Wish {
    Wish {
        san: vec![
            GeneralName::Upn("ana@example.org".into()),
            GeneralName::Dns("pc.example.org".into()),
            GeneralName::Email("ana@example.org".into()),
            GeneralName::Uri("urn:device:1".into()),
            GeneralName::Ip(vec![10, 0, 0, 1]),
        ],
        ext_key_usage: vec!["1.3.6.1.5.5.7.3.2".into(), "1.3.6.1.4.1.311.20.2.2".into()],
        key_usage: Some(key_usage::DIGITAL_SIGNATURE | key_usage::KEY_ENCIPHERMENT),
        challenge: Some("secret+/=".into()),
        ..Wish::common_name("PC 1 €")
    }
}

#[test]
fn a_request_reads_as_it_was_asked() {
    let wish = full();
    let request = Request::parse(&build(&wish, &KEY, Digest::Sha256).unwrap()).unwrap();
    assert_eq!(request.subject, wish.subject);
    assert_eq!(request.san, wish.san);
    assert_eq!(request.ext_key_usage, wish.ext_key_usage);
    assert_eq!(request.key_usage, wish.key_usage);
    assert_eq!(request.challenge.as_ref().unwrap().expose(), b"secret+/=");
    assert_eq!(request.subject_value("2.5.4.3"), Some("PC 1 €"));
    assert!(!request.wants_ca);
    request.verify().unwrap();
}

#[test]
fn openssl_accepts_what_we_build_and_we_what_openssl_builds() {
    let der = build(&full(), &KEY, Digest::Sha512).unwrap();
    let read = openssl::x509::X509Req::from_der(&der).unwrap();
    assert!(read.verify(&KEY).unwrap());
    assert_eq!(read.extensions().unwrap().len(), 3);
    let mut theirs = openssl::x509::X509Req::builder().unwrap();
    theirs.set_pubkey(&KEY).unwrap();
    theirs.sign(&KEY, openssl::hash::MessageDigest::sha1()).unwrap();
    let ours = Request::parse(&theirs.build().to_der().unwrap()).unwrap();
    assert_eq!(ours.digest(), Some(Digest::Sha1));
    ours.verify().unwrap();
}

#[test]
fn a_changed_request_does_not_verify() {
    let mut der = build(&Wish::common_name("PC"), &KEY, Digest::Sha256).unwrap();
    let last = der.len() - 1;
    der[last] ^= 1;
    assert_eq!(Request::parse(&der).unwrap().verify(), Err(Unproven::Signature));
}

/// A request with these attributes and a signature of nothing.
fn with(attributes: &[Vec<u8>], subject: &[u8]) -> Vec<u8> {
    let info = asn1::wrap(
        asn1::SEQUENCE,
        &[&[2, 1, 0], subject, &KEY.public_key_to_der().unwrap(), &asn1::tlv(asn1::context(0), &attributes.concat())],
    );
    let algorithm = super::super::cms::identifier(&Digest::Sha256.rsa_oid(), &[5, 0]);
    asn1::wrap(asn1::SEQUENCE, &[&info, &algorithm, &asn1::tlv(asn1::BIT_STRING, &[0, 1])])
}

fn attribute(oid: &[u8], values: &[&[u8]]) -> Vec<u8> {
    asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, oid), &asn1::wrap(asn1::SET, values)])
}

#[test]
fn challenges_come_in_any_string_type_and_friendly_names_are_passed_over() {
    let friendly = attribute(&asn1::oid_value("1.2.840.113549.1.9.20").unwrap(), &[&asn1::tlv(asn1::BMP_STRING, &[0, 65])]);
    let bmp: Vec<u8> = "abc".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let types = [(asn1::PRINTABLE_STRING, b"abc".to_vec()), (asn1::UTF8_STRING, b"abc".to_vec()), (asn1::BMP_STRING, bmp)];
    for (tag, value) in types.into_iter().chain([(asn1::TELETEX_STRING, b"abc".to_vec()), (asn1::IA5_STRING, b"abc".to_vec())]) {
        let der = with(&[friendly.clone(), attribute(CHALLENGE_PASSWORD, &[&asn1::tlv(tag, &value)])], &[0x30, 0]);
        assert_eq!(Request::parse(&der).unwrap().challenge.unwrap().expose(), b"abc", "tag {tag}");
    }
    let challenge = |values: &[&[u8]]| attribute(CHALLENGE_PASSWORD, values);
    let text = asn1::tlv(asn1::PRINTABLE_STRING, b"abc");
    assert!(Request::parse(&with(&[challenge(&[&text, &text])], &[0x30, 0])).is_err());
    assert!(Request::parse(&with(&[challenge(&[&text]), challenge(&[&text])], &[0x30, 0])).is_err());
    let long = asn1::tlv(asn1::UTF8_STRING, &vec![b'x'; CHALLENGE + 1]);
    assert!(Request::parse(&with(&[challenge(&[&long])], &[0x30, 0])).is_err());
}

#[test]
fn illegal_printable_strings_and_microsofts_extension_request_are_read() {
    let value = asn1::tlv(asn1::PRINTABLE_STRING, b"B1C43CD0-1624-5FBB-8E54-34CF17DFD3A1\x00@*");
    let part = asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, &[0x55, 4, 3]), &value]);
    let subject = asn1::tlv(asn1::SEQUENCE, &asn1::tlv(asn1::SET, &part));
    let ca =
        asn1::wrap(asn1::SEQUENCE, &[&asn1::tlv(asn1::OID, &[0x55, 0x1d, 0x13]), &asn1::tlv(asn1::OCTET_STRING, &[0x30, 3, 1, 1, 0xff])]);
    let request = Request::parse(&with(&[attribute(MICROSOFT_EXTENSIONS, &[&asn1::tlv(asn1::SEQUENCE, &ca)])], &subject)).unwrap();
    assert_eq!(request.subject_value("2.5.4.3"), Some("B1C43CD0-1624-5FBB-8E54-34CF17DFD3A1\0@*"));
    assert!(request.wants_ca);
    assert_eq!(request.extensions.len(), 1);
    assert_eq!(request.extensions[0].0, "2.5.29.19");
}

proptest! {
    #[test]
    fn any_bytes_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Request::parse(&bytes);
    }

    #[test]
    fn a_changed_octet_does_no_harm(at in 0usize..900, bit in 0u8..8) {
        static DER: LazyLock<Vec<u8>> = LazyLock::new(|| build(&full(), &KEY, Digest::Sha256).unwrap());
        let mut der = DER.clone();
        if let Some(octet) = der.get_mut(at) {
            *octet ^= 1 << bit;
            let original = Request::parse(&DER).unwrap();
            if let Ok(request) = Request::parse(&der)
                && request.verify().is_ok()
            {
                // Only what is outside the signed part (the parameters of its algorithm) may have changed.
                prop_assert_eq!(&request.spki, &original.spki);
                prop_assert_eq!(&request.subject_raw, &original.subject_raw);
                prop_assert_eq!(&request.challenge, &original.challenge);
                prop_assert_eq!(&request.extensions, &original.extensions);
            }
        }
    }

    #[test]
    fn names_round_trip(parts in proptest::collection::vec((0usize..3, "[ -~äß€]{0,20}"), 0..6)) {
        let mut rdn = 0;
        let subject: Vec<NamePart> = parts.iter().enumerate().map(|(at, (step, value))| {
            rdn += usize::from(at > 0 && *step > 0);
            // One type per RDN position, so that the sorted set keeps the order.
            NamePart { rdn, oid: format!("2.5.4.{}", 3 + at), value: value.clone() }
        }).collect();
        let name = name::write_name(&subject).unwrap();
        let read = name::read_name(&asn1::single(&name, asn1::SEQUENCE, "x").unwrap()).unwrap();
        prop_assert_eq!(read.len(), subject.len());
        for part in &read {
            prop_assert!(subject.contains(part));
        }
    }
}
