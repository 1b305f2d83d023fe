//! The devices of the demo as a table.

use super::Placed;
use crate::app::App;
use crate::service::Result;
use crate::service::device;
use crate::sim::receiver::Receiver;

/// Most rows shown.
const ROWS: usize = 30;

/// Prints state, profiles, certificate, verdict and last signal of each device.
pub(super) async fn print(app: &App, fleet: &[Placed], receiver: &Receiver) -> Result<()> {
    println!("  {:<14} {:<10} {:<9} {:<16} {:<14} last signal", "device", "state", "profiles", "certificate", "verdict");
    let heard = receiver.events();
    for placed in fleet.iter().take(ROWS) {
        let shown = device::show(app, &placed.id).await?;
        let verified = shown.profiles.iter().filter(|p| matches!(p.state.as_str(), "verified" | "assigned")).count();
        let held = placed.device.certificates.values().next();
        let certificate = held.map_or_else(
            || "-".to_owned(),
            |held| {
                let serial = openssl::x509::X509::from_der(&held.identity.certificate)
                    .and_then(|c| c.serial_number().to_bn())
                    .and_then(|n| n.to_hex_str().map(|s| s.to_string()))
                    .unwrap_or_default();
                format!("{}…", serial.chars().take(12).collect::<String>())
            },
        );
        let id = placed.id.to_string();
        let last = heard.iter().rev().find(|event| event.device.as_deref() == Some(&id));
        let last = last.and_then(|event| event.current_status()).unwrap_or("-");
        println!(
            "  {:<14} {:<10} {:<9} {:<16} {:<14} {last}",
            placed.device.machine.name,
            shown.overview.device.state.as_str(),
            format!("{verified}/{}", shown.profiles.len()),
            certificate,
            shown.overview.compliance.as_str(),
        );
    }
    if fleet.len() > ROWS {
        println!("  … and {} more", fleet.len() - ROWS);
    }
    Ok(())
}
