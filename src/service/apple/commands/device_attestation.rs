//! An attestation of the device: `DeviceInformation` with a fresh code. Devices make a new one at most every seven days, which is how often
//! they are asked.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::attestation::PROVISIONING_UDID;
use super::super::turn::Turn;
use super::{Body, Request, Subject, report};
use crate::catalogue::OsVersion;
use crate::domain::apple::attestation::Fault;
use crate::domain::device::Platform;
use crate::service::Result;
use crate::wire::apple::attestation::Properties;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{Data, Dict, Value};

pub(super) struct DeviceAttestation;

/// The first versions whose devices can be attested.
const MAC: u32 = 14;
const IOS: u32 = 16;
/// Whether a Mac has a chip of Apple's.
const APPLE_SILICON: &str = "apple.apple-silicon";

impl Request for DeviceAttestation {
    fn name(&self) -> &'static str {
        "DeviceAttestation"
    }

    fn fits(&self, turn: &Turn<'_>) -> bool {
        let since = if turn.device.platform == Platform::MacOs { MAC } else { IOS };
        let version = turn.device.os_version.as_deref().and_then(OsVersion::parse);
        // What a Mac's attestation is held against comes first, and whether it can make one.
        let told = |name: &str| turn.reported.contains_key(name) || turn.known.facts.contains_key(name);
        let ready = turn.device.platform != Platform::MacOs || (told(PROVISIONING_UDID) && turn.fact(APPLE_SILICON) != Some("false"));
        version.is_some_and(|version| version.major >= since) && ready
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, _subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let queries = vec![Value::from("DevicePropertiesAttestation")];
            let nonce = Data(turn.new_nonce()?);
            Ok(Body::Instead("DeviceInformation", Dict::new().with("Queries", queries).with("DeviceAttestationNonce", nonce)))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        let facts = match turn.judge_attestation(answer) {
            Ok(Ok(properties)) => attested(&properties),
            Ok(Err(fault)) => {
                tracing::info!(device = %turn.device.id, %fault, "no evidence of what the device is");
                none(fault)
            }
            Err(error) => {
                tracing::error!(device = %turn.device.id, %error, "the attestation was not judged");
                return report(turn, self.name(), None);
            }
        };
        report(turn, self.name(), Some(&facts));
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _why: &str) {
        report(turn, self.name(), Some(&none(Fault::Missing)));
    }
}

/// The facts of an attestation, under the names that the catalogue knows them by: only what it says is known.
fn attested(properties: &Properties) -> Dict {
    let switch = |on: bool| if on { "enabled" } else { "disabled" };
    let mut facts = Dict::new().with("Evidence", "attested");
    facts.insert_some("SystemVersion", properties.os_version.as_deref());
    facts.insert_some("SecureEnclaveVersion", properties.sep_os_version.as_deref());
    facts.insert_some("BootLoaderVersion", properties.llb_version.as_deref());
    facts.insert_some("SystemIntegrityProtection", properties.sip.map(switch));
    facts.insert_some("SecureBoot", properties.secure_boot.as_deref());
    facts.insert_some("KernelExtensions", properties.kexts.map(switch));
    facts
}

fn none(fault: Fault) -> Dict {
    Dict::new().with("Evidence", "none").with("Fault", fault.as_str())
}
