//! `muster status`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::App;
use crate::service::apple::push_certificate;
use crate::service::{self, device, health};

pub(super) async fn run(app: &Arc<App>) -> service::Result<Value> {
    health::check_ready(app).await?;
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "organisation": app.config.organisation,
        "tenant": app.tenant.as_str(),
        "database": format!("{:?}", app.store),
        "web": app.config.web_url(),
        "device": app.config.device_url(),
        "pki": app.config.pki_url(),
        "time": app.now().to_string(),
        "apple_push": push_certificate::status(app).await?,
        "contested_hardware": device::contested(app).await?,
    }))
}
