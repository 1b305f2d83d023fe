use super::*;

const HELLO: &str = "./Device/Vendor/MSFT/PassportForWork/9b8f0a61-3a3c-4f0e-8f3c-0d5a5d1f2b77/Policies/UsePassportForWork";
const LENGTH: &str = "./Device/Vendor/MSFT/PassportForWork/9b8f0a61-3a3c-4f0e-8f3c-0d5a5d1f2b77/Policies/PINComplexity/MinimumPINLength";
const SCEP: &str = "./Device/Vendor/MSFT/ClientCertificateInstall/SCEP";

fn tree() -> Tree {
    Tree::new("Muster")
}

fn ask(tree: &mut Tree, verb: Verb, uri: &str, format: Option<Format>, data: Option<&str>) -> u16 {
    tree.execute(&Request { verb, uri, format, data }).status
}

fn get(tree: &mut Tree, uri: &str) -> (u16, String) {
    let answer = tree.execute(&Request { verb: Verb::Get, uri, format: None, data: None });
    (answer.status, answer.value.map(|(_, value)| value).unwrap_or_default())
}

fn write(tree: &mut Tree, verb: Verb, uri: &str, format: Format, data: &str) -> u16 {
    ask(tree, verb, uri, Some(format), Some(data))
}

#[test]
fn what_is_there_cannot_be_added_and_what_is_not_cannot_be_replaced_read_or_deleted() {
    let mut tree = tree();
    assert_eq!(write(&mut tree, Verb::Replace, HELLO, Format::Bool, "true"), 404);
    assert_eq!(get(&mut tree, HELLO).0, 404);
    assert_eq!(ask(&mut tree, Verb::Delete, HELLO, None, None), 404);
    assert_eq!(write(&mut tree, Verb::Add, HELLO, Format::Bool, "true"), 200);
    assert_eq!(write(&mut tree, Verb::Add, HELLO, Format::Bool, "true"), 418);
    assert_eq!(write(&mut tree, Verb::Replace, HELLO, Format::Bool, "false"), 200);
    assert_eq!(get(&mut tree, HELLO), (200, "false".into()));
    assert_eq!(ask(&mut tree, Verb::Delete, HELLO, None, None), 200);
    assert_eq!(get(&mut tree, HELLO).0, 404);
}

#[test]
fn unknown_nodes_are_not_there_and_malformed_addresses_are_refused() {
    let mut tree = tree();
    assert_eq!(get(&mut tree, "./Device/Vendor/MSFT/Nothing").0, 404);
    assert_eq!(write(&mut tree, Verb::Add, "./Device/Vendor/MSFT/BitLocker/Nothing", Format::Int, "1"), 404);
    assert_eq!(get(&mut tree, "/Device/Vendor").0, 400);
    assert_eq!(get(&mut tree, "./Device/../x").0, 400);
}

#[test]
fn formats_and_values_are_held() {
    let mut tree = tree();
    assert_eq!(write(&mut tree, Verb::Add, LENGTH, Format::Chr, "6"), 415);
    assert_eq!(write(&mut tree, Verb::Add, LENGTH, Format::Int, "six"), 400);
    assert_eq!(write(&mut tree, Verb::Add, LENGTH, Format::Int, "3"), 400);
    assert_eq!(ask(&mut tree, Verb::Add, LENGTH, Some(Format::Int), None), 412);
    assert_eq!(ask(&mut tree, Verb::Add, LENGTH, None, Some("6")), 415);
    assert_eq!(write(&mut tree, Verb::Add, LENGTH, Format::Int, "6"), 200);
    let node = "./Device/Vendor/MSFT/PassportForWork/other";
    assert_eq!(write(&mut tree, Verb::Add, node, Format::Node, "data"), 400);
    assert_eq!(write(&mut tree, Verb::Add, node, Format::Node, ""), 200);
}

#[test]
fn verbs_that_a_node_does_not_allow_are_refused() {
    let mut tree = tree();
    assert_eq!(write(&mut tree, Verb::Replace, "./DevInfo/Man", Format::Chr, "x"), 405);
    assert_eq!(ask(&mut tree, Verb::Delete, "./DevDetail/SwV", None, None), 405);
    assert_eq!(ask(&mut tree, Verb::Exec, "./DevDetail/SwV", None, None), 405);
    assert_eq!(ask(&mut tree, Verb::Delete, "./Device/Vendor/MSFT/PassportForWork", None, None), 405);
    assert_eq!(get(&mut tree, "./Vendor/MSFT/Firewall/MdmStore/DomainProfile/EnableFirewall").0, 405);
    assert_eq!(write(&mut tree, Verb::Replace, "./Vendor/MSFT/Firewall/MdmStore/DomainProfile/EnableFirewall", Format::Bool, "true"), 200);
    assert_eq!(write(&mut tree, Verb::Replace, "./DevDetail/Ext/Microsoft/DeviceName", Format::Chr, "NEW"), 200);
}

#[test]
fn addresses_are_compared_folded_and_decoded() {
    let mut tree = tree();
    assert_eq!(write(&mut tree, Verb::Add, HELLO, Format::Bool, "true"), 200);
    assert_eq!(get(&mut tree, &HELLO.to_lowercase()), (200, "true".into()));
    assert_eq!(get(&mut tree, &HELLO.replace("./Device", ".")), (200, "true".into()));
    assert_eq!(get(&mut tree, &HELLO.replace('-', "%2D")), (200, "true".into()));
}

#[test]
fn parents_come_by_themselves_and_inner_nodes_name_their_children() {
    let mut tree = tree();
    let tenant = "./Device/Vendor/MSFT/PassportForWork/9b8f0a61-3a3c-4f0e-8f3c-0d5a5d1f2b77";
    assert_eq!(get(&mut tree, tenant).0, 404);
    assert_eq!(write(&mut tree, Verb::Add, LENGTH, Format::Int, "6"), 200);
    assert_eq!(write(&mut tree, Verb::Add, HELLO, Format::Bool, "true"), 200);
    assert_eq!(get(&mut tree, tenant), (200, "Policies".into()));
    assert_eq!(get(&mut tree, &format!("{tenant}/Policies")), (200, "PINComplexity/UsePassportForWork".into()));
    assert_eq!(ask(&mut tree, Verb::Add, tenant, Some(Format::Node), None), 418);
    assert_eq!(ask(&mut tree, Verb::Delete, tenant, None, None), 200);
    assert_eq!(get(&mut tree, LENGTH).0, 404);
    assert_eq!(get(&mut tree, tenant).0, 404);
    let request = format!("{SCEP}/a%20b%2Fc");
    assert_eq!(ask(&mut tree, Verb::Add, &request, Some(Format::Node), None), 200);
    assert_eq!(get(&mut tree, SCEP), (200, "a%20b%2Fc".into()));
}

#[test]
fn facts_are_those_of_a_healthy_pc_and_can_be_changed_from_inside() {
    let mut tree = tree();
    let status = "./Device/Vendor/MSFT/BitLocker/Status/DeviceEncryptionStatus";
    assert_eq!(get(&mut tree, status), (200, "0".into()));
    tree.switch_bitlocker(false);
    assert_ne!(get(&mut tree, status).1, "0");
    assert_eq!(get(&mut tree, "./Vendor/MSFT/DeviceStatus/Compliance/EncryptionCompliance").1, "false");
    tree.switch_bitlocker(true);
    assert_eq!(get(&mut tree, status).1, "0");
    assert_eq!(get(&mut tree, "./DevDetail/SwV"), (200, "10.0.26100.4349".into()));
    assert!(tree.set_fact("device-status.secure-boot-state", "2", ""));
    assert!(!tree.set_fact("no.such", "2", ""));
    tree.unset("./Vendor/MSFT/DeviceStatus/TPM/SpecificationVersion");
    assert_eq!(get(&mut tree, "./Vendor/MSFT/DeviceStatus/TPM/SpecificationVersion").0, 404);
    assert_eq!(get(&mut tree, "./Device/Vendor/MSFT/DMClient/Provider/Muster/EnrollmentType"), (200, "Full".into()));
    assert_eq!(get(&mut tree, "./Device/Vendor/MSFT/DMClient/Provider").1, "Muster");
}

#[test]
fn policy_results_show_what_was_configured() {
    let mut tree = tree();
    let result = "./Device/Vendor/MSFT/Policy/Result/DeviceLock/MinDevicePasswordLength";
    assert_eq!(get(&mut tree, result).0, 404);
    assert_eq!(write(&mut tree, Verb::Add, &result.replace("Result", "Config"), Format::Int, "8"), 200);
    assert_eq!(get(&mut tree, result), (200, "8".into()));
    assert_eq!(write(&mut tree, Verb::Replace, result, Format::Int, "8"), 405);
}

#[test]
fn an_older_windows_lacks_the_newer_nodes() {
    let mut tree = tree();
    let uri = "./Device/Vendor/MSFT/Policy/Config/Authentication/EnablePasswordlessExperience";
    tree.set("./DevDetail/SwV", "10.0.19045.3000");
    assert_eq!(write(&mut tree, Verb::Add, uri, Format::Int, "1"), 404);
    tree.set("./DevDetail/SwV", "10.0.26100.1");
    assert_eq!(write(&mut tree, Verb::Add, uri, Format::Int, "1"), 200);
}

#[test]
fn faults_refuse_fill_up_and_wait_for_the_user() {
    let mut tree = tree();
    tree.faults.refuse.push((LocUri::parse("./Device/Vendor/MSFT/BitLocker").unwrap(), Some(Verb::Add), 403));
    let bitlocker = "./Device/Vendor/MSFT/BitLocker/RequireDeviceEncryption";
    assert_eq!(write(&mut tree, Verb::Add, bitlocker, Format::Int, "1"), 403);
    assert_eq!(get(&mut tree, bitlocker).0, 404);
    tree.faults.space = Some(5);
    assert_eq!(write(&mut tree, Verb::Add, HELLO, Format::Bool, "true"), 200);
    assert_eq!(write(&mut tree, Verb::Add, LENGTH, Format::Int, "12"), 420);
    tree.faults = Faults { user_present: false, ..Faults::default() };
    let user = HELLO.replace("./Device", "./User");
    assert_eq!(write(&mut tree, Verb::Add, &user, Format::Bool, "true"), 405);
    tree.faults.user_present = true;
    assert_eq!(write(&mut tree, Verb::Add, &user, Format::Bool, "true"), 200);
}

fn scep_parts(id: &str) -> Vec<(String, Format, Option<String>)> {
    let mut parts = vec![(format!("{SCEP}/{id}"), Format::Node, None)];
    let leaves =
        [("ServerURL", "https://pki/scep"), ("Challenge", "c"), ("SubjectName", "CN=x"), ("KeyLength", "2048"), ("KeyUsage", "160")];
    for (leaf, value) in leaves {
        let format = if leaf.starts_with("Key") { Format::Int } else { Format::Chr };
        parts.push((format!("{SCEP}/{id}/Install/{leaf}"), format, Some(value.to_owned())));
    }
    parts
}

fn as_parts<'a>(parts: &'a [(String, Format, Option<String>)]) -> Vec<Part<'a>> {
    let request = |(uri, format, data): &'a (String, Format, Option<String>)| {
        Part::Request(Request { verb: Verb::Add, uri, format: Some(*format), data: data.as_deref() })
    };
    parts.iter().map(request).collect()
}

#[test]
fn a_scep_request_is_taken_as_one_and_starts_an_enrolment() {
    let mut tree = tree();
    let parts = scep_parts("r1");
    let mut parts = as_parts(&parts);
    let enroll = format!("{SCEP}/r1/Install/Enroll");
    parts.push(Part::Request(Request { verb: Verb::Exec, uri: &enroll, format: Some(Format::Null), data: None }));
    let (status, answers) = tree.atomic(&parts);
    assert_eq!(status, 200);
    let Some(Effect::ScepEnroll { scope, id, install }) = &answers.last().unwrap().effect else { panic!("no enrolment") };
    assert_eq!((*scope, id.as_str(), install["SubjectName"].as_str()), (Scope::Device, "r1", "CN=x"));
    assert_eq!(get(&mut tree, &format!("{SCEP}/r1/Status")).1, "2");
    assert_eq!(get(&mut tree, &enroll).0, 405);
    tree.scep_done(Scope::Device, "r1", "ab01", "https://pki/scep");
    assert_eq!(get(&mut tree, &format!("{SCEP}/r1/Status")).1, "1");
    assert_eq!(get(&mut tree, &format!("{SCEP}/r1/CertThumbprint")).1, "AB01");
    tree.scep_failed(Scope::Device, "r1", -2_147_467_259);
    assert_eq!(get(&mut tree, &format!("{SCEP}/r1/ErrorCode")).1, "-2147467259");
    assert_eq!(ask(&mut tree, Verb::Delete, &format!("{SCEP}/r1"), None, None), 200);
    assert_eq!(get(&mut tree, SCEP).1, "");
}

#[test]
fn an_atomic_that_fails_leaves_nothing_behind() {
    let mut tree = tree();
    let before = tree.leaves("./Device");
    let parts = scep_parts("r1");
    let mut parts = as_parts(&parts);
    parts.insert(3, Part::Request(Request { verb: Verb::Add, uri: LENGTH, format: Some(Format::Int), data: Some("3") }));
    let (status, answers) = tree.atomic(&parts);
    assert_eq!(status, 507);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [216, 216, 216, 400, 215, 215, 215]);
    assert_eq!(tree.leaves("./Device"), before);
    for part in [Part::Atomic, Part::Request(Request { verb: Verb::Get, uri: "./DevInfo/Man", format: None, data: None })] {
        let (status, answers) = tree.atomic(&[part]);
        assert_eq!((status, answers[0].status), (507, 500));
    }
}

#[test]
fn commands_are_named_to_the_device() {
    let mut tree = tree();
    let run = |tree: &mut Tree, uri: &str, format, data| tree.execute(&Request { verb: Verb::Exec, uri, format, data }).effect;
    assert_eq!(run(&mut tree, "./Device/Vendor/MSFT/Reboot/RebootNow", None, None), Some(Effect::Command("reboot")));
    let unenroll = "./Device/Vendor/MSFT/DMClient/Provider/Muster/Unenroll";
    assert_eq!(run(&mut tree, unenroll, Some(Format::Chr), Some("Muster")), Some(Effect::Command("unenroll")));
    let wipe = "./Device/Vendor/MSFT/RemoteWipe/doWipe";
    assert_eq!(run(&mut tree, wipe, Some(Format::Chr), Some("1")), Some(Effect::Command("wipe")));
    assert_eq!(ask(&mut tree, Verb::Exec, wipe, Some(Format::Int), Some("1")), 415);
    assert_eq!(ask(&mut tree, Verb::Exec, "./Device/Vendor/MSFT/Reboot/RebootNow", Some(Format::Null), Some("x")), 415);
}

/// A self-signed certificate.
fn certificate() -> Vec<u8> {
    use openssl::asn1::Asn1Time;
    use openssl::pkey::PKey;
    let key = PKey::generate_ed25519().unwrap();
    let mut name = openssl::x509::X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "Root").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(1_700_000_000).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(2_000_000_000).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::null()).unwrap();
    builder.build().to_der().unwrap()
}

#[test]
fn a_trusted_certificate_must_be_the_one_that_its_address_names() {
    let der = certificate();
    let hash = hex::encode_upper(openssl::hash::hash(MessageDigest::sha1(), &der).unwrap());
    let text = STANDARD.encode(&der);
    let mut tree = tree();
    let store = "./Device/Vendor/MSFT/RootCATrustedCertificates/Root";
    let uri = |hash: &str| format!("{store}/{hash}/EncodedCertificate");
    assert_eq!(write(&mut tree, Verb::Replace, &uri(&hash), Format::B64, &text), 404);
    assert_eq!(write(&mut tree, Verb::Add, &uri(&"0".repeat(40)), Format::B64, &text), 400);
    assert_eq!(write(&mut tree, Verb::Add, &uri(&hash), Format::B64, "AAAA"), 400);
    assert_eq!(write(&mut tree, Verb::Add, &uri(&hash), Format::B64, &text), 200);
    assert_eq!(get(&mut tree, &format!("{store}/{hash}/ValidTo")).0, 200);
    assert_eq!(get(&mut tree, store), (200, hash.clone()));
    assert_eq!(write(&mut tree, Verb::Add, &uri(&hash).replace("./Device", "./User"), Format::B64, &text), 404);
    assert_eq!(ask(&mut tree, Verb::Delete, &uri(&hash), None, None), 405);
    assert_eq!(ask(&mut tree, Verb::Delete, &format!("{store}/{hash}"), None, None), 200);
    assert_eq!(get(&mut tree, &format!("{store}/{hash}/ValidTo")).0, 404);
}

proptest::proptest! {
    #[test]
    fn no_request_panics_or_leaves_an_atomic_half_done(
        uris in proptest::collection::vec("\\./(Device|User|Vendor|DevInfo)(/(Vendor|MSFT|PassportForWork|SCEP|ClientCertificateInstall|Install|X|%7B)){0,6}", 1..6),
        verb in 0usize..5,
        data in proptest::option::of("[ -~]{0,10}"),
    ) {
        let verb = [Verb::Add, Verb::Delete, Verb::Get, Verb::Replace, Verb::Exec][verb];
        let mut tree = tree();
        let before = tree.leaves("./Device");
        let request = |uri| Part::Request(Request { verb, uri, format: None, data: data.as_deref() });
        let parts: Vec<Part<'_>> = uris.iter().map(|uri| request(uri.as_str())).collect();
        let (status, answers) = tree.atomic(&parts);
        proptest::prop_assert_eq!(answers.len(), parts.len());
        if status == 507 {
            proptest::prop_assert_eq!(tree.leaves("./Device"), before);
        }
    }
}
