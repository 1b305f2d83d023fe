//! What the demo claims, looked at from the outside: from the devices' own trees and certificates, from what the CA publishes, and from
//! what the receiver accepted. Nothing here reads the database.

use anyhow::Context as _;
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspCertStatus, OcspFlag, OcspRequest, OcspResponse};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{CrlStatus, X509, X509Crl, X509StoreContext};
use reqwest::Url;

use super::Placed;
use super::board::Board;
use crate::app::App;
use crate::catalogue::{Vars, catalogue};
use crate::service::profile;
use crate::sim::http::Client;
use crate::sim::receiver::Receiver;

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

/// Looks at everything.
pub(super) async fn all(
    app: &App,
    fleet: &[Placed],
    (outlaw, leaver): (usize, usize),
    receiver: &Receiver,
    flip: &Option<String>,
    root: &X509,
    board: &Board,
) -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    let mut published = Published::new(root)?;
    let (mut chained, mut good, mut hello) = (0, 0, 0);
    let expected = hello_values(app)?;
    for (at, placed) in fleet.iter().enumerate() {
        let held = placed.device.certificates.values().next().context("a device has no certificate by SCEP")?;
        let leaf = X509::from_der(&held.identity.certificate)?;
        let issuer =
            held.chain.iter().find_map(|der| X509::from_der(der).ok().filter(|c| c.issued(&leaf) == openssl::x509::X509VerifyResult::OK));
        let issuer = issuer.context("the server named no issuer")?;
        chained += usize::from(published.chains(&leaf, &issuer)?);
        if at != leaver {
            good += usize::from(published.status(&leaf, &issuer).await? == Some(OcspCertStatus::GOOD));
        }
        let tree = &placed.device.tree;
        board.step();
        hello += usize::from(expected.iter().all(|(uri, value)| tree.get(uri) == Some(value.as_str())));
    }
    let (count, live) = (fleet.len(), fleet.len() - 1);
    checks.push(check(format!("{chained}/{count} devices hold a certificate that chains to the root"), chained == count));
    checks.push(check(format!("{good}/{live} of these are good by OCSP"), good == live));
    checks.push(check(format!("{hello}/{count} devices hold all {} Windows Hello for Business values", expected.len()), hello == count));

    let fallen = fleet.get(outlaw).context("no device")?.id.to_string();
    let events = receiver.events();
    let told = events.iter().any(|event| Some(&event.jti) == flip.as_ref() && event.device.as_deref() == Some(&fallen));
    checks.push(check("the receiver holds a valid event for the device without BitLocker", told));
    checks.push(check("the receiver has nothing to complain about", receiver.complaints().is_empty()));

    // The list is published by a job, soon after a revocation.
    board.begin("waiting for the CRL", 2);
    let gone = fleet.get(leaver).context("no device")?;
    let held = gone.device.certificates.values().next().context("the retired device had no certificate")?;
    for (what, leaf) in
        [("certificate", X509::from_der(&held.identity.certificate)?), ("identity", gone.device.identity.certificate.clone())]
    {
        let issuer = gone.device.identity.chain.first().cloned().context("no issuer")?;
        let by_ocsp = published.status(&leaf, &issuer).await? == Some(OcspCertStatus::REVOKED);
        let by_crl = published.is_listed(&leaf).await?;
        board.step();
        checks.push(check(format!("the retired device's {what} is revoked by OCSP and in the CRL"), by_ocsp && by_crl));
    }
    Ok(checks)
}

/// Address and value of each Windows Hello for Business setting of the baseline.
fn hello_values(app: &App) -> anyhow::Result<Vec<(String, String)>> {
    let baseline = profile::ready()?.into_iter().find(|(file, _)| file == "windows-hello-for-business").context("no baseline")?.1;
    let tenant = app.tenant.to_string();
    let vars = Vars { tenant: &tenant, provider: &app.config.windows.provider_id };
    let mut values = Vec::new();
    for (id, value) in &baseline.document.settings {
        let Some(row) = catalogue().setting(id).filter(|row| row.uri.contains("PassportForWork")) else { continue };
        let uri = row.locuri(crate::catalogue::Scope::Device, &vars).context("no address")?;
        values.push((uri, row.encode(value).map_err(|why| anyhow::anyhow!(why))?));
    }
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

    /// The certificate's status by OCSP, if the answer is signed for it.
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
        let mut chain = Stack::new()?;
        chain.push(issuer.clone())?;
        basic.verify(&chain, &store.build(), OcspFlag::empty())?;
        let asked = question()?;
        let found = basic.find_status(&asked);
        Ok(found.map(|found| found.status))
    }

    /// Whether the certificate is in the CRL that it names.
    async fn is_listed(&mut self, leaf: &X509) -> anyhow::Result<bool> {
        let points = leaf.crl_distribution_points().context("no CRL address in the certificate")?;
        let name = points.get(0).and_then(|point| point.distpoint()).and_then(|point| point.fullname());
        let url = name.and_then(|names| names.get(0)).and_then(|name| name.uri()).context("no CRL address in the certificate")?;
        let url = Url::parse(url)?;
        // A revocation makes a CRL due; the job that publishes it runs every few seconds.
        let mut wait = tokio::time::interval(std::time::Duration::from_millis(500));
        for _ in 0..80 {
            wait.tick().await;
            let crl = X509Crl::from_der(&self.http.send("GET", &url, &[], b"").await?.body)?;
            if matches!(crl.get_by_cert(leaf), CrlStatus::Revoked(_)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
