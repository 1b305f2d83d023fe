//! What each fuzz target does with its input: for the programs in `fuzz_targets`, and for the test that does it briefly.

use muster::domain::dm_session::{Context, Manners, Proven, Session};
use muster::wire::apple::checkin::CheckIn;
use muster::wire::apple::command::{Answer as CommandAnswer, Command};
use muster::wire::apple::ddm::{Endpoint, StatusReport};
use muster::wire::apple::machine_info::{DeviceAttributes, MachineInfo};
use muster::wire::apple::profile::Profile;
use muster::wire::apple::{predicate, push};
use muster::wire::cms::ber::to_der;
use muster::wire::cms::{CertificateView, EnvelopedData, SignedData};
use muster::wire::constraints::Constraints;
use muster::wire::crl::{List, ToBeSigned};
use muster::wire::locuri::{LocUri, child_names, encode_name};
use muster::wire::mde::discovery::{Discover, DiscoverResult};
use muster::wire::mde::soap::{Answer, Request, Security};
use muster::wire::mde::wstep::{self, RequestToken};
use muster::wire::mde::xcep::{GetPolicies, Policy};
use muster::wire::odata::evaluate::fits;
use muster::wire::odata::filter::{Expr, moment};
use muster::wire::odata::query::Query;
use muster::wire::plist::{Limits, decode, encode};
use muster::wire::provisioning::Document;
use muster::wire::scep::{Capabilities, Message, decode_get_message, read_issuer_and_serial};
use muster::wire::scim::filter;
use muster::wire::scim::patch::Changes;
use muster::wire::scim::query::Query as Wanted;
use muster::wire::scim::schema::RESOURCES;
use muster::wire::set::{Token, compact};
use muster::wire::syncml::{MAX_BYTES, SyncMl};
use muster::wire::x509::{self, GeneralName, Parts, SignatureAlgorithm, public_key_bits};
use muster::wire::xml::{self, Element, Reader, escaped, escaped_len};
use muster::wire::{ocsp, pkcs10, public_key};

/// What is done with an input.
pub type Body = fn(&[u8]);

/// Every target by its name, which is also that of its folder in `tests/golden`.
pub const TARGETS: [(&str, Body); 20] = [
    ("apple", apple),
    ("certificate", certificate),
    ("cms", cms),
    ("constraints", constraints),
    ("crl", crl),
    ("csv", csv),
    ("locuri", locuri),
    ("mde", mde),
    ("ocsp", ocsp),
    ("odata", odata),
    ("pkcs10", pkcs10),
    ("plist", plist),
    ("predicate", predicate),
    ("provisioning", provisioning),
    ("public_key", public_key),
    ("scep", scep),
    ("scim", scim),
    ("set", set),
    ("syncml", syncml),
    ("xml", xml),
];

/// Messages of Apple devices; what was read is written and, where it stays the same, read again.
pub fn apple(data: &[u8]) {
    let _ = StatusReport::decode(data);
    let _ = push::Answer::read(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Endpoint::parse(text);
    }
    if let Ok(message) = CheckIn::decode(data) {
        let written = message.encode().expect("a message is written");
        assert_eq!(CheckIn::decode(&written).expect("and read again"), message);
    }
    if let Ok(answer) = CommandAnswer::decode(data) {
        answer.encode().expect("an answer is written");
    }
    if let Ok(command) = Command::decode(data) {
        let _ = Command::decode(&command.encode());
    }
    if let Ok(profile) = Profile::decode(data) {
        let _ = Profile::decode(&profile.encode());
    }
    if let Ok(info) = MachineInfo::decode(data) {
        info.encode().expect("what a device says of itself is written");
    }
    if let Ok(attributes) = DeviceAttributes::decode(data) {
        attributes.encode().expect("attributes are written");
    }
}

/// A certificate, as it is looked at: nothing is taken from outside of it.
pub fn certificate(data: &[u8]) {
    if let Ok(view) = CertificateView::parse(data) {
        let _ = view.public_key();
    }
    let Ok(parts) = Parts::parse(data) else { return };
    let _ = (parts.subject_key_identifier(), parts.is_authority());
    assert_eq!(public_key_bits(parts.spki), Ok(parts.key_bits));
}

/// Signed and enveloped data, in BER and DER.
pub fn cms(data: &[u8]) {
    let Ok(der) = to_der(data) else { return };
    // What is definite stays as it is.
    assert_eq!(to_der(&der).as_deref(), Ok(der.as_ref()));
    if let Ok(signed) = SignedData::parse(&der) {
        for signer in &signed.signers {
            let _ = signed.verify(signer);
        }
    }
    let _ = EnvelopedData::parse(&der);
}

/// An authority's name constraints, asked about names of every form.
pub fn constraints(data: &[u8]) {
    let Ok(constraints) = Constraints::parse(data) else { return };
    let text = String::from_utf8_lossy(data);
    let names = [
        GeneralName::Dns(&text),
        GeneralName::Email(&text),
        GeneralName::Uri(&text),
        GeneralName::Upn(&text),
        GeneralName::Ip([127, 0, 0, 1].into()),
    ];
    let empty = [0x30, 0];
    for name in names {
        assert!(constraints.permit(&empty, &[name]).is_ok(), "an empty name is a name");
    }
    let _ = constraints.permit(data, &[]);
}

/// A revocation list that was read is written as one that says the same.
pub fn crl(data: &[u8]) {
    let Ok(list) = List::parse(data) else { return };
    let number = list.number.iter().flatten().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let body = ToBeSigned {
        algorithm: SignatureAlgorithm::EcdsaSha256,
        issuer: &list.issuer,
        issuer_key: &[0; 20],
        number,
        this_update: list.this_update,
        next_update: list.next_update.unwrap_or(list.this_update),
        revoked: &list.revoked,
    };
    let again = List::parse(&x509::signed(&body.der(), SignatureAlgorithm::EcdsaSha256, &[])).expect("what was written is read");
    assert_eq!((again.issuer, again.this_update, again.revoked), (list.issuer, list.this_update, list.revoked));
}

/// A table.
pub fn csv(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(rows) = muster::wire::csv::parse(text) {
        assert!(rows.windows(2).all(|pair| matches!(pair, [one, next] if one.line < next.line)));
    }
}

/// An address that was read is written in a form that names the same node.
pub fn locuri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for name in child_names(text) {
        assert_eq!(child_names(&encode_name(&name)), [name]);
    }
    if let Ok(uri) = LocUri::parse(text) {
        let again = LocUri::parse(&uri.to_string());
        assert_eq!(again.as_ref(), Ok(&uri));
        assert_eq!(again.map(|again| again.scope()), Ok(uri.scope()));
    }
}

/// Enrolment messages of both directions.
pub fn mde(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        if let Ok(discover) = Discover::decode(&request.body) {
            let again = Request::decode(&discover.encode("m", "t")).and_then(|again| Discover::decode(&again.body));
            assert_eq!(again, Ok(discover));
        }
        let _ = GetPolicies::decode(&request.body);
        if let Ok(token) = RequestToken::decode(&request.body) {
            let again = Request::decode(&token.encode("m", "t", &Security::None));
            assert!(again.is_ok_and(|again| RequestToken::decode(&again.body).is_ok()));
        }
    }
    if let Ok(Answer { body: Ok(body), .. }) = Answer::decode(data) {
        let _ = DiscoverResult::decode(&body);
        let _ = Policy::decode(&body);
        let _ = wstep::decode_answer(&body);
    }
}

/// A request about a certificate's status.
pub fn ocsp(data: &[u8]) {
    if let Ok(request) = ocsp::Request::parse(data) {
        let ids: Vec<_> = request.certificates.iter().map(|id| id.raw.clone()).collect();
        assert_eq!(ocsp::Request::parse(&ocsp::Request::der(&ids, request.nonce.as_deref())), Ok(request));
    }
}

/// Query options, and filters; what was read is held against an object.
pub fn odata(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (moment(text), Query::parse(text));
    if let Ok(filter) = Expr::parse(text) {
        let object = r#"{"a": null, "b": 1, "c": "2026-01-01T00:00:00Z", "x": [{"name": "a"}, "b"]}"#;
        let _ = fits(&filter, &object.parse().expect("an object"));
    }
}

/// A certificate request.
pub fn pkcs10(data: &[u8]) {
    if let Ok(request) = pkcs10::Request::parse(data) {
        let _ = request.verify();
    }
}

/// Property lists are read within their limits, in both forms, and what is read is written and read again.
pub fn plist(data: &[u8]) {
    let Ok(value) = decode(data, Limits::MESSAGE) else { return };
    let wide = Limits { bytes: usize::MAX, ..Limits::RESULT };
    let again = decode(&encode(&value), wide).expect("what was written is read");
    assert_eq!(encode(&again), encode(&value));
}

/// A condition of a declaration.
pub fn predicate(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = predicate::check(text);
    }
}

/// A provisioning document that was read is written as one that is read again.
pub fn provisioning(data: &[u8]) {
    if let Ok(document) = Document::decode(data) {
        let _ = Document::decode(&document.encode());
    }
}

/// A public key that was read is written as one that is the same.
pub fn public_key(data: &[u8]) {
    let _ = public_key_bits(data);
    let Some(key) = public_key::read(data) else { return };
    if let Ok(der) = key.public_key_to_der() {
        assert!(public_key::read(&der).is_some_and(|again| again.public_eq(&key)));
    }
}

/// A SCEP message, as it comes by POST and by GET.
pub fn scep(data: &[u8]) {
    if let Ok(message) = Message::parse(data) {
        let _ = message.verify();
    }
    let _ = decode_get_message(data);
    let _ = read_issuer_and_serial(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let capabilities = Capabilities::parse(text);
        assert_eq!(Capabilities::parse(&capabilities.text()).text(), capabilities.text());
    }
}

/// A filter, a query, a path and a change of users and groups, whatever stands in it.
pub fn scim(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Wanted::parse(text);
    for resource in RESOURCES {
        let _ = filter::parse(resource, text);
        let Ok(body) = text.parse() else { continue };
        let read = Changes::of_whole(resource, &body).map(|(document, _)| document);
        if let (Ok(changes), Ok(mut document)) = (Changes::parse(resource, &body), read) {
            let _ = changes.apply(&mut document);
        }
    }
}

/// A security event token.
pub fn set(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = Token::decode(text) {
        assert_eq!(Token::decode(&compact(&token.signed, &token.signature)), Ok(token));
    }
}

/// A message is read, written and read again, and the session answers it.
pub fn syncml(data: &[u8]) {
    let Ok(message) = SyncMl::decode(data) else { return };
    let bytes = message.encode();
    if bytes.len() <= MAX_BYTES {
        assert_eq!(SyncMl::decode(&bytes).as_ref(), Ok(&message));
    }
    let device = message.header.source.uri.clone();
    for shared in [false, true] {
        let context = Context { device_id: &device, proven: Proven::Certificate, shared };
        if let Ok((session, _)) = Session::start(&message).receive(message.clone(), &context) {
            let (_, answer, failed) = session.respond(&Manners::default());
            assert!(failed.is_empty());
            assert!(answer.encode().len() <= Manners::default().message_bytes);
        }
    }
}

/// A tree of elements is read within its limits, and its texts survive being escaped.
pub fn xml(data: &[u8]) {
    if let Ok(root) = Element::parse(data, xml::Limits::SOAP) {
        let text = root.text();
        assert_eq!(escaped(&text).len(), escaped_len(&text));
    }
    let Ok(mut reader) = Reader::new(data, xml::Limits::SOAP) else { return };
    while let Ok(token) = reader.next() {
        if matches!(token, xml::Token::End) {
            break;
        }
    }
}
