//! What the demo claims, looked at from the outside: from the devices' own trees and certificates, from what the CA publishes, and from
//! what the receiver accepted. Nothing here reads the database.

mod apple;

use anyhow::{Context as _, ensure};
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspCertStatus, OcspFlag, OcspRequest, OcspResponse};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{CrlStatus, X509, X509Crl, X509NameRef, X509StoreContext};
use reqwest::Url;

use super::Placed;
use super::board::Board;
use super::fleet::Fleet;
use crate::app::App;
use crate::catalogue::{Vars, catalogue};
use crate::service::profile;
use crate::sim::device::Device;
use crate::sim::http::Client;
use crate::sim::receiver::Receiver;

/// How far the responder's clock may be off, in seconds: it is our own.
const SKEW: u32 = 5;

/// One thing that was looked at.
pub(super) struct Check {
    /// What must be so.
    pub(super) what: String,
    /// Whether it is.
    pub(super) passed: bool,
}

fn check(what: impl Into<String>, passed: bool) -> Check {
    Check { what: what.into(), passed }
}

/// Looks at everything. `flips`: the devices that broke the rules, and the signals that told it.
pub(super) async fn all(
    app: &App,
    fleet: &Fleet,
    receiver: &Receiver,
    flips: &[(usize, Option<String>)],
    root: &X509,
    board: &Board,
) -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    let mut published = Published::new(root)?;
    let (mut chained, mut good, mut hello, mut pcs, mut kept, mut others, mut run) = (0, 0, 0, 0, 0, 0, 0);
    let values = hello_values(app)?;
    for placed in &fleet.placed {
        let (leaf, issuer) = placed.certificate()?;
        chained += usize::from(published.chains(leaf, issuer)?);
        if !placed.device.left() {
            good += usize::from(published.status(leaf, issuer).await? == Some(OcspCertStatus::GOOD));
        }
        board.step();
        match &placed.device {
            Device::Windows(pc) => {
                pcs += 1;
                hello += usize::from(values.iter().all(|(uri, value)| pc.tree.get(uri) == Some(value.as_str())));
            }
            // It has dropped everything.
            Device::Apple(device) if device.left => {}
            Device::Apple(device) => {
                others += 1;
                kept += usize::from(apple::holds_all(device, &placed.id, root, issuer)?);
                run += usize::from(apple::runs_application(device));
            }
        }
    }
    let (count, live) = (fleet.placed.len(), fleet.placed.iter().filter(|placed| !placed.device.left()).count());
    checks.push(check(format!("{chained}/{count} devices hold a certificate that chains to the root"), chained == count));
    checks.push(check(format!("{good}/{live} of these are good by OCSP"), good == live));
    checks.push(check(format!("{hello}/{pcs} PCs hold all {} Windows Hello for Business values", values.len()), hello == pcs));
    let what = format!("{kept}/{others} Macs and iPhones hold the assigned profiles with the expected values");
    checks.push(check(what, kept == others));
    checks.push(check(format!("{run}/{others} Macs and iPhones run the organisation's own application, managed"), run == others));
    let (wakes, complaints) = (fleet.apns.count(), fleet.apns.state().complaints.len());
    let what = format!("{wakes} pushes came with the push certificate, its topic, and a wake alone");
    checks.push(check(what, wakes > 0 && complaints == 0));

    let events = receiver.events();
    for (at, flip) in flips {
        let fallen = fleet.placed.get(*at).context("no device")?;
        let id = fallen.id.to_string();
        let told = events.iter().any(|event| Some(&event.jti) == flip.as_ref() && event.device.as_deref() == Some(&id));
        let without = if matches!(fallen.device, Device::Windows(_)) { "PC without BitLocker" } else { "Mac without FileVault" };
        checks.push(check(format!("the receiver holds a valid event for the {without}"), told));
    }
    checks.push(check("the receiver has nothing to complain about", receiver.complaints().is_empty()));

    // The list is published by a job, soon after a revocation.
    board.begin("waiting for the CRL", 4);
    for at in fleet.leavers() {
        let gone = fleet.placed.get(at).context("no device")?;
        let name = if matches!(gone.device, Device::Windows(_)) { "PC" } else { "iPhone" };
        let (leaf, issuer) = gone.certificate()?;
        let identity = gone.device.identity()?;
        let identity_issuer = identity.issuer().context("the server named no issuer")?;
        for (what, leaf, issuer) in [("certificate", leaf, issuer), ("identity", &identity.certificate, identity_issuer)] {
            let by_ocsp = published.status(leaf, issuer).await? == Some(OcspCertStatus::REVOKED);
            let by_crl = published.is_listed(leaf, issuer).await?;
            board.step();
            checks.push(check(format!("the retired {name}'s {what} is revoked by OCSP and in the CRL"), by_ocsp && by_crl));
        }
    }
    Ok(checks)
}

impl Placed {
    /// The certificate that it got by SCEP, and the issuer's.
    fn certificate(&self) -> anyhow::Result<(&X509, &X509)> {
        let held = self.certificate.as_ref().context("a device has no certificate by SCEP")?;
        Ok((&held.certificate, held.issuer().context("the server named no issuer")?))
    }
}

/// Address and value of each Windows Hello for Business setting of the baseline.
fn hello_values(app: &App) -> anyhow::Result<Vec<(String, String)>> {
    let baseline = profile::ready()?.into_iter().find(|(file, _)| file == "windows-hello-for-business").context("no baseline")?.1;
    let tenant = app.tenant.to_string();
    let vars = Vars { tenant: &tenant, provider: &app.config.windows.provider_id };
    let mut values = Vec::new();
    for (id, value) in baseline.document.settings.iter().filter(|(id, _)| id.starts_with("passport-for-work.")) {
        let row = catalogue().setting(id).with_context(|| format!("no setting {id}"))?;
        let uri = row.locuri(crate::catalogue::Scope::Device, &vars).context("no address")?;
        values.push((uri, row.encode(value).map_err(|why| anyhow::anyhow!(why))?));
    }
    // Every device holds all of nothing.
    ensure!(!values.is_empty(), "the baseline sets nothing of Windows Hello for Business");
    Ok(values)
}

/// What the CA publishes, fetched over plain HTTP from the addresses in the certificates.
struct Published {
    root: X509,
    http: Client,
}

impl Published {
    fn new(root: &X509) -> anyhow::Result<Self> {
        Ok(Self { root: root.clone(), http: Client::new(&[], None)? })
    }

    fn chains(&self, leaf: &X509, issuer: &X509) -> anyhow::Result<bool> {
        let mut store = X509StoreBuilder::new()?;
        store.add_cert(self.root.clone())?;
        let mut chain = Stack::new()?;
        chain.push(issuer.clone())?;
        Ok(X509StoreContext::new()?.init(&store.build(), leaf, &chain, |context| context.verify_cert())?)
    }

    /// The certificate's status by OCSP. The answer must be of now, and signed by a responder whose certificate comes along, which the
    /// certificate's own issuer has given the right to and which chains to the root.
    async fn status(&mut self, leaf: &X509, issuer: &X509) -> anyhow::Result<Option<OcspCertStatus>> {
        let responders = leaf.ocsp_responders()?;
        let url = Url::parse(responders.get(0).map(|text| text.as_ref()).context("no OCSP address in the certificate")?)?;
        let question = || OcspCertId::from_cert(MessageDigest::sha1(), leaf, issuer);
        let mut request = OcspRequest::new()?;
        request.add_id(question()?)?;
        let headers = [("Content-Type", "application/ocsp-request")];
        let answer = self.http.send("POST", &url, &headers, &request.to_der()?).await?;
        let basic = OcspResponse::from_der(&answer.body)?.basic()?;
        let mut store = X509StoreBuilder::new()?;
        store.add_cert(self.root.clone())?;
        store.add_cert(issuer.clone())?;
        // No certificate beside the answer: the issuer's own would make one that names no responder pass.
        basic.verify(&*Stack::new()?, &store.build(), OcspFlag::NO_EXPLICIT)?;
        let asked = question()?;
        let Some(found) = basic.find_status(&asked) else { return Ok(None) };
        found.check_validity(SKEW, None)?;
        Ok(Some(found.status))
    }

    /// Whether the certificate is in the CRL that it names.
    async fn is_listed(&mut self, leaf: &X509, issuer: &X509) -> anyhow::Result<bool> {
        let points = leaf.crl_distribution_points().context("no CRL address in the certificate")?;
        let name = points.get(0).and_then(|point| point.distpoint()).and_then(|point| point.fullname());
        let url = name.and_then(|names| names.get(0)).and_then(|name| name.uri()).context("no CRL address in the certificate")?;
        let url = Url::parse(url)?;
        // A revocation makes a CRL due; the job that publishes it runs every few seconds.
        let mut wait = tokio::time::interval(std::time::Duration::from_millis(500));
        for _ in 0..80 {
            wait.tick().await;
            let crl = X509Crl::from_der(&self.http.send("GET", &url, &[], b"").await?.body)?;
            if lists(&crl, leaf, issuer)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the certificate is in the list, which must be its issuer's and in force.
fn lists(crl: &X509Crl, leaf: &X509, issuer: &X509) -> anyhow::Result<bool> {
    let name = |name: &X509NameRef| name.to_der();
    ensure!(name(crl.issuer_name())? == name(issuer.subject_name())?, "the CRL is of another authority");
    ensure!(crl.verify(&*issuer.public_key()?)?, "the CRL is not signed by the certificate's issuer");
    let now = Asn1Time::days_from_now(0)?;
    ensure!(crl.last_update() <= now, "the CRL is of the future");
    ensure!(crl.next_update().is_some_and(|next| next > now), "the CRL is over");
    Ok(matches!(crl.get_by_cert(leaf), CrlStatus::Revoked(_)))
}

#[cfg(test)]
mod tests {
    use openssl::asn1::{Asn1Integer, Asn1IntegerRef};
    use openssl::bn::BigNum;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::sign::Signer;
    use openssl::x509::X509Name;

    use super::*;
    use crate::wire::crl::{Revoked, ToBeSigned};
    use crate::wire::x509::{SignatureAlgorithm, signed};

    fn key() -> PKey<Private> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    fn name(common: &str) -> X509Name {
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", common).unwrap();
        name.build()
    }

    fn serial(number: u32) -> Asn1Integer {
        BigNum::from_u32(number).unwrap().to_asn1_integer().unwrap()
    }

    fn certificate(subject: &X509Name, number: &Asn1IntegerRef, key: &PKey<Private>, issuer: (&X509Name, &PKey<Private>)) -> X509 {
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(number).unwrap();
        builder.set_subject_name(subject).unwrap();
        builder.set_issuer_name(issuer.0).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.set_pubkey(key).unwrap();
        builder.sign(issuer.1, MessageDigest::sha256()).unwrap();
        builder.build()
    }

    /// A list of one certificate, in force from and to so many seconds from now.
    fn list(issuer: &X509Name, key: &PKey<Private>, number: u8, (from, to): (i64, i64)) -> X509Crl {
        use crate::clock::{Clock as _, SystemClock};
        let now = SystemClock.now().seconds();
        let body = ToBeSigned {
            algorithm: SignatureAlgorithm::EcdsaSha256,
            issuer: &issuer.to_der().unwrap(),
            issuer_key: &[1; 20],
            number: 1,
            this_update: now + from,
            next_update: now + to,
            revoked: &[Revoked { serial: vec![number], at: now, reason: 0 }],
        };
        let body = body.der();
        let signature = Signer::new(MessageDigest::sha256(), key).unwrap().sign_oneshot_to_vec(&body).unwrap();
        X509Crl::from_der(&signed(&body, SignatureAlgorithm::EcdsaSha256, &signature)).unwrap()
    }

    #[test]
    fn a_crl_counts_only_with_its_issuers_signature_and_while_it_is_in_force() {
        let (own, others) = (key(), key());
        let (authority, another) = (name("Authority"), name("Another"));
        let issuer = certificate(&authority, &serial(1), &own, (&authority, &own));
        let leaf = certificate(&name("Leaf"), &serial(7), &others, (&authority, &own));
        let now = (-60, 3600);
        assert!(lists(&list(&authority, &own, 7, now), &leaf, &issuer).unwrap());
        assert!(!lists(&list(&authority, &own, 8, now), &leaf, &issuer).unwrap());
        let refused = |crl: X509Crl| lists(&crl, &leaf, &issuer).unwrap_err().to_string();
        assert!(refused(list(&authority, &others, 7, now)).contains("not signed"));
        assert!(refused(list(&another, &own, 7, now)).contains("another authority"));
        assert!(refused(list(&authority, &own, 7, (-3600, -60))).contains("over"));
        assert!(refused(list(&authority, &own, 7, (3600, 7200))).contains("future"));
    }
}
