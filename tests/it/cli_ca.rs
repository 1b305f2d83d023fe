//! `muster ca` through the program: certificates page by page, and authorities that are revoked, paused or wait.

use std::path::Path;

use serde_json::Value;

use crate::cli::{json, refused, run};
use crate::cli_orders::{column, made};

fn issue(path: &Path, names: &[&str]) {
    let key = openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let request =
        muster::wire::pkcs10::build(&muster::wire::pkcs10::Wish::common_name("a"), &key, muster::wire::cms::Digest::Sha256).unwrap();
    std::fs::write(path.join("a.pem"), openssl::x509::X509Req::from_der(&request).unwrap().to_pem().unwrap()).unwrap();
    for name in names {
        json(path, &["ca", "issue", "--csr", path.join("a.pem").to_str().unwrap(), "--subject", name]);
    }
}

#[test]
fn certificates_are_listed_page_by_page_and_found_by_subject_and_serial_number() {
    let folder = made();
    let path = folder.path();
    issue(path, &["CN=printer 1", "CN=printer 2", "CN=Printer 3", "CN=server"]);
    let page = json(path, &["ca", "certificates", "--limit", "2"]);
    assert_eq!(column(&page, "subject"), ["CN=server", "CN=Printer 3"]);
    assert_eq!(
        (&page[0]["more"], &page[1]["more"]),
        (&Value::Null, &Value::String(format!("--before {}, or --limit", column(&page, "id")[1])))
    );
    let last = column(&page, "id").pop().unwrap();
    let text = String::from_utf8(run(path, &["ca", "certificates", "--limit", "2"]).stdout).unwrap();
    assert!(text.ends_with(&format!("(there are more: --before {last}, or --limit)\n")), "{text}");
    let next = json(path, &["ca", "certificates", "--limit", "2", "--before", &last]);
    assert_eq!(column(&next, "subject"), ["CN=printer 2", "CN=printer 1"]);
    let first = column(&next, "id").pop().unwrap();
    let later = json(path, &["ca", "certificates", "--limit", "2", "--after", &first]);
    assert_eq!(column(&later, "subject"), ["CN=printer 2", "CN=Printer 3"], "oldest first");
    let text = String::from_utf8(run(path, &["ca", "certificates", "--limit", "2", "--after", &first]).stdout).unwrap();
    assert!(text.contains("(there are more: --after "), "{text}");
    let printers = json(path, &["ca", "certificates", "--subject", "CN=printer"]);
    assert_eq!(column(&printers, "subject"), ["CN=printer 2", "CN=printer 1"]);
    assert!(refused(path, &["ca", "certificates", "--limit", "1001"]).contains("1000"));
    assert!(refused(path, &["ca", "certificates", "--before", "x"]).contains("id of a certificate"));
    // As openssl, browsers and other programs print it.
    let serial = column(&printers, "serial").remove(0);
    let pairs: Vec<String> = serial.as_bytes().chunks(2).map(|pair| String::from_utf8(pair.to_ascii_uppercase()).unwrap()).collect();
    for printed in [format!("serial={}", serial.to_uppercase()), format!("0x{serial}"), pairs.join(":"), pairs.join(" ")] {
        assert_eq!(column(&json(path, &["ca", "certificates", "--serial", &printed]), "subject"), ["CN=printer 2"], "{printed}");
        assert_eq!(json(path, &["ca", "show", &printed])["serial"], serial.as_str(), "{printed}");
    }
    assert!(refused(path, &["ca", "show", &format!("{serial}z")]).contains("authority or certificate"));
    json(path, &["ca", "revoke", &pairs.join(":")]);
    assert_eq!(json(path, &["ca", "show", &serial])["status"], "revoked");
}

#[test]
fn a_root_is_not_revoked_and_an_issuing_authority_only_by_somebody_who_knows_what_falls() {
    let folder = made();
    let path = folder.path();
    issue(path, &["CN=printer 1", "CN=printer 2"]);
    let said = refused(path, &["ca", "revoke", "root", "--yes"]);
    assert!(said.contains("CRT0051") && said.contains("a root cannot be revoked"), "{said}");
    let own = json(path, &["ca", "certificates", "--subject", "O="]);
    let own = own.as_array().unwrap().iter().find(|row| row["purpose"] == "authority" && row["authority"] == "root").unwrap();
    for name in ["issuing", own["serial"].as_str().unwrap()] {
        let said = refused(path, &["ca", "revoke", name]);
        assert!(said.contains("CRT0053") && said.contains("fall with it: 2"), "{said}");
    }
    let paused = json(path, &["ca", "pause", "issuing"]);
    assert!(paused["warning"].as_str().unwrap().contains("no authority issues now"), "{paused}");
    assert_eq!(json(path, &["ca", "activate", "issuing"])["warning"], Value::Null);
    let revoked = json(path, &["ca", "revoke", "issuing", "--yes", "--reason", "cessation-of-operation"]);
    assert_eq!((revoked["revoked"].as_i64(), revoked["fallen"].as_i64()), (Some(1), Some(2)));
}

#[test]
fn an_authority_that_waits_for_its_certificate_says_so_and_can_be_discarded() {
    let folder = made();
    let path = folder.path();
    let request = |name| ["ca", "create", name, "--common-name", "Outer CA", "--key", "p-256", "--csr"];
    json(path, &request("outer"));
    let below = ["ca", "create", "outer", "--common-name", "Outer CA", "--key", "p-256", "--parent", "root"];
    for order in [&request("outer")[..], &below, &["ca", "pause", "outer"], &["ca", "crl", "outer"], &["ca", "export", "outer"]] {
        let said = refused(path, order);
        assert!(said.contains("CRT0052") && said.contains("waits for its certificate") && !said.contains("authority_requests"), "{said}");
    }
    assert!(refused(path, &request("issuing")).contains("CRT0048"));
    assert_eq!(json(path, &["ca", "revoke", "outer"])["discarded"], "outer");
    assert!(!column(&json(path, &["ca", "list"]), "name").contains(&"outer".to_owned()));
    assert_eq!(column(&json(path, &["audit", "list", "--action", "authority.discard"]), "action").len(), 1);
    assert!(refused(path, &["ca", "revoke", "outer"]).contains("authority or certificate \"outer\""));
    json(path, &request("outer"));
}

#[test]
fn doctor_warns_three_months_before_the_authority_that_issues_ends() {
    let folder = made();
    let path = folder.path();
    let said = || {
        let found: Value = serde_json::from_slice(&run(path, &["doctor", "--json"]).stdout).unwrap();
        let found = found.as_array().unwrap().iter().find(|f| f["check"] == "issuing ca").unwrap().clone();
        (found["state"].as_str().unwrap().to_owned(), found["finding"].as_str().unwrap().to_owned())
    };
    json(path, &["ca", "create", "later", "--common-name", "Later CA", "--parent", "root", "--key", "p-256", "--days", "92"]);
    json(path, &["ca", "create", "soon", "--common-name", "Soon CA", "--parent", "root", "--key", "p-256", "--days", "89"]);
    json(path, &["ca", "pause", "issuing"]);
    let (state, finding) = said();
    assert!(state == "ok" && finding.starts_with("later issues"), "{finding}");
    json(path, &["ca", "pause", "later"]);
    let (state, finding) = said();
    assert!(state == "warning" && finding.contains("soon ends in 8") && finding.contains("muster ca create"), "{state}: {finding}");
}

#[test]
fn a_vendors_certificate_that_apple_did_not_make_is_refused_by_name() {
    let folder = made();
    let path = folder.path();
    let key = openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(path.join(name), text).unwrap();
    write("vendor.key", &key.private_key_to_pem_pkcs8().unwrap());
    let refused_with = |chain: &[u8], why: &str| {
        write("chain.pem", chain);
        let said = refused(path, &["apple", "push-csr", "--vendor-key", "vendor.key", "--vendor-chain", "chain.pem"]);
        assert!(said.contains("APN0004") && said.contains(why), "{said}");
    };
    let mut own = openssl::x509::X509::builder().unwrap();
    own.set_version(2).unwrap();
    own.set_serial_number(&openssl::bn::BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    own.set_not_before(&openssl::asn1::Asn1Time::days_from_now(0).unwrap()).unwrap();
    own.set_not_after(&openssl::asn1::Asn1Time::days_from_now(1).unwrap()).unwrap();
    own.set_pubkey(&key).unwrap();
    own.sign(&key, openssl::hash::MessageDigest::sha256()).unwrap();
    refused_with(&own.build().to_pem().unwrap(), "signed by itself");

    let wish = muster::wire::pkcs10::Wish::common_name("Vendor");
    let request = muster::wire::pkcs10::build(&wish, &key, muster::wire::cms::Digest::Sha256).unwrap();
    write("vendor.csr", &openssl::x509::X509Req::from_der(&request).unwrap().to_pem().unwrap());
    let issued = json(path, &["ca", "issue", "--csr", "vendor.csr", "--subject", "CN=Vendor"]);
    let chain = json(path, &["ca", "export", "issuing", "--chain"]);
    let whole = [issued.as_str().unwrap(), chain.as_str().unwrap(), json(path, &["ca", "export", "root"]).as_str().unwrap()].concat();
    refused_with(whole.as_bytes(), "this server's own authority");
}
