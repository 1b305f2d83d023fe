//! What devices are called by.

use serde_json::json as value;

use crate::cli::{json, refused};
use crate::cli_orders::{made, put_device};

#[test]
fn certificates_are_found_by_the_name_of_their_device() {
    let folder = made();
    let path = folder.path();
    put_device(path, "PC-1", "10.0.22631.1");
    put_device(path, "PC-2", "10.0.22631.1");
    put_device(path, "PC-2", "10.0.22631.1");
    let id = json(path, &["device", "show", "PC-1"])["id"].as_str().unwrap().to_owned();
    for device in ["PC-1", "S-PC-1", &id] {
        assert_eq!(json(path, &["ca", "certificates", "--device", device]), value!([]));
        assert_eq!(json(path, &["ca", "revoke", "--device", device])["revoked"], 0);
    }
    let ana = json(path, &["user", "show", "ana@example.org"])["id"].as_str().unwrap().to_owned();
    assert_eq!(json(path, &["ca", "revoke", "--user", &ana])["revoked"], 0);
    let said = refused(path, &["ca", "certificates", "--device", "PC-2"]);
    assert!(said.contains("several devices are called \"PC-2\"") && said.contains(" or "), "{said}");
    assert_eq!(json(path, &["enroll", "windows", "--user", &ana])["user"], "ana@example.org");
}

#[test]
fn a_device_that_names_itself_by_the_serial_number_of_another_is_not_taken_for_it() {
    let folder = made();
    let path = folder.path();
    put_device(path, "PC-1", "10.0.22631.1");
    let own = json(path, &["device", "show", "S-PC-1"])["id"].as_str().unwrap().to_owned();
    put_device(path, "S-PC-1", "10.0.22631.1");
    let impostor = json(path, &["device", "show", "S-S-PC-1"])["id"].as_str().unwrap().to_owned();
    let key = openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let request =
        muster::wire::pkcs10::build(&muster::wire::pkcs10::Wish::common_name("a"), &key, muster::wire::cms::Digest::Sha256).unwrap();
    std::fs::write(path.join("pc.pem"), openssl::x509::X509Req::from_der(&request).unwrap().to_pem().unwrap()).unwrap();
    for order in [
        &["device", "show", "S-PC-1"][..],
        &["device", "explain", "S-PC-1"],
        &["device", "retire", "S-PC-1"],
        &["device", "secret", "S-PC-1"],
        &["ca", "certificates", "--device", "S-PC-1"],
        &["ca", "revoke", "--device", "S-PC-1"],
        &["ca", "issue", "--csr", "pc.pem", "--subject", "CN=a", "--device", "S-PC-1"],
    ] {
        let said = refused(path, order);
        assert!(said.contains("several devices are called") && said.contains(&own) && said.contains(&impostor), "{order:?}: {said}");
    }
    assert_eq!(json(path, &["device", "show", &own])["id"], own.as_str());
}
