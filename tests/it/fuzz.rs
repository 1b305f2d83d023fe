//! Every fuzz target, briefly: from messages as they should be, changed at random. `make fuzz` does the same for longer and steered by what
//! the code does.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use muster::clock::{Clock as _, SystemClock};
use muster::wire::asn1::{context, context_primitive, sequence, tlv};
use muster::wire::cms::{CertificateView, Cipher, Digest, Signer, seal};
use muster::wire::crl::{Revoked, ToBeSigned};
use muster::wire::pkcs10::{Wish, build};
use muster::wire::provisioning::{Document, Store};
use muster::wire::scep::{MessageType, PkiRequest};
use muster::wire::x509::{GeneralName, Parts, SignatureAlgorithm, signed};
use muster::wire::{ocsp, set};

use crate::support::ca::Ca;
use crate::support::tools;
use crate::support::windows::key;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// Longest input.
const LONGEST: usize = 64 * 1024;
/// What formats take for special.
const WORDS: [&[u8]; 12] = [
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x30\x80",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x02\x01\x00",
    b"<![CDATA[",
    b"&#x0;",
    b"%25",
    b"xmlns:a=\"b\"",
    b"<key>",
    b"..",
    b"\xf0\x9f\x94\x91",
];

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// A part of something that is `length` long.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.below(length + 1);
        from..from + self.below((length - from).min(64) + 1)
    }

    /// A seed that was changed in a few places.
    fn changed(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len() + 1);
            match self.below(7) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = self.below(256) as u8,
                2 => drop(input.drain(self.part(input.len()))),
                3 => {
                    let part = input[self.part(input.len())].to_vec();
                    input.splice(at..at, part);
                }
                4 => {
                    let other = &seeds[self.below(seeds.len())];
                    input.splice(at..at, other[self.part(other.len())].to_vec());
                }
                5 => drop(input.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied())),
                _ if self.below(8) == 0 => input.truncate(at),
                _ => {}
            }
        }
        input.truncate(LONGEST);
        input
    }
}

fn files(folder: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(std::fs::read(path).unwrap());
        }
    }
}

/// Messages as they should be, for targets without a folder of golden files.
fn made() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let ca = Ca::new("Fuzzed");
    let (leaf, root) = (ca.leaf("leaf", &["leaf.example.org".into(), "192.0.2.1".into()]), ca.root.to_der().unwrap());
    let (rsa, certificate) = (key(), leaf.certificate.to_der().unwrap());
    let parts = Parts::parse(&certificate).unwrap();
    let wish = Wish {
        san: vec![muster::wire::pkcs10::GeneralName::Dns("a.example.org".into()), muster::wire::pkcs10::GeneralName::Upn("a@b".into())],
        key_usage: Some(5),
        challenge: Some("secret".into()),
        ..Wish::common_name("Name")
    };
    let request = build(&wish, &rsa, Digest::Sha256).unwrap();

    let signer = Signer { certificate: &certificate, key: &rsa, digest: Digest::Sha256 };
    let body = sequence(&[&request]);
    let content = cms_seal(&rsa, &body);
    let pki = PkiRequest { message_type: MessageType::PkcsReq, transaction_id: "T1", sender_nonce: &[7; 16], content: &content };
    let pki = pki.sign(&signer).unwrap();

    let algorithm = SignatureAlgorithm::EcdsaSha256;
    let revoked = [Revoked { serial: vec![1, 2], at: 1_700_000_000, reason: 4 }, Revoked { serial: vec![3], at: 1_800_000_000, reason: 0 }];
    let list = ToBeSigned {
        algorithm,
        issuer: parts.issuer,
        issuer_key: &[1; 20],
        number: 300,
        this_update: 1_700_000_000,
        next_update: 2_600_000_000,
        revoked: &revoked,
    };

    let subtrees = |bases: &[Vec<u8>]| bases.iter().flat_map(|base| sequence(&[base])).collect::<Vec<u8>>();
    let permitted = [
        GeneralName::Dns("example.org").der(),
        GeneralName::Email(".example.org").der(),
        GeneralName::Uri(".example.org").der(),
        GeneralName::Upn("@example.org").der(),
        tlv(context(4), parts.subject),
    ];
    let excluded = [tlv(context_primitive(7), &[10, 0, 0, 0, 255, 0, 0, 0]), tlv(context_primitive(7), &[0; 32])];
    let constraints = sequence(&[&tlv(context(0), &subtrees(&permitted)), &tlv(context(1), &subtrees(&excluded))]);

    let ids: Vec<Vec<u8>> = [ocsp::Hash::Sha1, ocsp::Hash::Sha256].map(|hash| ocsp::cert_id(hash, &[1; 20], &[2; 20], &[3, 4])).into();
    let provisioning = Document {
        root: Some(root.clone()),
        intermediate: None,
        certificate: certificate.clone(),
        store: Store::User,
        provider_id: "Muster".into(),
        management: None,
    };
    let claims = set::Claims {
        iss: "https://a.example".into(),
        aud: "urn:a".into(),
        iat: 1_700_000_000,
        jti: "j".into(),
        txn: None,
        sub_id: set::Subject::Simple(set::Simple::Opaque { id: "o".into() }),
        event: set::Event::verification(None),
    };
    let set = set::compact(&set::signing_input("k", &claims), &[5; 256]);

    let plist = |body: &str| format!("<plist version=\"1.0\"><dict><key>MessageType</key><string>{body}</dict></plist>").into_bytes();
    let apple = vec![
        plist("Authenticate</string><key>Topic</key><string>com.apple.mgmt.a</string><key>UDID</key><string>U</string>"),
        plist(
            "TokenUpdate</string><key>Topic</key><string>com.apple.mgmt.a</string><key>UDID</key><string>U</string><key>Token</key>\
             <data>AAAA</data><key>PushMagic</key><string>M</string>",
        ),
        b"<plist version=\"1.0\"><dict><key>Status</key><string>Idle</string><key>UDID</key><string>U</string></dict></plist>".to_vec(),
        br#"{"StatusItems":{"device":{"operating-system":{"version":"15.0"}}},"Errors":[]}"#.to_vec(),
    ];
    let mut plists = apple.clone();
    plists.push(
        b"bplist00\xd1\x01\x02Sone\x10\x01\x08\x0b\x0f\0\0\0\0\0\0\x01\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x11".to_vec(),
    );
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    BTreeMap::from([
        ("apple", apple),
        ("certificate", vec![certificate.clone(), root]),
        ("cms", vec![pki.clone(), content]),
        ("constraints", vec![constraints]),
        ("crl", vec![signed(&list.der(), algorithm, &[9; 70])]),
        ("csv", texts(&["\u{feff}a;b\r\n\"1;\"\"2\";3\r\n", "a,b\n\n\"1\n2\",\n", "a\tb\n1\t2"])),
        ("locuri", texts(&["./Device/Vendor/MSFT/Policy/Config/Area/Name", "./User/Vendor/MSFT/A%2FB/C?list=Struct", "a%2Fb/c"])),
        ("ocsp", vec![ocsp::Request::der(&ids, Some(&[8; 16])), ocsp::Request::der(&ids, None)]),
        (
            "odata",
            texts(&[
                "not (a eq 'Windows' and x/any(v:startsWith(v/name,'a')) or b in (1,null)) and c ge 2026-01-01T00:00:00Z",
                "$select=id,a&$filter=b gt 3&$orderby=a desc,b&$expand=c($select=e;$expand=f)&$search=%22a:b%22 OR %22c%22&top=5",
            ]),
        ),
        ("pkcs10", vec![request]),
        ("plist", plists),
        ("predicate", texts(&["@status(device.operating-system.family) == 'macOS' AND NOT (@property(a) IN {1, 2.5})", "ANY a.b > 1"])),
        ("provisioning", vec![provisioning.encode()]),
        ("public_key", vec![rsa.public_key_to_der().unwrap(), leaf.key.public_key_to_der().unwrap()]),
        ("scep", vec![pki, b"AES\nPOSTPKIOperation\nSCEPStandard\n".to_vec(), b"MIIB%2Bw%3D%3D".to_vec()]),
        (
            "scim",
            texts(&[
                "not (emails[type eq \"work\" and value co \"@x\"] or userName sw \"a\") and meta.created gt \"2026-01-01T00:00:00Z\"",
                "startIndex=1&count=2&attributes=name.givenName,emails&excludedAttributes=members&filter=title%20pr",
                r#"{"userName": "a", "emails": [{"value": "b", "type": "work"}], "Operations": [
                    {"op": "Add", "value": {"name.givenName": "c"}},
                    {"op": "replace", "path": "emails[type eq \"work\"].value", "value": "d"},
                    {"op": "remove", "path": "members[value eq \"e\"]"}]}"#,
            ]),
        ),
        ("set", vec![set.into_bytes()]),
        ("xml", texts(&["<a xmlns=\"b\" c='d'>&lt;<e/><![CDATA[f]]><!-- g --></a>"])),
    ])
}

/// A certificate of that key's owner is not needed to read what was sealed for it, only its shape.
fn cms_seal(rsa: &openssl::pkey::PKeyRef<openssl::pkey::Private>, content: &[u8]) -> Vec<u8> {
    let spki = rsa.public_key_to_der().unwrap();
    let recipient = CertificateView { raw: &[], serial: &[1], issuer: &[0x30, 0], subject: &[0x30, 0], spki: &spki, key_identifier: None };
    seal(content, &recipient, Cipher::Aes256, &[1; 32], &[2; 16]).unwrap()
}

#[test]
fn no_input_breaks_a_codec() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = variable("MUSTER_TEST_SEED").unwrap_or(SystemClock.now().0.unsigned_abs());
    let patience = Duration::from_secs(variable("SECONDS_EACH").unwrap_or(1));
    tools::say(&format!("MUSTER_TEST_SEED={seed}"));
    let (mut random, mut made) = (Random(seed | 1), made());
    if let Some(folder) = tools::shared("apple-samples") {
        for target in ["apple", "plist"] {
            files(&folder, made.entry(target).or_default());
        }
    }
    let mut said = Vec::new();
    for (name, body) in targets::TARGETS {
        let mut seeds = made.remove(name).unwrap_or_default();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        if golden.is_dir() {
            files(&golden, &mut seeds);
        }
        assert!(!seeds.is_empty(), "{name} has nothing to start from");
        let run = |input: &[u8]| {
            let broken = catch_unwind(AssertUnwindSafe(|| body(input))).is_err();
            assert!(!broken, "{name} breaks on {}", hex::encode(input));
        };
        for seed in &seeds {
            run(seed);
        }
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < patience {
            run(&random.changed(&seeds));
            count += 1;
        }
        said.push(format!("{name} {count}"));
    }
    tools::say(&format!("changed messages that were read: {}", said.join(", ")));
}

#[test]
fn every_target_has_a_program_of_its_own() {
    let mut programs: Vec<String> = std::fs::read_dir("fuzz/fuzz_targets")
        .unwrap()
        .flatten()
        .map(|entry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    programs.sort();
    assert_eq!(programs, targets::TARGETS.map(|(name, _)| name));
    let manifest = std::fs::read_to_string("fuzz/Cargo.toml").unwrap();
    for name in &programs {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        let text = std::fs::read_to_string(format!("fuzz/fuzz_targets/{name}.rs")).unwrap();
        assert!(text.contains(&format!("muster_fuzz::{name}(data)")), "{name}");
    }
}
