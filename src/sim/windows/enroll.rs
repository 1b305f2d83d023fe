//! Discovery, policy, request token and renewal, as the device sees them. All that the device knows of the server afterwards comes out
//! of the provisioning document.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Type};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::stack::Stack;
use openssl::x509::extension::ExtendedKeyUsage;
use openssl::x509::{X509, X509Extension, X509Name, X509Req};
use reqwest::Url;
use uuid::Uuid;

use crate::clock::Time;
use crate::sim::http::{Client, Response, after};
use crate::wire::cms::{self, Digest};
use crate::wire::mde::discovery::{AuthPolicy, Discover, DiscoverResult, Version};
use crate::wire::mde::encode_base64;
use crate::wire::mde::fault::Fault;
use crate::wire::mde::soap::{Answer, Operation, Security};
use crate::wire::mde::wstep::{self, Csr, RequestToken, RequestType};
use crate::wire::mde::xcep::{GetPolicies, Policy};
use crate::wire::provisioning::{Document, Management, Store};
use crate::wire::xml::Element;
use crate::wire::{Malformed, asn1};

const SOAP: (&str, &str) = ("Content-Type", "application/soap+xml; charset=utf-8");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
/// Where the sign-in page hands the token to.
const APP: &str = "ms-app://s-1-15-2-1";

/// Why an enrolment did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The network or TLS.
    #[error("connection: {0}")]
    Connection(#[from] io::Error),
    /// The server said no in the way of the protocol.
    #[error("fault {} {}: {}", .0.code.as_str(), .0.error_type.map(|t| t.as_str()).unwrap_or_default(), .0.reason)]
    Fault(Fault),
    /// The server answered with another status than 200, without a length, or in pieces; with what it said.
    #[error("HTTP status {}{}", .0, after(.1))]
    Http(u16, String),
    /// The answer cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The server's answer does not fit what was asked.
    #[error("unexpected: {0}")]
    Unexpected(&'static str),
    /// OpenSSL.
    #[error("crypto: {0}")]
    Crypto(#[from] ErrorStack),
}

/// What the device is.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The protocol's id of this enrolment.
    pub device_id: String,
    /// Hardware id, 64 hex digits; stable over re-enrolment.
    pub hardware_id: String,
    /// Name.
    pub name: String,
    /// Version of the operating system.
    pub os_version: String,
    /// SKU number of the edition.
    pub os_edition: String,
    /// Newest dialect of the protocol that it speaks.
    pub request_version: Version,
    /// `Full` or `Device`.
    pub enrollment_type: &'static str,
    /// Further context items, names may repeat.
    pub more: Vec<(String, String)>,
}

impl Machine {
    /// A Windows 11 PC with that number: the same number is the same hardware.
    #[must_use]
    pub fn windows_11(number: u64) -> Self {
        let hardware_id = hex::encode(openssl::sha::sha256(format!("simulated pc {number}").as_bytes()));
        Self {
            device_id: Uuid::new_v4().simple().to_string().to_uppercase(),
            hardware_id,
            name: format!("PC-{number:05}"),
            os_version: "10.0.26100.4349".into(),
            os_edition: "4".into(),
            request_version: Version::new(9, 0),
            enrollment_type: "Full",
            more: vec![
                ("SerialNumber".into(), format!("SIM-{number:08}")),
                ("Manufacturer".into(), "Simulated".into()),
                ("DeviceModel".into(), "Virtual PC".into()),
            ],
        }
    }

    fn context(&self) -> Vec<(String, String)> {
        let mac = |at: usize| format!("02-{}", self.hardware_id.get(at..at + 10).unwrap_or("0000000000"));
        let mut items: Vec<(String, String)> = [
            ("UXInitiated", "true"),
            ("HWDevID", &self.hardware_id),
            ("Locale", "en-US"),
            ("TargetedUserLoggedIn", "true"),
            ("OSEdition", &self.os_edition),
            ("DeviceName", &self.name),
            ("MAC", &mac(0)),
            ("MAC", &mac(10)),
            ("DeviceID", &self.device_id),
            ("EnrollmentType", self.enrollment_type),
            ("DeviceType", "CIMClient_Windows"),
            ("OSVersion", &self.os_version),
            ("ApplicationVersion", &self.os_version),
            ("NotInOobe", "true"),
            ("RequestVersion", &self.request_version.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        items.extend(self.more.iter().cloned());
        items
    }
}

/// How the person in front of the device signs in.
#[derive(Clone, Debug)]
pub enum SignIn {
    /// With a pass, whichever way the server asks for.
    Pass {
        /// User principal name.
        user: String,
        /// The Temporary Access Pass.
        pass: String,
    },
    /// With a pass as the password in the security header only.
    OnPremise {
        /// User principal name.
        user: String,
        /// The Temporary Access Pass.
        pass: String,
    },
    /// With a token of the organisation's own identity service.
    Jwt(String),
}

/// What an enrolled device holds.
#[derive(Clone)]
pub struct Identity {
    /// The private key.
    pub key: PKey<Private>,
    /// The certificate.
    pub certificate: X509,
    /// The issuing CA's certificate.
    pub chain: Vec<X509>,
    /// The root that the server told the device to trust.
    pub root: Option<X509>,
    /// Where the certificate is kept.
    pub store: Store,
    /// The server's name in the management tree.
    pub provider_id: String,
    /// The management account.
    pub management: Management,
    /// Where to renew.
    pub enrollment_url: Url,
    /// The protocol's id of this enrolment.
    pub device_id: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("device_id", &self.device_id).field("management", &self.management.address).finish_non_exhaustive()
    }
}

impl Identity {
    /// A client that shows this certificate.
    ///
    /// # Errors
    /// When OpenSSL refuses the certificate or the key.
    pub fn client(&self, roots: &[X509]) -> io::Result<Client> {
        Client::new(roots, Some((&self.certificate, &self.chain, &self.key)))
    }

    /// The `MDM-Signature` header of a message.
    ///
    /// # Errors
    /// When OpenSSL cannot sign.
    pub fn sign_message(&self, body: &[u8], now: Time) -> Result<String, Failure> {
        let certificate = self.certificate.to_der()?;
        let signer = cms::Signer { certificate: &certificate, key: &self.key, digest: Digest::Sha256 };
        let time = asn1::time(now.0.div_euclid(1000));
        Ok(STANDARD.encode(cms::sign_detached(body, &[(cms::SIGNING_TIME, time)], &signer)?))
    }

    /// Where management sessions go.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] when the document names no URL.
    pub fn management_url(&self) -> Result<Url, Failure> {
        Url::parse(&self.management.address).map_err(|_| Failure::Unexpected("ADDR is no URL"))
    }
}

/// A fresh RSA key as Windows makes it. Slow: call it off the async threads.
///
/// # Errors
/// When OpenSSL fails.
pub fn new_key() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_rsa(Rsa::generate(2048)?)
}

/// Enrols: discovery, sign-in, policy, certificate.
///
/// # Errors
/// [`Failure`].
pub async fn enroll(
    client: &mut Client,
    discovery: &Url,
    machine: &Machine,
    sign_in: &SignIn,
    key: &PKey<Private>,
) -> Result<Identity, Failure> {
    let found = discover(client, discovery, machine, sign_in).await?;
    let security = sign_in_as_asked(client, &found, sign_in).await?;
    let policy_url = url(&found.policy_url)?;
    let enrollment_url = url(&found.enrollment_url)?;
    if policy_url.host_str() != enrollment_url.host_str() {
        return Err(Failure::Unexpected("policy and enrolment on two hosts"));
    }
    let policy = policy(client, &policy_url, &security).await?;
    if key.bits() < policy.minimal_key_length {
        return Err(Failure::Unexpected("the policy asks for a longer key"));
    }
    let request = RequestToken {
        request_type: RequestType::Issue,
        csr: Csr::Pkcs10(certificate_request(&machine.device_id, key)?),
        context: machine.context(),
    };
    let document = request_token(client, &enrollment_url, &request, &security).await?;
    let management = document.management.clone().ok_or(Failure::Unexpected("no management account"))?;
    let identity = Installed::new(&document, key)?;
    if identity.subject() != management.subject {
        return Err(Failure::Unexpected("search criteria of another certificate"));
    }
    Ok(Identity {
        key: key.clone(),
        certificate: identity.certificate,
        chain: identity.chain,
        root: identity.root,
        store: document.store,
        provider_id: document.provider_id,
        management,
        enrollment_url,
        device_id: machine.device_id.clone(),
    })
}

/// Asks where to go.
///
/// # Errors
/// [`Failure`].
pub async fn discover(client: &mut Client, discovery: &Url, machine: &Machine, sign_in: &SignIn) -> Result<DiscoverResult, Failure> {
    let probe = client.send("GET", discovery, &[], b"").await?;
    if probe.status != 200 || !probe.body.is_empty() {
        return Err(Failure::Http(probe.status, probe.said()));
    }
    let (email_address, auth_policies) = match sign_in {
        SignIn::Pass { user, .. } => (user.clone(), vec![AuthPolicy::OnPremise, AuthPolicy::Federated]),
        SignIn::OnPremise { user, .. } => (user.clone(), vec![AuthPolicy::OnPremise]),
        SignIn::Jwt(_) => (String::new(), vec![AuthPolicy::Federated]),
    };
    let request = Discover {
        email_address,
        request_version: machine.request_version,
        device_type: "CIMClient_Windows".into(),
        application_version: machine.os_version.clone(),
        os_edition: machine.os_edition.clone(),
        auth_policies,
    };
    let id = message_id();
    let body = exchange(client, discovery, Operation::Discover, &request.encode(&id, discovery.as_str()), &id).await?;
    let found = DiscoverResult::decode(&body)?;
    if found.enrollment_version > request.request_version {
        return Err(Failure::Unexpected("a newer dialect than offered"));
    }
    Ok(found)
}

async fn sign_in_as_asked(client: &mut Client, found: &DiscoverResult, sign_in: &SignIn) -> Result<Security, Failure> {
    match (sign_in, found.auth_policy) {
        (SignIn::Jwt(token), _) => Ok(Security::Jwt(token.clone().into_bytes())),
        (SignIn::Pass { user, pass } | SignIn::OnPremise { user, pass }, AuthPolicy::OnPremise) => {
            Ok(Security::UserName { name: user.clone(), password: pass.clone() })
        }
        (SignIn::Pass { user, pass }, AuthPolicy::Federated) => {
            let page = url(found.authentication_url.as_deref().ok_or(Failure::Unexpected("no sign-in page"))?)?;
            Ok(Security::Token(federated(client, &page, user, pass).await?))
        }
        _ => Err(Failure::Unexpected("a way of signing in that was not offered")),
    }
}

/// Goes through the sign-in page as the embedded browser does, and gives back the token of its last form.
///
/// # Errors
/// [`Failure`]; [`Failure::Unexpected`] when the page ends without a token.
pub async fn federated(client: &mut Client, page: &Url, user: &str, pass: &str) -> Result<Vec<u8>, Failure> {
    let mut visit = page.clone();
    visit.query_pairs_mut().append_pair("appru", APP).append_pair("login_hint", user);
    let shown = client.send("GET", &visit, &[], b"").await?;
    if shown.status != 200 {
        return Err(Failure::Http(shown.status, shown.said()));
    }
    // The query of a throw-away URL is a form's encoding.
    let mut form = page.clone();
    form.query_pairs_mut().clear().append_pair("appru", APP).append_pair("user_name", user).append_pair("pass", pass);
    let done = client.send("POST", page, &[FORM], form.query().unwrap_or_default().as_bytes()).await?;
    if done.status != 200 {
        return Err(Failure::Http(done.status, done.said()));
    }
    let html = String::from_utf8(done.body).map_err(|_| Failure::Unexpected("the page is not UTF-8"))?;
    if !html.contains(&format!("action=\"{APP}\"")) {
        let refused = html.contains("role=\"alert\"");
        let why = if refused { "the sign-in page refused the user name or the pass" } else { "the page did not sign in" };
        return Err(Failure::Unexpected(why));
    }
    let token = html.split_once("name=\"wresult\" value=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(token, _)| token);
    let token = token.ok_or(Failure::Unexpected("no wresult"))?;
    Ok(unescape(token).into_bytes())
}

fn unescape(html: &str) -> String {
    html.replace("&#34;", "\"")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

/// Asks for the policy.
///
/// # Errors
/// [`Failure`].
pub async fn policy(client: &mut Client, to: &Url, security: &Security) -> Result<Policy, Failure> {
    let id = message_id();
    let request = GetPolicies::default().encode(&id, to.as_str(), security);
    Ok(Policy::decode(&exchange(client, to, Operation::GetPolicies, &request, &id).await?)?)
}

/// Asks for the token and reads the provisioning document.
///
/// # Errors
/// [`Failure`].
pub async fn request_token(client: &mut Client, to: &Url, request: &RequestToken, security: &Security) -> Result<Document, Failure> {
    let id = message_id();
    let body = exchange(client, to, Operation::RequestToken, &request.encode(&id, to.as_str(), security), &id).await?;
    Ok(Document::decode(&wstep::decode_answer(&body)?)?)
}

/// Renews the certificate for a new key, over a client that shows the old one. `by_hand` wraps the request in base64 once more, as a
/// renewal started in the settings does.
///
/// # Errors
/// [`Failure`].
pub async fn renew(client: &mut Client, old: &Identity, key: &PKey<Private>, by_hand: bool) -> Result<Identity, Failure> {
    let csr = certificate_request(&old.device_id, key)?;
    let signed = sign(&csr, &old.certificate, &old.key)?;
    let signed = if by_hand { encode_base64(&signed).into_bytes() } else { signed };
    let context = vec![("DeviceID".to_owned(), old.device_id.clone())];
    let request = RequestToken { request_type: RequestType::Renew, csr: Csr::Pkcs7(signed), context };
    let document = request_token(client, &old.enrollment_url, &request, &Security::None).await?;
    let installed = Installed::new(&document, key)?;
    if document.provider_id != old.provider_id || document.store != old.store || installed.subject() != old.management.subject {
        return Err(Failure::Unexpected("a renewal changed more than the certificate"));
    }
    Ok(Identity { key: key.clone(), certificate: installed.certificate, chain: installed.chain, root: installed.root, ..old.clone() })
}

/// A request for renewal: the certificate request, signed by the old certificate.
///
/// # Errors
/// [`Failure`].
pub fn sign(csr: &[u8], certificate: &X509, key: &PKey<Private>) -> Result<Vec<u8>, Failure> {
    let certificate = certificate.to_der()?;
    Ok(cms::sign(Some(csr), &[], &cms::Signer { certificate: &certificate, key, digest: Digest::Sha256 })?)
}

/// A certificate request as Windows makes it: the common name holds a `!` and a NUL in a PrintableString, and an extension holds bytes
/// that are no DER.
///
/// # Errors
/// When OpenSSL fails.
pub fn certificate_request(device_id: &str, key: &PKey<Private>) -> Result<Vec<u8>, ErrorStack> {
    let tail = Uuid::new_v4().simple().to_string().to_uppercase();
    let head: String = device_id.chars().take(30).collect();
    let mut name = X509Name::builder()?;
    name.append_entry_by_text_with_type("CN", &format!("{head}!{tail}\0"), Asn1Type::PRINTABLESTRING)?;
    let mut request = X509Req::builder()?;
    request.set_version(0)?;
    request.set_subject_name(&name.build())?;
    request.set_pubkey(key)?;
    let mut extensions = Stack::new()?;
    extensions.push(ExtendedKeyUsage::new().client_auth().build()?)?;
    let oid = Asn1Object::from_str("1.3.6.1.4.1.311.66.1.0")?;
    extensions.push(X509Extension::new_from_der(&oid, false, &*Asn1OctetString::new_from_bytes(format!("{tail}\0").as_bytes())?)?)?;
    request.add_extensions(&extensions)?;
    request.sign(key, MessageDigest::sha256())?;
    request.build().to_der()
}

/// What the device keeps of a document.
struct Installed {
    certificate: X509,
    chain: Vec<X509>,
    root: Option<X509>,
}

impl Installed {
    fn new(document: &Document, key: &PKey<Private>) -> Result<Self, Failure> {
        let certificate = X509::from_der(&document.certificate)?;
        if !certificate.public_key()?.public_eq(key) {
            return Err(Failure::Unexpected("the certificate is for another key (0x80180024)"));
        }
        let chain = document.intermediate.iter().map(|der| X509::from_der(der)).collect::<Result<_, _>>()?;
        let root = document.root.as_ref().map(|der| X509::from_der(der)).transpose()?;
        Ok(Self { certificate, chain, root })
    }

    fn subject(&self) -> Vec<(String, String)> {
        let parts = self.certificate.subject_name().entries();
        let text = |part: &openssl::x509::X509NameEntryRef| {
            let kind = part.object().nid().short_name().unwrap_or_default().to_owned();
            (kind, String::from_utf8_lossy(part.data().as_slice()).into_owned())
        };
        parts.map(text).collect()
    }
}

async fn exchange(client: &mut Client, to: &Url, operation: Operation, request: &[u8], id: &str) -> Result<Element, Failure> {
    let response: Response = client.send("POST", to, &[SOAP], request).await?;
    if response.status != 200 || response.header("transfer-encoding").is_some() {
        return Err(Failure::Http(response.status, response.said()));
    }
    let answer = Answer::decode(&response.body)?;
    if answer.action != operation.answer_action() {
        return Err(Failure::Unexpected("the action of another operation"));
    }
    let body = answer.body.map_err(Failure::Fault)?;
    if answer.relates_to.as_deref() != Some(id) {
        return Err(Failure::Unexpected("the answer to another message"));
    }
    Ok(body)
}

fn message_id() -> String {
    format!("urn:uuid:{}", Uuid::new_v4())
}

fn url(text: &str) -> Result<Url, Failure> {
    Url::parse(text).ok().filter(|url| url.scheme() == "https").ok_or(Failure::Unexpected("not an https URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_what_strict_parsers_refuse_and_openssl_reads() {
        let key = new_key().unwrap();
        let der = certificate_request("0123456789ABCDEF0123456789ABCDEF", &key).unwrap();
        let name = b"0123456789ABCDEF0123456789ABCD!";
        let at = der.windows(name.len()).position(|w| w == name).unwrap();
        assert_eq!(der[at - 2], 0x13, "PrintableString");
        assert_eq!(der[at + 63], 0, "NUL at the end of 63 letters");
        let read = X509Req::from_der(&der).unwrap();
        assert!(read.verify(&read.public_key().unwrap()).unwrap());
    }
}
