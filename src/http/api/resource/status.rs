//! `/api/status`: how the instance stands.

use crate::domain::access::{Action, Need, Scope};
use crate::domain::signal::ReceiverStatus;
use crate::http::api::problem::Result;
use crate::http::api::route::{Call, Reply, routes};
use crate::http::api::schema::{At, Nothing, shown};
use crate::service::status;

/// To see how the server runs.
pub(super) const READ: Need =
    Need { scopes: &[Scope::OperationsReadAll, Scope::OperationsReadWriteAll], action: Some(Action::OperationsRead) };

routes! {
    /// Shows how the instance stands, with everything that asks for attention, alarms first.
    Get "status", READ, Nothing, Nothing => 200 Status, [], show;
}

shown! {
    /// How the instance stands.
    Status {
        /// Version of the program.
        version: &'static str,
        /// The organisation's name.
        organisation: String,
        /// Its id.
        tenant: String,
        /// The kind of the database: SQLite or PostgreSQL.
        database: String,
        /// Base URL of the web face.
        web: String,
        /// Base URL of the device face.
        device: String,
        /// Base URL of the CA's plain HTTP face.
        pki: String,
        /// The server's clock.
        time: At,
        /// Whether something does not work: one of `attention` is an alarm.
        alarm: bool,
        /// What asks for somebody's attention.
        attention: Vec<Attention>,
        /// The authority that issues to devices; null when none does.
        issuing: Option<Issuing>,
        /// Apple's push certificate; null when there is none.
        apple_push: Option<PushCertificate>,
        /// Servers of Apple Business Manager.
        apple_ade: Vec<BusinessManager>,
        /// Receivers of signals that are paused, or did not take what was sent to them last.
        failing_receivers: Vec<FailingReceiver>,
        /// Hardware that more than one device claims to be.
        contested_hardware: Vec<ContestedHardware>,
        /// Devices that say they have another serial number than they enrolled with.
        contested_serials: Vec<ContestedSerial>,
    }
}

shown! {
    /// Something that asks for attention.
    Attention {
        /// Which part of the server says it.
        part: String,
        /// Whether something does not work already.
        alarm: bool,
        /// What it is, and what to do about it.
        text: String,
    }
}

shown! {
    /// The authority that issues to devices.
    Issuing {
        /// Its name.
        name: String,
        /// Whole days until its end.
        days_left: Option<i64>,
    }
}

shown! {
    /// Apple's push certificate.
    PushCertificate {
        /// The topic that devices enrol for.
        topic: String,
        /// Whole days until its end; negative when it has ended.
        days_left: Option<i64>,
    }
}

shown! {
    /// A server of Apple Business Manager.
    BusinessManager {
        /// Its name.
        name: String,
        /// The organisation as Apple names it.
        organisation: Option<String>,
        /// How many devices it lists.
        devices: i64,
        /// When the list was last read to its end, RFC 3339.
        synced_at: Option<String>,
        /// Whole days until its token ends; negative when it has ended.
        days_left: Option<i64>,
    }
}

shown! {
    /// A receiver that does not get its signals.
    FailingReceiver {
        /// Its name.
        name: String,
        /// Whether it is to get them.
        status: ReceiverStatus,
        /// How many tries failed.
        failed_tries: i64,
        /// Why.
        why: Option<String>,
        /// When something last reached it, RFC 3339.
        last_success: Option<String>,
    }
}

shown! {
    /// Hardware that more than one device claims to be.
    ContestedHardware {
        /// What they say they are.
        hardware_id: String,
        /// The ids of those who say so.
        devices: Vec<String>,
    }
}

shown! {
    /// A device that says it has another serial number than it enrolled with.
    ContestedSerial {
        /// Its id.
        device: String,
        /// The number that counts.
        serial_number: Option<String>,
        /// What it says.
        says: String,
    }
}

async fn show(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Status>> {
    call.of_all()?;
    let found = status::read(call.app).await?;
    let attention: Vec<Attention> =
        found.attention().into_iter().map(|one| Attention { part: one.part, alarm: one.alarm, text: one.text }).collect();
    let push = found.apple_push;
    let shown = Status {
        version: found.version,
        organisation: found.organisation,
        tenant: found.tenant,
        // Where on the machine the file is, is nobody's business over the network.
        database: found.database.split(',').next().unwrap_or_default().to_owned(),
        web: found.web,
        device: found.device,
        pki: found.pki,
        time: call.app.now().into(),
        alarm: attention.iter().any(|one| one.alarm),
        attention,
        issuing: found.issuing.name.map(|name| Issuing { name, days_left: found.issuing.days_left }),
        apple_push: push.topic.map(|topic| PushCertificate { topic, days_left: push.days_left }),
        apple_ade: found
            .apple_ade
            .into_iter()
            .map(|one| BusinessManager {
                name: one.name,
                organisation: one.organisation,
                devices: one.devices,
                synced_at: one.synced_at,
                days_left: one.days_left,
            })
            .collect(),
        failing_receivers: found
            .failing_receivers
            .into_iter()
            .map(|one| FailingReceiver {
                name: one.name,
                status: one.status,
                failed_tries: one.failed_tries,
                why: one.why,
                last_success: one.last_success,
            })
            .collect(),
        contested_hardware: found
            .contested_hardware
            .into_iter()
            .map(|one| ContestedHardware { hardware_id: one.hardware_id, devices: one.devices.iter().map(ToString::to_string).collect() })
            .collect(),
        contested_serials: found
            .contested_serials
            .into_iter()
            .map(|one| ContestedSerial { device: one.device.to_string(), serial_number: one.serial_number, says: one.says })
            .collect(),
    };
    Ok(shown.into())
}
