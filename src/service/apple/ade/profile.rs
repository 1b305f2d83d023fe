//! What Setup Assistant is told: made of the configuration, and known again by its hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::App;
use crate::service::apple::enroll::automated::{DEVICE_PATH, SETUP_PATH};
use crate::service::pki::authority;
use crate::service::{Error, Result};
use crate::wire::apple::ade::Profile;

/// The profile that is configured, and the hash of what is in it.
pub(super) async fn configured(app: &App) -> Result<(Profile, String)> {
    let (automated, web) = (&app.config.apple.automated, app.config.web_url());
    let wanted = &automated.profile;
    // With a certificate of our own CA the device has to be told which root it comes from.
    let anchor_certs = match app.config.tls.certificate_file {
        None => vec![STANDARD.encode(authority::root_certificate(app).await?)],
        Some(_) => Vec::new(),
    };
    let profile = Profile {
        profile_name: wanted.name.clone(),
        url: format!("{web}{DEVICE_PATH}"),
        // Where both are given, the page is what the device goes to.
        configuration_web_url: automated.require_sign_in.then(|| format!("{web}{SETUP_PATH}")),
        is_supervised: true,
        is_mandatory: wanted.mandatory,
        is_mdm_removable: wanted.removable,
        await_device_configured: wanted.await_configured,
        auto_advance_setup: wanted.auto_advance,
        allow_pairing: wanted.allow_pairing,
        is_multi_user: wanted.shared_ipad,
        is_return_to_service: wanted.return_to_service,
        do_not_use_profile_from_backup: true,
        department: wanted.department.clone(),
        support_phone_number: wanted.support_phone_number.clone(),
        support_email_address: wanted.support_email_address.clone(),
        language: wanted.language.clone(),
        region: wanted.region.clone(),
        anchor_certs,
        skip_setup_items: wanted.skip_setup_items.clone(),
    };
    let hash = hex::encode(openssl::sha::sha256(&serde_json::to_vec(&profile).map_err(Error::internal)?));
    Ok((profile, hash))
}
