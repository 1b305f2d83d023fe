//! Certificates, revocation lists and OCSP answers before an outside judge of form: pkilint, with its rules of RFC 5280 and RFC 6960.
//! `scripts/pkilint` installs it; where it cannot be had, OpenSSL alone judges, in the tests beside.

use super::*;

/// Names without a dot are none to pkilint: the addresses in certificates have one.
async fn house(algorithm: KeyAlgorithm) -> House {
    let mut server = Server::tweaked(move |c| {
        c.ca.key_algorithm = algorithm.to_string();
        c.pki.url = Some("http://pki.example.org".into());
        c.web.url = Some("https://muster.example.org".into());
        c.device.url = Some("https://mdm.example.org".into());
    })
    .await;
    server.pki = format!("http://{}", server.app.config.pki.listen);
    House::on(server).await
}

/// What it finds, notes of mere interest aside; `None` where it is not installed. That `localhost` has no dot is known.
fn lint(program: &str, arguments: &[&str], file: &Path) -> Option<Vec<String>> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pkilint/bin").join(program);
    if !program.is_file() {
        eprintln!("not judged: pkilint is not installed (scripts/pkilint)");
        return None;
    }
    let said = Command::new(program).arg("lint").args(arguments).args(["-s", "NOTICE"]).arg(file).output().unwrap();
    assert!(said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
    // A line that says where, and one below it, indented, for each thing that is found there.
    let text = String::from_utf8(said.stdout).unwrap();
    let found = text.lines().filter(|line| {
        line.starts_with(' ') && !line.contains("invalid_domain_name_syntax (ERROR): Invalid domain name syntax: \"localhost\"")
    });
    Some(found.map(|line| line.trim().to_owned()).collect())
}

fn clean(program: &str, arguments: &[&str], file: &Path) {
    if let Some(found) = lint(program, arguments, file) {
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_authority_signs_is_in_the_form_of_the_standards() {
    for algorithm in [KeyAlgorithm::Rsa3072, KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let house = house(algorithm).await;
        for authority in ["root.pem", "issuing.pem"] {
            clean("lint_pkix_cert", &[], &house.path(authority));
        }
        let mut own: Vec<_> = house.issuing.service_keys.iter().map(|key| (key.purpose.to_string(), key.certificate.clone())).collect();
        assert!(own.len() >= 3, "{own:?}");
        let names = vec![
            San::Dns("pc.example.org".into()),
            San::Email("ana@example.org".into()),
            San::Upn("ana@example.org".into()),
            San::Uri("https://pc.example.org/1".into()),
        ];
        let leaf = house.issue(&Grant { sans: names, ..device() }).await;
        own.push(("leaf".into(), leaf.der.clone()));
        for (name, der) in &own {
            let file = format!("{name}.lint.pem");
            house.write(&file, authority::pem(der).as_bytes());
            clean("lint_pkix_cert", &[], &house.path(&file));
        }
        house.revoke(&leaf, RevocationReason::KeyCompromise).await;
        crl::due(&house.server.app).await.unwrap();
        for name in ["root", "issuing"] {
            let list = house.get(&format!("/crl/{name}.crl")).await.bytes().await.unwrap();
            let file = format!("{name}.lint.crl");
            house.write(&file, &list);
            clean("lint_crl", &["-t", "CRL", "-p", "PKIX"], &house.path(&file));
        }
        let _ = house.ask(&leaf.der, &["-no_nonce", "-respout", "answer.der"]).await;
        clean("lint_ocsp_response", &[], &house.path("answer.der"));
    }
}

#[test]
fn the_judge_finds_what_is_wrong() {
    let key = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let mut made = openssl::x509::X509::builder().unwrap();
    made.set_version(2).unwrap();
    made.set_pubkey(&key).unwrap();
    // Neither serial number nor names nor extensions.
    made.set_not_before(&openssl::asn1::Asn1Time::days_from_now(0).unwrap()).unwrap();
    made.set_not_after(&openssl::asn1::Asn1Time::days_from_now(1).unwrap()).unwrap();
    made.sign(&key, openssl::hash::MessageDigest::sha256()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.pem");
    std::fs::write(&file, made.build().to_pem().unwrap()).unwrap();
    if let Some(found) = lint("lint_pkix_cert", &[], &file) {
        assert!(found.iter().any(|line| line.contains("ERROR")), "{found:?}");
    }
}
