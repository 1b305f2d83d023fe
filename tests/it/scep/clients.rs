//! Clients from outside: strongSwan's `pki`, certmonger, and OpenSSL as the judge.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use muster::domain::certificate::{Grant, San};
use muster::service::pki::authority;
use openssl::x509::X509;

use super::{grant, issued, mint, start};
use crate::support::server::{Options, Server};
use crate::support::tools;

/// A server with SCEP over plain HTTP, as the clients trust no TLS root of ours, and with such keys of its authorities.
async fn plain(algorithm: &'static str) -> Server {
    let tweak = Box::new(move |config: &mut muster::config::Config| {
        config.ca.key_algorithm = algorithm.into();
        config.scep.plain_http = true;
        config.scep.renewal_percent = 100;
    });
    let server = start(Options { tweak, system_clock: true, ..Options::default() }).await;
    let chain = authority::issuing(&server.app).await.unwrap().chain.clone();
    for (name, der) in ["issuing.pem", "root.pem"].iter().zip(&chain) {
        let pem = X509::from_der(der).unwrap().to_pem().unwrap();
        std::fs::write(server.folder().join(name), pem).unwrap();
    }
    server
}

async fn run(program: PathBuf, folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).env("HOME", folder);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn success(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

/// OpenSSL says that the certificate chains to the root.
async fn chains(folder: &Path, file: &str) {
    let Some(openssl) = tools::find("openssl", "openssl") else { return };
    success(&run(openssl, folder, &["verify", "-CAfile", "root.pem", "-untrusted", "issuing.pem", file]).await);
}

const HOST: &str = "pc1.example.org";
const MAIL: &str = "ana@example.org";

/// What the clients are granted.
fn named() -> Grant {
    let mut named = grant("PC 1");
    named.sans = vec![San::Dns(HOST.into()), San::Email(MAIL.into())];
    named
}

/// The certificate in a file chains to the root and has what was granted, and nothing else.
async fn is_as_granted(folder: &Path, file: &str) {
    chains(folder, file).await;
    let certificate = X509::from_pem(&std::fs::read(folder.join(file)).unwrap()).unwrap();
    let names = certificate.subject_alt_names().unwrap();
    let names: Vec<_> = names.iter().map(|name| (name.dnsname(), name.email())).collect();
    assert_eq!(names, [(Some(HOST), None), (None, Some(MAIL))], "{file}");
    let subject: Vec<_> = certificate.subject_name().entries().map(|entry| entry.data().to_string().unwrap()).collect();
    assert_eq!(subject, ["PC 1"], "{file}");
    let text = String::from_utf8(certificate.to_text().unwrap()).unwrap();
    let value = |name: &str| text.lines().skip_while(|line| !line.contains(name)).nth(1).unwrap_or_default().trim().to_owned();
    assert_eq!(value("X509v3 Extended Key Usage"), "TLS Web Client Authentication", "{file}");
    assert_eq!(value("X509v3 Key Usage"), "Digital Signature, Key Encipherment", "{file}");
    assert_eq!(value("X509v3 Basic Constraints"), "CA:FALSE", "{file}");
}

/// The cipher that the installed strongSwan can be told to use: 5.9.8 says "not supported by CA" to AES whatever the CA says.
async fn cipher(pki: &Path, folder: &Path) -> &'static str {
    let help = run(pki.to_owned(), folder, &["--scep", "--help"]).await;
    let text = [help.stdout, help.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let version = text.split("strongSwan ").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    if version.is_some_and(|version| version >= 6) { "aes" } else { "des3" }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_4_strongswan_learns_enrols_and_renews() {
    strongswan("p-256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_4_strongswan_learns_enrols_and_renews_with_an_authority_of_rsa_3072() {
    strongswan("rsa-3072").await;
}

async fn strongswan(algorithm: &'static str) {
    let Some(pki) = tools::find("pki", "strongswan-pki") else { return };
    let server = plain(algorithm).await;
    let folder = server.folder();
    let cipher = cipher(&pki, folder).await;
    let url = format!("{}/scep/issuing", server.pki);
    let learnt = run(pki.clone(), folder, &["--scepca", "--url", &url, "--caout", "ca", "--raout", "ra", "--outform", "pem"]).await;
    success(&learnt);
    assert!(String::from_utf8_lossy(&learnt.stderr).contains("RA cert \""), "{}", String::from_utf8_lossy(&learnt.stderr));
    let made = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.file_name().into_string().unwrap()).collect::<Vec<_>>();
    let registration = made.iter().find(|name| name.starts_with("ra")).unwrap_or_else(|| panic!("{made:?}")).clone();
    let key = super::rsa(2048).private_key_to_pem_pkcs8().unwrap();
    std::fs::write(folder.join("key.pem"), key).unwrap();
    let challenge = mint(&server.app, named(), false).await;
    let common = ["--cacert-enc", &registration, "--cacert-sig", &registration, "--cacert", "issuing.pem", "--cacert", "root.pem"];
    let mut args = vec!["--scep", "--url", &url, "--in", "key.pem", "--dn", "CN=PC 1", "--password", &challenge, "--cipher", cipher];
    args.extend(["--san", HOST, "--san", MAIL]);
    args.extend(common);
    args.extend(["--outform", "pem"]);
    let enrolled = run(pki.clone(), folder, &args).await;
    success(&enrolled);
    std::fs::write(folder.join("cert.pem"), &enrolled.stdout).unwrap();
    is_as_granted(folder, "cert.pem").await;

    let key = super::rsa(2048).private_key_to_pem_pkcs8().unwrap();
    std::fs::write(folder.join("new.pem"), key).unwrap();
    let mut args = vec!["--scep", "--url", &url, "--in", "new.pem", "--dn", "CN=PC 1", "--cipher", cipher, "--digest", "sha512"];
    args.extend(["--san", HOST, "--san", MAIL]);
    args.extend(["--cert", "cert.pem", "--key", "key.pem"]);
    args.extend(common);
    args.extend(["--outform", "pem"]);
    let renewed = run(pki, folder, &args).await;
    success(&renewed);
    std::fs::write(folder.join("renewed.pem"), &renewed.stdout).unwrap();
    is_as_granted(folder, "renewed.pem").await;
    assert_eq!(issued(&server.app).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_4_certmonger_enrols_and_renews() {
    certmonger("p-256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_4_certmonger_enrols_and_renews_with_an_authority_of_rsa_3072() {
    certmonger("rsa-3072").await;
}

async fn certmonger(algorithm: &'static str) {
    let programs = ["getcert", "dbus-run-session"].map(|program| tools::find(program, "certmonger, dbus"));
    let [Some(_), Some(dbus)] = programs else { return };
    let Some(daemon) = tools::find("certmonger-session", "certmonger") else { return };
    let server = plain(algorithm).await;
    let folder = server.folder();
    let registration = X509::from_der(&super::registration(&server.app).await).unwrap();
    std::fs::write(folder.join("ra.pem"), registration.to_pem().unwrap()).unwrap();
    let (first, second) = (mint(&server.app, named(), false).await, mint(&server.app, named(), false).await);
    let f = folder.display();
    let script = format!(
        "{daemon} -n >daemon.log 2>&1 & daemon=$!
         for n in 1 2 3 4 5 6 7 8 9 10; do getcert list-cas -s >/dev/null 2>&1 && break; done
         set -e
         trap 'kill $daemon' EXIT
         getcert add-scep-ca -s -c muster -u {url} -R {f}/root.pem -r {f}/ra.pem -N {f}/issuing.pem
         getcert request -s -c muster -k {f}/key.pem -f {f}/cert.pem -N 'CN=PC 1' -D {HOST} -E {MAIL} -U id-kp-clientAuth -L '{first}' -w -v
         cp {f}/cert.pem {f}/first.pem
         getcert rekey -s -f {f}/cert.pem -L '{second}' -w -v
         getcert list -s
         ",
        daemon = daemon.display(),
        url = format_args!("{}/scep/issuing", server.pki),
    );
    let output = run(dbus, folder, &["--", "sh", "-c", &script]).await;
    let log = std::fs::read_to_string(folder.join("daemon.log")).unwrap_or_default();
    let told = format!("{}\n{}\n{log}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    is_as_granted(folder, "first.pem").await;
    is_as_granted(folder, "cert.pem").await;
    assert_ne!(std::fs::read(folder.join("first.pem")).unwrap(), std::fs::read(folder.join("cert.pem")).unwrap(), "{told}");
    assert_eq!(issued(&server.app).await, 2, "{told}");
}
