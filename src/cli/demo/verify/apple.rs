//! What a Mac or an iPhone of the demo has in its profile store, beside what the profiles say that are assigned to it.

use anyhow::ensure;
use openssl::nid::Nid;
use openssl::x509::X509;
use serde_json::Value as Json;

use crate::catalogue::payload::System;
use crate::cli::demo::organisation;
use crate::domain::device::Platform;
use crate::domain::profile::{Document, Payload};
use crate::ids::DeviceId;
use crate::sim::apple::Device;
use crate::sim::apple::profiles::Installed;
use crate::wire::plist::Value;

/// Whether the device holds a profile for each document, with all that the document says.
pub(super) fn holds_all(device: &Device, id: &DeviceId, root: &X509, issuer: &X509) -> anyhow::Result<bool> {
    let platform = if device.machine.system == System::Mac { Platform::MacOs } else { Platform::Ios };
    let documents = organisation::configurations(platform)?;
    // Every device holds all of nothing.
    ensure!(documents.iter().map(|document| document.payloads.len()).sum::<usize>() >= 4, "the baselines bring nothing");
    let expected = Expected { id: id.as_str(), root: root.to_der()?, issuer: issuer.to_der()? };
    Ok(documents.iter().all(|document| device.profiles.iter().any(|installed| expected.is(installed, document))))
}

/// Whether the device runs the organisation's own application, managed and in its version.
pub(super) fn runs_application(device: &Device) -> bool {
    let app = device.apps.installed.get(organisation::BUNDLE);
    app.is_some_and(|app| app.managed && app.version == organisation::VERSION)
}

/// What is filled in for one device.
struct Expected<'a> {
    id: &'a str,
    root: Vec<u8>,
    issuer: Vec<u8>,
}

impl Expected<'_> {
    fn is(&self, installed: &Installed, document: &Document) -> bool {
        document.payloads.len() == installed.profile.payloads().len() && document.payloads.iter().all(|wanted| self.has(installed, wanted))
    }

    fn has(&self, installed: &Installed, wanted: &Payload) -> bool {
        match wanted.kind.as_str() {
            "trusted-certificate" => {
                let own = if wanted.body.get("authority").and_then(Json::as_str) == Some("root") { &self.root } else { &self.issuer };
                installed.certificates.values().any(|held| held == own)
            }
            "scep" => installed.identities.values().any(|identity| self.is_named(&identity.certificate)),
            kind => installed.profile.payloads().iter().any(|payload| {
                payload.kind == kind && wanted.body.iter().all(|(key, value)| payload.body.get(key).is_some_and(|held| is(held, value)))
            }),
        }
    }

    /// Whether the certificate is the device's, by its common name.
    fn is_named(&self, der: &[u8]) -> bool {
        let Ok(certificate) = X509::from_der(der) else { return false };
        let name = certificate.subject_name().entries_by_nid(Nid::COMMONNAME).next();
        name.and_then(|entry| entry.data().to_string().ok()).as_deref() == Some(self.id)
    }
}

/// Whether a value of a property list is what the document says.
fn is(held: &Value, wanted: &Json) -> bool {
    match (held, wanted) {
        (Value::Boolean(held), Json::Bool(wanted)) => held == wanted,
        (Value::String(held), Json::String(wanted)) => held == wanted,
        (Value::Integer(held), Json::Number(wanted)) => wanted.as_i64() == Some(*held),
        _ => false,
    }
}
