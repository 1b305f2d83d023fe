//! How a simulated device takes profiles in: the enrolment profile first, any other later. Certificates go before identities, and
//! identities before management, as on Apple's systems.

use std::collections::{BTreeMap, BTreeSet};

use openssl::hash::{MessageDigest, hash};
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::rand::rand_bytes;
use openssl::rsa::Rsa;
use openssl::x509::X509;
use reqwest::Url;
use uuid::Uuid;

use super::account::SignedIn;
use super::declarations::Declarations;
use super::machine::{Machine, Settings};
use super::profiles::{self, Installed, Opened, Refused, Store};
use super::{After, Device, Enrollment, Error, Faults};
use crate::catalogue::payload::System;
use crate::sim::http::Client;
use crate::sim::scep;
use crate::wire::Malformed;
use crate::wire::apple::PROFILE;
use crate::wire::apple::enroll::{MDM, Mdm, Mode};
use crate::wire::apple::profile::{Payload, Profile};
use crate::wire::pkcs10::{GeneralName, NamePart, Wish, key_usage};
use crate::wire::plist::{Dict, Value};

/// Bits of a key when the profile does not say.
const KEY_BITS: u32 = 1024;
/// How often a SCEP payload that does not say it asks again.
const RETRIES: i64 = 3;

/// How a profile reached the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By a command.
    Command,
    /// By a declaration.
    Declaration,
}

/// Makes the identities of a profile.
struct Maker<'a> {
    roots: Vec<X509>,
    key: Option<&'a PKey<Private>>,
    now: crate::clock::Time,
    fails: bool,
    machine: &'a Machine,
}

/// A fresh RSA key as Apple's systems make it. Slow: call it off the async threads.
///
/// # Errors
/// When OpenSSL fails.
pub fn new_key() -> Result<PKey<Private>, openssl::error::ErrorStack> {
    PKey::from_rsa(Rsa::generate(2048)?)
}

/// Signs in on the server's enrolment page as a user does, with a pass: the profile for one device of that system.
///
/// # Errors
/// [`Error::Http`] when the server refuses; [`Error::Connection`].
pub async fn download(http: &mut Client, web: &Url, user: &str, pass: &str, system: System) -> Result<Vec<u8>, Error> {
    let url = web.join("/enroll/apple").map_err(std::io::Error::other)?;
    let agent = match system {
        System::Mac => "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605.1.15",
        System::Ios => "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Safari/604.1",
    };
    let mut form = url.clone();
    form.query_pairs_mut().append_pair("user_name", user).append_pair("pass", pass);
    let headers = [("User-Agent", agent), ("Content-Type", "application/x-www-form-urlencoded")];
    let answer = http.send("POST", &url, &headers, form.query().unwrap_or_default().as_bytes()).await?;
    if answer.status == 200 && answer.header("content-type") == Some(PROFILE) {
        Ok(answer.body)
    } else if answer.status == 200 {
        Err(Malformed::new("no profile", "enrolment page").into())
    } else {
        Err(Error::Http(answer.status, answer.said()))
    }
}

impl Device {
    /// Installs an enrolment profile as a user does, and introduces the device to the server: identity, `Authenticate`, `TokenUpdate`.
    /// `roots` is what the machine trusts beforehand; `key` becomes the identity's when it has the size that the profile asks for.
    ///
    /// # Errors
    /// [`Error`]: the device refuses the profile, or the server refuses the device.
    pub async fn enroll(roots: &[X509], profile: &[u8], machine: Machine, key: &PKey<Private>) -> Result<Self, Error> {
        Self::enroll_as(roots, profile, machine, Settings::default(), key).await
    }

    /// The same for a machine that is set in another way than usual.
    ///
    /// # Errors
    /// Those of [`Device::enroll`].
    pub async fn enroll_as(
        roots: &[X509],
        profile: &[u8],
        machine: Machine,
        settings: Settings,
        key: &PKey<Private>,
    ) -> Result<Self, Error> {
        Self::enroll_with(roots, profile, machine, settings, key, None).await
    }

    /// The same, by account or not.
    pub(super) async fn enroll_with(
        roots: &[X509],
        profile: &[u8],
        machine: Machine,
        settings: Settings,
        key: &PKey<Private>,
        signed_in: Option<SignedIn>,
    ) -> Result<Self, Error> {
        let opened = profiles::open(profile, roots)?;
        let mdm = mdm(&opened.profile)?.ok_or_else(|| Refused::profile("no management payload"))?;
        if mdm.enrollment_mode != signed_in.as_ref().map(|signed_in| signed_in.mode) {
            return Err(Refused::profile("EnrollmentMode: not what the device was told to become").into());
        }
        let user = mdm.enrollment_mode == Some(Mode::User);
        profiles::check(&opened.profile, &machine, user)?;
        let maker = Maker {
            roots: roots.to_vec(),
            key: Some(key),
            now: crate::clock::Clock::now(&crate::clock::SystemClock),
            fails: false,
            machine: &machine,
        };
        let installed = maker.install(opened, false).await?;
        let enrollment = managed(mdm, &installed, roots)?;
        let (mut token, mut unlock) = ([0u8; 32], [0u8; 48]);
        rand_bytes(&mut token)?;
        rand_bytes(&mut unlock)?;
        let mut device = Self {
            machine,
            settings,
            faults: Faults::default(),
            enrollment,
            profiles: Store::default(),
            declarations: Declarations::default(),
            apps: super::apps::Apps::default(),
            left: false,
            ran: BTreeMap::new(),
            refusals: Vec::new(),
            heard: None,
            said: None,
            nodes: Vec::new(),
            scep_key: None,
            user: None,
            others: BTreeMap::new(),
            attestor: None,
            claims: None,
            attested: None,
            enrollment_id: user.then(|| Uuid::new_v4().to_string().to_ascii_uppercase()),
            push_token: token.to_vec(),
            push_magic: Uuid::new_v4().to_string().to_ascii_uppercase(),
            unlock_token: unlock.to_vec(),
            bootstrap_token: None,
            bearer: signed_in.map(|signed_in| signed_in.bearer),
            roots: roots.to_vec(),
            calls: 0,
            after: After::Nothing,
            unsent: None,
            successor: None,
            returns: None,
            enclave: BTreeMap::new(),
        };
        device.profiles.installed.insert(installed.profile.identifier.clone(), installed);
        device.introduce().await?;
        device.hand_over_bootstrap_token().await?;
        Ok(device)
    }

    /// Installs a profile that came from the server.
    ///
    /// # Errors
    /// [`Refused`]; then nothing has changed.
    pub(super) async fn install(&mut self, document: &[u8], way: Way) -> Result<String, Refused> {
        let opened = profiles::open(document, &self.trusted())?;
        profiles::check(&opened.profile, &self.machine, self.is_users())?;
        let for_user = opened.profile.body.string("PayloadScope") == Some("User");
        if for_user != self.user.is_some() {
            return Err(Refused::profile("the profile is for another channel"));
        }
        let identifier = opened.profile.identifier.clone();
        let others = self.profiles.iter().map(|installed| &installed.profile).filter(|other| other.identifier != identifier);
        let taken: BTreeSet<String> = others.flat_map(profiles::addresses).collect();
        if let Some(address) = profiles::addresses(&opened.profile).into_iter().find(|address| taken.contains(address)) {
            return Err(Refused::profile(format!("two extensions answer for {address}")));
        }
        let next = mdm(&opened.profile)?;
        match (&next, identifier == self.enrollment.profile) {
            (Some(_), _) if way == Way::Declaration => return Err(Refused::profile("management does not come by a declaration")),
            (Some(_), false) => return Err(Refused::profile("the device is managed already")),
            (None, true) => return Err(Refused::profile("the profile would end management")),
            (Some(next), true) => {
                if let Some(key) = self.enrollment.mdm.refuses(next) {
                    return Err(Refused::profile(format!("{key} cannot be changed")));
                }
            }
            (None, false) => {}
        }
        if self.profiles.get(&identifier).is_some_and(|known| known.declared) && way == Way::Command {
            return Err(Refused::profile("the profile belongs to a declaration"));
        }
        let installed = self.maker().install(opened, way == Way::Declaration).await?;
        if let Some(next) = next {
            let failed = |error: Error| Refused::installation(error.to_string());
            self.successor = Some(managed(next, &installed, &self.roots).map_err(failed)?);
        }
        self.profiles.installed.insert(identifier.clone(), installed);
        Ok(identifier)
    }

    fn maker(&self) -> Maker<'_> {
        Maker { roots: self.trusted(), key: self.scep_key.as_ref(), now: self.now(), fails: self.faults.no_scep, machine: &self.machine }
    }

    /// The identity that a payload brings.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) async fn identity_of(&self, payload: &Payload) -> Result<scep::Identity, Refused> {
        let made = self.maker().identity(payload, &self.trusted()).await?;
        made.map(|(identity, _)| identity).ok_or_else(|| Refused::installation("no identity"))
    }

    /// What the device trusts: what it trusted beforehand, and the roots in its profiles.
    pub(super) fn trusted(&self) -> Vec<X509> {
        let mut all = self.roots.clone();
        for installed in self.profiles.iter() {
            all.extend(installed.roots());
        }
        all
    }
}

/// Installs a profile with an identity, and nothing that stays: the identity that was made.
pub(super) async fn introduce(document: &[u8], roots: &[X509], machine: &Machine) -> Result<scep::Identity, Error> {
    let opened = profiles::open(document, roots)?;
    profiles::check(&opened.profile, machine, false)?;
    let maker =
        Maker { roots: roots.to_vec(), key: None, now: crate::clock::Clock::now(&crate::clock::SystemClock), fails: false, machine };
    let installed = maker.install(opened, false).await?;
    installed.identities.into_values().next().ok_or_else(|| Refused::profile("no identity").into())
}

/// The management payload of a profile.
fn mdm(profile: &Profile) -> Result<Option<Mdm>, Refused> {
    let mut all = profile.payloads().iter().filter(|payload| payload.kind == MDM);
    let first = all.next().map(profiles::mdm_of).transpose().map_err(Refused::profile)?;
    if all.next().is_some() { Err(Refused::profile("two management payloads")) } else { Ok(first) }
}

fn managed(mdm: Mdm, installed: &Installed, roots: &[X509]) -> Result<Enrollment, Error> {
    let identity = installed.identities.get(&mdm.identity).cloned().ok_or_else(|| Refused::profile("the identity is none"))?;
    let mut roots = roots.to_vec();
    roots.extend(installed.roots());
    let leaf = X509::from_der(&identity.certificate)?;
    let chain: Vec<X509> = installed.chain.iter().filter_map(|der| X509::from_der(der).ok()).collect();
    let above: Vec<X509> = chain.into_iter().filter(|c| c.issued(&leaf) == openssl::x509::X509VerifyResult::OK).collect();
    // Who signs its messages shows no certificate besides: the face that it calls asks for none.
    let shown = (!mdm.sign_message).then_some((&leaf, above.as_slice(), &identity.key));
    let client = Client::new(&roots, shown)?;
    Ok(Enrollment { mdm, profile: installed.profile.identifier.clone(), identity, chain: installed.chain.clone(), client })
}

impl Installed {
    /// The certificates that the device trusts because of this profile.
    fn roots(&self) -> Vec<X509> {
        let roots = self.profile.payloads().iter().filter(|payload| payload.kind == "com.apple.security.root");
        roots.filter_map(|payload| X509::from_der(self.certificates.get(&payload.uuid)?).ok()).collect()
    }
}

impl Maker<'_> {
    async fn install(&self, opened: Opened, declared: bool) -> Result<Installed, Refused> {
        let mut installed = Installed {
            profile: opened.profile,
            signer: opened.signer,
            declared,
            identities: BTreeMap::new(),
            certificates: BTreeMap::new(),
            chain: Vec::new(),
        };
        let payloads = installed.profile.payloads().to_vec();
        for payload in &payloads {
            if let Some(certificate) = certificate(payload)? {
                installed.certificates.insert(payload.uuid.clone(), certificate);
            }
        }
        let mut roots = self.roots.clone();
        roots.extend(installed.roots());
        for payload in &payloads {
            if let Some((identity, chain)) = self.identity(payload, &roots).await? {
                installed.chain.extend(chain);
                installed.identities.insert(payload.uuid.clone(), identity);
            }
        }
        Ok(installed)
    }

    /// The identity that a payload brings, if it brings one, and the certificates that its server named.
    async fn identity(&self, payload: &Payload, roots: &[X509]) -> Result<Option<(scep::Identity, Vec<Vec<u8>>)>, Refused> {
        match payload.kind.as_str() {
            "com.apple.security.scep" => {
                let failed = |e: scep::Error| Refused { domain: "MCSCEPErrorDomain", code: 22013, why: e.to_string() };
                self.scep(payload, roots).await.map(Some).map_err(failed)
            }
            "com.apple.security.pkcs12" => Ok(Some((pkcs12(payload, self.machine)?, Vec::new()))),
            "com.apple.security.acme" => Err(Refused::installation("this device cannot speak ACME")),
            _ => Ok(None),
        }
    }

    /// Has a key certified, anew with each installation.
    async fn scep(&self, payload: &Payload, roots: &[X509]) -> Result<(scep::Identity, Vec<Vec<u8>>), scep::Error> {
        if self.fails {
            return Err(scep::Error::Foreign);
        }
        let empty = Dict::new();
        let content = payload.body.dict("PayloadContent").unwrap_or(&empty);
        let text = |key: &str| content.string(key).unwrap_or_default();
        let mut http = Client::new(roots, None)?;
        let server = scep::Server::discover_at(&mut http, text("URL"), text("Name"), scep::Options::default()).await?;
        if let Some(pinned) = content.data("CAFingerprint") {
            let digest = if pinned.len() == 20 { MessageDigest::sha1() } else { MessageDigest::sha256() };
            let is = |der: &Vec<u8>| hash(digest, der).is_ok_and(|digest| *digest == *pinned);
            if !server.certificates.iter().any(is) {
                return Err(scep::Error::Foreign);
            }
        }
        let bits = content.integer("Keysize").and_then(|bits| u32::try_from(bits).ok()).unwrap_or(KEY_BITS);
        let key = match self.key.filter(|key| key.bits() == bits) {
            Some(key) => key.clone(),
            None => {
                let made = tokio::task::spawn_blocking(move || Rsa::generate(bits).and_then(PKey::from_rsa)).await;
                made.map_err(std::io::Error::other)??
            }
        };
        let mut outcome = server.enroll_with(&mut http, &wish(content), &key, self.now).await?;
        // Its clock stands still meanwhile.
        for _ in 0..content.integer("Retries").unwrap_or(RETRIES) {
            match outcome {
                scep::Outcome::Pending(waiting) => outcome = server.poll(&mut http, &waiting).await?,
                scep::Outcome::Issued(_) => break,
            }
        }
        match outcome {
            scep::Outcome::Issued(identity) => Ok((identity, server.certificates.clone())),
            scep::Outcome::Pending(_) => Err(scep::Error::Undecided),
        }
    }
}

/// What a SCEP payload asks for.
fn wish(content: &Dict) -> Wish {
    let mut subject = Vec::new();
    for (rdn, pairs) in content.array("Subject").unwrap_or_default().iter().enumerate() {
        for pair in pairs.as_array().unwrap_or_default() {
            let [kind, value] = pair.as_array().unwrap_or_default() else { continue };
            let (Some(kind), Some(value)) = (kind.as_str(), value.as_str()) else { continue };
            subject.push(NamePart { rdn, oid: attribute(kind).to_owned(), value: value.to_owned() });
        }
    }
    let names = content.dict("SubjectAltName");
    let all = |key: &str, make: fn(String) -> GeneralName| {
        let value = names.and_then(|names| names.get(key));
        let list = match value {
            Some(Value::Array(list)) => list.as_slice(),
            Some(single) => std::slice::from_ref(single),
            None => &[],
        };
        list.iter().filter_map(Value::as_str).map(|text| make(text.to_owned())).collect::<Vec<_>>()
    };
    let san = [
        all("rfc822Name", GeneralName::Email),
        all("dNSName", GeneralName::Dns),
        all("uniformResourceIdentifier", GeneralName::Uri),
        all("ntPrincipalName", GeneralName::Upn),
    ]
    .concat();
    let usage = content.integer("Key Usage").unwrap_or(0);
    let bit = |asked: i64, usage_bit: u16| if usage & asked == 0 { 0 } else { usage_bit };
    let usage = bit(1, key_usage::DIGITAL_SIGNATURE) | bit(4, key_usage::KEY_ENCIPHERMENT);
    Wish {
        subject,
        san,
        key_usage: (usage != 0).then_some(usage),
        challenge: content.string("Challenge").map(str::to_owned),
        ..Wish::default()
    }
}

/// The shortcuts of Apple's systems; anything else is an object identifier.
fn attribute(kind: &str) -> &str {
    match kind {
        "C" => "2.5.4.6",
        "L" => "2.5.4.7",
        "ST" => "2.5.4.8",
        "O" => "2.5.4.10",
        "OU" => "2.5.4.11",
        "CN" => "2.5.4.3",
        other => other,
    }
}

/// The certificate of a payload that holds one.
fn certificate(payload: &Payload) -> Result<Option<Vec<u8>>, Refused> {
    let content = payload.body.data("PayloadContent").unwrap_or_default();
    let read = match payload.kind.as_str() {
        "com.apple.security.root" | "com.apple.security.pkcs1" => X509::from_der(content),
        "com.apple.security.pem" => X509::from_pem(content),
        _ => return Ok(None),
    };
    let broken = |_| Refused::installation(format!("{}: no certificate", payload.identifier));
    read.and_then(|certificate| certificate.to_der()).map(Some).map_err(broken)
}

/// The object identifier of PBES2, in its encoding.
const PBES2: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];

fn pkcs12(payload: &Payload, machine: &Machine) -> Result<scep::Identity, Refused> {
    let broken = |what: &str| Refused::installation(format!("{}: {what}", payload.identifier));
    let content = payload.body.data("PayloadContent").unwrap_or_default();
    let password = payload.body.string("Password").unwrap_or_default();
    if password.is_empty() {
        return Err(broken("without a password"));
    }
    // Older systems do not open what is encrypted by AES or checked by SHA-256.
    let old = machine.version().major < if machine.system == System::Mac { 15 } else { 18 };
    if old && content.windows(PBES2.len()).any(|window| window == PBES2) {
        return Err(broken("encrypted in a way that is not known here"));
    }
    let parsed = Pkcs12::from_der(content).and_then(|file| file.parse2(password)).map_err(|_| broken("cannot be opened"))?;
    match (parsed.cert, parsed.pkey) {
        (Some(certificate), Some(key)) => {
            Ok(scep::Identity { certificate: certificate.to_der().map_err(|_| broken("no certificate"))?, key })
        }
        _ => Err(broken("not one identity")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_becomes_a_request() {
        let pair = |a: &str, b: &str| Value::Array(vec![Value::Array(vec![a.into(), b.into()])]);
        let content = Dict::new()
            .with("Subject", vec![pair("O", "Example"), pair("2.5.4.5", "S1")])
            .with("Challenge", "c")
            .with("Key Usage", 5)
            .with("SubjectAltName", Dict::new().with("dNSName", vec![Value::from("a"), Value::from("b")]).with("ntPrincipalName", "u@x"));
        let wish = wish(&content);
        let subject: Vec<(usize, &str)> = wish.subject.iter().map(|part| (part.rdn, part.oid.as_str())).collect();
        assert_eq!(subject, [(0, "2.5.4.10"), (1, "2.5.4.5")]);
        assert_eq!(wish.san, [GeneralName::Dns("a".into()), GeneralName::Dns("b".into()), GeneralName::Upn("u@x".into())]);
        assert_eq!(wish.key_usage, Some(key_usage::DIGITAL_SIGNATURE | key_usage::KEY_ENCIPHERMENT));
        assert_eq!(wish.challenge.as_deref(), Some("c"));
    }
}
