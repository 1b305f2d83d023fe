//! Authorities under an outside root, and authorities that come with their key.

use muster::domain::Refusal;
use muster::secret::Secret;
use muster::service::pki::external::{self, Import};

use super::*;

const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
const BELOW: &str = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

/// Somebody else's authorities, made by `openssl` in a folder.
struct Outside(PathBuf);

impl Outside {
    fn new(server: &Server) -> Self {
        let folder = server.folder().join("outside");
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn openssl(&self, arguments: &str) {
        let (good, said) = run(&arguments.split(' ').map(str::to_owned).collect::<Vec<_>>(), &self.0);
        assert!(good, "{arguments}: {said}");
    }

    /// A self-signed authority with these extensions.
    fn root(&self, name: &str, key: &str, extensions: &str) {
        let dn = "[req]\nprompt=no\ndistinguished_name=dn\n[dn]\n0.DC=com\n1.DC=contoso";
        std::fs::write(self.0.join("root.cnf"), format!("{dn}\nCN={name}\n[ca]\n{extensions}")).unwrap();
        self.openssl(&format!(
            "req -x509 -newkey {key} -nodes -keyout {name}.key -out {name}.pem -days 3650 -config root.cnf -extensions ca"
        ));
    }

    /// An authority below another one.
    fn tier(&self, name: &str, issuer: &str, extensions: &str) {
        self.openssl(&format!("req -new -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /DC=com/DC=contoso/CN={name}"));
        self.sign(&format!("{name}.csr"), name, issuer, extensions, "-days 1000");
    }

    fn sign(&self, request: &str, name: &str, issuer: &str, extensions: &str, more: &str) {
        std::fs::write(self.0.join("sign.cnf"), extensions).unwrap();
        self.openssl(&format!(
            "x509 -req -in {request} -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial -out {name}.pem -extfile sign.cnf {more}"
        ));
    }

    fn pem(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(format!("{name}.pem"))).unwrap()
    }

    fn key(&self, name: &str) -> Secret {
        Secret::new(std::fs::read(self.0.join(format!("{name}.key"))).unwrap())
    }

    fn import(&self, name: &str, certificate: &str, chain: &[&str]) -> Import {
        Import { name: name.into(), certificate: self.pem(certificate), chain: chain.iter().map(|c| self.pem(c)).collect() }
    }

    fn request(&self, der: &[u8]) {
        std::fs::write(self.0.join("ours.csr"), openssl::x509::X509Req::from_der(der).unwrap().to_pem().unwrap()).unwrap();
    }
}

async fn request(house: &House, algorithm: KeyAlgorithm) -> Vec<u8> {
    external::request(&house.server.app, "outer", "Outer CA", algorithm, ACTOR, "local").await.unwrap()
}

/// The reason of a refused certificate.
fn why(result: muster::service::Result<Arc<Authority>>) -> String {
    match result {
        Err(Error::Invalid(refusal, why)) => {
            assert_eq!((refusal, refusal.code()), (Refusal::AuthorityCertificateRefused, "CRT0040"));
            why
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outside_root_signs_our_request_and_everything_verifies() {
    let Some(_) = tools::find("openssl", "openssl") else { return };
    for algorithm in [KeyAlgorithm::Rsa2048, KeyAlgorithm::P384] {
        let house = House::new(KeyAlgorithm::P256).await;
        let (app, outside) = (&house.server.app, Outside::new(&house.server));
        outside.root("corp", "rsa:2048", CA);
        outside.tier("policy", "corp", CA);
        outside.request(&request(&house, algorithm).await);
        let twice = external::request(app, "outer", "Outer CA", algorithm, ACTOR, "local").await;
        assert_eq!(code(&twice.unwrap_err()), "CRT0052");
        // The outside authority calls us something else than we asked for.
        outside.sign("ours.csr", "signed", "policy", BELOW, "-days 900 -subj /DC=com/DC=contoso/OU=b/OU=a/CN=Rewritten");
        house.server.clock.advance(MINUTE);
        let import = outside.import("outer", "signed", &["corp", "policy"]);
        let outer = external::import_certificate(app, import, ACTOR, "local").await.unwrap();
        assert_eq!((outer.kind, outer.chain.len()), (Kind::Issuing, 3));
        assert!(external::list_pending(app).await.unwrap().is_empty());
        let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
        let leaf = issue::issue(app, &outer.id, &device(), &spki, ACTOR, "local").await.unwrap();
        let issuer = muster::wire::x509::Parts::parse(&leaf.der).unwrap().issuer.to_vec();
        assert_eq!(issuer, outer.subject, "the certificate's name, not the request's");
        assert!(outer.subject_text().contains("Rewritten"));
        let list = house.get("/crl/outer.crl").await.bytes().await.unwrap();
        house.write("outer.crl.pem", &openssl::x509::X509Crl::from_der(&list).unwrap().to_pem().unwrap());
        house.write("leaf.pem", authority::pem(&leaf.der).as_bytes());
        house.write("upper.pem", outer.chain.iter().take(2).map(|der| authority::pem(der)).collect::<String>().as_bytes());
        let at = app.now().seconds();
        let arguments = format!(
            "verify -x509_strict -crl_check -attime {at} -CAfile outside/corp.pem -untrusted upper.pem -CRLfile outer.crl.pem leaf.pem"
        );
        let (good, said) = house.openssl(&arguments.split(' ').collect::<Vec<_>>());
        assert!(good, "{algorithm}: {said}");
        house.write("trusted.pem", outer.chain.iter().map(|der| authority::pem(der)).collect::<String>().as_bytes());
        house.write("outer.pem", authority::pem(&outer.certificate).as_bytes());
        let url = format!("{}/ocsp/outer", house.server.pki);
        let arguments = format!("ocsp -url {url} -CAfile trusted.pem -validity_period 900 -issuer outer.pem -cert leaf.pem");
        let (arguments, folder) = (arguments.split(' ').map(str::to_owned).collect::<Vec<_>>(), house.server.folder().to_owned());
        let (_, said) = tokio::task::spawn_blocking(move || run(&arguments, &folder)).await.unwrap();
        assert!(said.contains("Response verify OK") && said.contains("leaf.pem: good"), "{algorithm}: {said}");
        // With our own paused, devices are served from the outside root.
        authority::set_paused(app, "issuing", true, ACTOR, "local").await.unwrap();
        assert_eq!(authority::issuing(app).await.unwrap().name, "outer");
        let root = openssl::x509::X509::from_pem(outside.pem("corp").as_bytes()).unwrap().to_der().unwrap();
        assert_eq!(authority::root_certificate(app).await.unwrap(), root);
        authority::revoke(app, "outer", RevocationReason::CessationOfOperation, ACTOR, "local").await.unwrap();
        let refused = issue::issue(app, &outer.id, &device(), &spki, ACTOR, "local").await;
        assert_eq!(code(&refused.unwrap_err()), "CRT0011");
    }
}

/// Row 26 of the reference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_from_outside_that_does_not_fit_is_refused_and_the_authority_waits_on() {
    let Some(_) = tools::find("openssl", "openssl") else { return };
    let house = House::new(KeyAlgorithm::P256).await;
    let (app, outside) = (&house.server.app, Outside::new(&house.server));
    outside.request(&request(&house, KeyAlgorithm::P256).await);
    outside.root("corp", "rsa:2048", CA);
    outside.root("narrow", "rsa:2048", &CA.replace("CA:TRUE", "CA:TRUE,pathlen:0"));
    outside.root("weak", "rsa:1024", CA);
    outside.tier("policy", "corp", CA);
    outside.tier("stranger", "corp", BELOW);
    let end_entity = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n";
    let signs_nothing = BELOW.replace("keyCertSign,cRLSign", "digitalSignature");
    for (name, issuer, extensions, more) in [
        ("good", "policy", BELOW, "-days 20"),
        ("leaf", "corp", end_entity, "-days 20"),
        ("mute", "corp", &*signs_nothing, "-days 20"),
        ("old", "corp", BELOW, "-days 20 -sha1"),
        ("short", "narrow", BELOW, "-days 20"),
        ("soft", "weak", BELOW, "-days 20"),
    ] {
        outside.sign("ours.csr", name, issuer, extensions, more);
    }
    // Another authority of the same name: the chain is judged by signature, not by name.
    let folder = Outside(house.server.folder().join("elsewhere"));
    std::fs::create_dir(&folder.0).unwrap();
    folder.root("corp", "rsa:2048", CA);
    std::fs::copy(folder.0.join("corp.pem"), outside.0.join("namesake.pem")).unwrap();
    house.server.clock.advance(MINUTE);
    for (certificate, chain, reason) in [
        ("stranger", &["corp"][..], "another key"),
        ("leaf", &["corp"], "basicConstraints"),
        ("mute", &["corp"], "keyUsage"),
        ("old", &["corp"], "SHA-2"),
        ("short", &["narrow"], "pathLenConstraint"),
        ("soft", &["weak"], "too weak"),
        ("good", &["policy"], "does not lead to a root"),
        ("good", &["corp"], "does not lead to a root"),
        ("good", &["policy", "namesake"], "does not lead to a root"),
    ] {
        let refused = external::import_certificate(app, outside.import("outer", certificate, chain), ACTOR, "local").await;
        let said = why(refused);
        assert!(said.contains(reason), "{certificate} {chain:?}: {said}");
    }
    let garbage = Import { name: "outer".into(), certificate: "no certificate".into(), chain: String::new() };
    assert!(why(external::import_certificate(app, garbage, ACTOR, "local").await).contains("exactly one"));
    assert_eq!(external::list_pending(app).await.unwrap().len(), 1, "it waits on");
    assert!(matches!(authority::by_name(app, "outer").await, Err(Error::NotFound(_))));
    house.server.clock.advance(30 * DAY);
    let late = external::import_certificate(app, outside.import("outer", "good", &["policy", "corp"]), ACTOR, "local").await;
    assert!(why(late).contains("validity"));
    outside.sign("ours.csr", "renewed", "policy", BELOW, "-days 400");
    external::import_certificate(app, outside.import("outer", "renewed", &["policy", "corp"]), ACTOR, "local").await.unwrap();
    let again = external::import_certificate(app, outside.import("outer", "renewed", &["policy", "corp"]), ACTOR, "local").await;
    assert_eq!(code(&again.unwrap_err()), "CRT0050");
    let unknown = external::import_certificate(app, outside.import("nobody", "renewed", &["policy", "corp"]), ACTOR, "local").await;
    assert!(matches!(unknown, Err(Error::NotFound(_))));
}

/// Row 27 of the reference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_outside_the_constraints_of_any_tier_are_refused_before_signing() {
    let Some(_) = tools::find("openssl", "openssl") else { return };
    let house = House::new(KeyAlgorithm::P256).await;
    let (app, outside) = (&house.server.app, Outside::new(&house.server));
    outside.root("corp", "rsa:2048", CA);
    outside.tier("policy", "corp", &format!("{CA}nameConstraints=critical,permitted;DNS:example.org\n"));
    outside.tier("outer", "policy", &format!("{BELOW}nameConstraints=critical,excluded;DNS:secret.example.org\n"));
    house.server.clock.advance(MINUTE);
    let import = outside.import("outer", "outer", &["corp", "policy"]);
    let outer = external::import_with_key(app, import, &outside.key("outer"), 0, ACTOR, "local").await.unwrap();
    let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
    let ours = Search { authority: Some(outer.id.clone()), ..Search::default() };
    let before = revoke::search(app, ours.clone(), 100).await.unwrap().len();
    for (name, good) in [("pc.example.org", true), ("example.com", false), ("a.secret.example.org", false)] {
        let grant = Grant { sans: vec![San::Dns(name.into())], ..device() };
        let issued = issue::issue(app, &outer.id, &grant, &spki, ACTOR, "local").await;
        match issued {
            Ok(leaf) => {
                assert!(good, "{name}");
                house.write("leaf.pem", authority::pem(&leaf.der).as_bytes());
                house.write("upper.pem", outer.chain.iter().take(2).map(|der| authority::pem(der)).collect::<String>().as_bytes());
                let at = app.now().seconds();
                let verify = format!("verify -x509_strict -attime {at} -CAfile outside/corp.pem -untrusted upper.pem leaf.pem");
                let (good, said) = house.openssl(&verify.split(' ').collect::<Vec<_>>());
                assert!(good, "{said}");
            }
            Err(error) => assert!(!good && code(&error) == "CRT0041", "{name}: {error}"),
        }
    }
    assert_eq!(revoke::search(app, ours, 100).await.unwrap().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_comes_with_its_key_goes_on_with_its_numbers() {
    let Some(_) = tools::find("openssl", "openssl") else { return };
    let house = House::new(KeyAlgorithm::P256).await;
    let (app, outside) = (&house.server.app, Outside::new(&house.server));
    outside.root("corp", "rsa:2048", CA);
    outside.tier("sub", "corp", BELOW);
    outside.root("bare", "rsa:2048", "basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n");
    house.server.clock.advance(MINUTE);
    let bare = external::import_with_key(app, outside.import("bare", "bare", &[]), &outside.key("bare"), 0, ACTOR, "local").await;
    assert!(why(bare).contains("has no extension keyUsage"));
    let bring = |name: &str, key: Secret, number| {
        let import = outside.import(name, "sub", &["corp"]);
        async move { external::import_with_key(app, import, &key, number, ACTOR, "local").await }
    };
    outside.openssl("rsa -in sub.key -aes128 -passout pass:secret -out sealed.key");
    assert!(why(bring("sub", outside.key("sealed"), 0).await).contains("must not be encrypted"));
    assert!(why(bring("sub", outside.key("corp"), 0).await).contains("another key"));
    outside.openssl("genpkey -algorithm ed25519 -out odd.key");
    assert!(why(bring("sub", outside.key("odd"), 0).await).contains("neither RSA"));
    assert_eq!(code(&bring("Bad Name", outside.key("sub"), 0).await.unwrap_err()), "CRT0024");
    assert_eq!(code(&bring("issuing", outside.key("sub"), 0).await.unwrap_err()), "CRT0048");
    bring("sub", outside.key("sub"), 41).await.unwrap();
    assert_eq!(crl::find(app, "sub").await.unwrap().number, 42);
    let actions: Vec<_> = app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap().into_iter().map(|row| row.action).collect();
    assert!(actions.iter().any(|action| action == "authority.import"));
}

/// Row 25 of the reference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuers_with_repeated_and_oddly_typed_names_chain_to_the_byte() {
    let Some(_) = tools::find("openssl", "openssl") else { return };
    let server = Server::start().await;
    let ca = "[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
    let repeated = format!("[req]\nprompt=no\ndistinguished_name=dn\n[dn]\n0.DC=com\n1.DC=contoso\n0.OU=b\n1.OU=a\nCN=Contoso CA\n{ca}");
    let (folder, outside) = (server.folder().join("outside"), Outside::new(&server));
    let typed = [("utf8", "utf8only"), ("printable", "default"), ("bmp", "nombstr")];
    for (name, mask) in typed {
        let configuration = repeated.replace("prompt=no", &format!("prompt=no\nstring_mask={mask}"));
        std::fs::write(folder.join("ca.cnf"), configuration).unwrap();
        outside.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 3650 -config ca.cnf -extensions ca");
        // The new certificate is not valid yet by the server's clock, which stands still.
        server.clock.advance(MINUTE);
        let import = outside.import(name, "ca", &[]);
        let authority = external::import_with_key(&server.app, import, &outside.key("ca"), 0, ACTOR, "local").await.unwrap();
        let spki = SigningKey::generate(KeyAlgorithm::P256).unwrap().spki().unwrap();
        let leaf = issue::issue(&server.app, &authority.id, &device(), &spki, ACTOR, "local").await.unwrap();
        let (issuer, leaf_parts) =
            (muster::wire::x509::Parts::parse(&authority.certificate).unwrap(), muster::wire::x509::Parts::parse(&leaf.der).unwrap());
        assert_eq!(leaf_parts.issuer, issuer.subject);
        let key_identifier = issuer.subject_key_identifier().unwrap();
        assert!(leaf.der.windows(20).filter(|w| *w == key_identifier).count() == 1, "the issuer's key identifier, verbatim");
        let list = crl::find(&server.app, name).await.unwrap();
        std::fs::write(folder.join("ca.crl"), openssl::x509::X509Crl::from_der(&list.der).unwrap().to_pem().unwrap()).unwrap();
        std::fs::write(folder.join("leaf.pem"), authority::pem(&leaf.der)).unwrap();
        let at = server.app.now().seconds();
        let verify = format!("verify -x509_strict -crl_check -attime {at} -CAfile ca.pem -CRLfile ca.crl leaf.pem");
        let (good, said) = run(&verify.split(' ').map(str::to_owned).collect::<Vec<_>>(), &folder);
        assert!(good, "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_may_not_certify_our_own_names_is_refused_at_once() {
    let Some(_) = tools::find("openssl", "openssl") else { return };
    let house = House::new(KeyAlgorithm::P256).await;
    let (app, outside) = (&house.server.app, Outside::new(&house.server));
    outside.root("corp", "rsa:2048", CA);
    outside.tier("policy", "corp", &format!("{CA}nameConstraints=critical,permitted;dirName:names\n[names]\n0.DC=com\n1.DC=contoso\n"));
    outside.tier("outer", "policy", BELOW);
    house.server.clock.advance(MINUTE);
    let import = outside.import("outer", "outer", &["corp", "policy"]);
    let refused = external::import_with_key(app, import, &outside.key("outer"), 0, ACTOR, "local").await;
    assert_eq!(code(&refused.unwrap_err()), "CRT0041");
    assert!(matches!(authority::by_name(app, "outer").await, Err(Error::NotFound(_))));
    service_key::renew(app).await.unwrap();
}
