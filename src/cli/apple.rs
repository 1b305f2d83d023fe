//! `muster apple`.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ca::{KeyText, read_file, read_key, request_pem};
use super::who::Who;
use crate::app::App;
use crate::domain::apple::ade::Device;
use crate::service::Result;
use crate::service::apple::push_certificate::{self, Import, Vendor};
use crate::service::apple::{ade, licences, packages};
use crate::wire::apple::ade::LONGEST_TOKEN;

/// What is done to the connection with Apple.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Prints the request for a push certificate (PKCS#10, PEM); the key stays here and waits for `push-cert`
    #[command(name = "push-csr")]
    Request {
        /// File with a vendor's private key, PEM, not encrypted: prints the signed request that identity.apple.com/pushcert takes
        #[arg(long, value_parser = read_key, requires = "vendor_chain")]
        vendor_key: Option<KeyText>,
        /// File with the vendor's certificate, Apple's intermediate and root, PEM, in any order
        #[arg(long, value_parser = read_file, requires = "vendor_key")]
        vendor_chain: Option<String>,
        /// Makes another key: a request that is on its way is void
        #[arg(long)]
        fresh: bool,
    },
    /// Puts a push certificate in force
    #[command(name = "push-cert")]
    Import {
        /// File with the certificate that Apple made, PEM
        #[arg(value_name = "FILE", value_parser = read_file)]
        certificate: String,
        /// File with its private key, PEM, not encrypted, when the request was made elsewhere
        #[arg(long, value_parser = read_key)]
        key: Option<KeyText>,
        /// Takes it with another topic: every device has to enrol again
        #[arg(long)]
        replace_topic: bool,
        /// Confirms that the devices which are enrolled are cut off
        #[arg(long)]
        yes: bool,
        /// The Apple Account that it was made with, to know it at the next renewal
        #[arg(long, value_name = "NAME")]
        #[serde(default)]
        apple_account: Option<String>,
    },
    /// Shows the push certificate, and what to do about it
    #[command(name = "push-status")]
    Status,
    /// Prints the certificate that Apple Business Manager wants for a server (PEM); makes the server with the first call
    #[command(name = "ade-key")]
    AdeKey {
        /// Name of the server, ours
        #[arg(default_value = ADE_NAME)]
        name: String,
        /// Makes another key: a token that is on its way is void
        #[arg(long)]
        fresh: bool,
    },
    /// Puts the server token in force that Apple Business Manager gave
    #[command(name = "ade-token")]
    AdeToken {
        /// The file (…_smime.p7m)
        #[arg(value_name = "FILE", value_parser = read_token)]
        file: KeyText,
        /// Name of the server
        #[arg(long, default_value = ADE_NAME)]
        name: String,
        /// Takes a token for another server than before: the list of devices is read anew
        #[arg(long)]
        replace: bool,
    },
    /// Shows the servers of Apple Business Manager, and what to do about them
    #[command(name = "ade-status")]
    AdeStatus,
    /// Reads the list of devices now, and has Apple tell them where to enrol
    #[command(name = "ade-sync")]
    AdeSync {
        /// Name of the server
        #[arg(default_value = ADE_NAME)]
        name: String,
    },
    /// Has Apple send devices here whose account's domain does not say where to enrol (iOS 18.2, macOS 15.2); prints what Apple knows
    #[command(name = "ade-discovery")]
    AdeDiscovery {
        /// Name of the server
        #[arg(default_value = ADE_NAME)]
        name: String,
        /// Changes nothing
        #[arg(long)]
        show: bool,
    },
    /// Shows the devices that Apple Business Manager lists, by serial number, 500 at a time
    #[command(name = "ade-devices")]
    AdeDevices {
        /// The last serial number of the page before
        #[arg(long, default_value = "")]
        after: String,
    },
    /// Puts the content token in force that Apple Business Manager gave: licences of the App Store come by it
    #[command(name = "content-token")]
    ContentToken {
        /// The file (….vpptoken)
        #[arg(value_name = "FILE", value_parser = read_key)]
        file: KeyText,
        /// Takes a token that another device management has, or of another location than before
        #[arg(long)]
        replace: bool,
    },
    /// Shows the connection with the App Store, how far licences are, and what to do about it
    #[command(name = "content-status")]
    ContentStatus {
        /// Asks Apple which licences there are
        #[arg(long)]
        assets: bool,
    },
    /// Brings a package of an application: profiles with enterprise-app hand it out
    #[command(name = "app-add")]
    AppAdd(AppAdd),
    /// Shows the packages of applications
    #[command(name = "app-list")]
    AppList,
    /// Takes a package away; devices keep what they have installed
    #[command(name = "app-remove")]
    AppRemove {
        /// Name of the package
        name: String,
    },
    /// Forgets a server with its key, token and list; enrolled devices stay
    #[command(name = "ade-remove")]
    AdeRemove {
        /// Name of the server
        name: String,
    },
}

/// A package to bring.
#[derive(Debug, Args, Deserialize, Serialize)]
pub struct AppAdd {
    /// The file: a signed installer package (.pkg) for Macs, an application (.ipa) for iPhones and iPads
    file: PathBuf,
    /// What profiles call it: lower-case letters, digits and hyphens
    #[arg(long)]
    name: String,
    /// The application's bundle identifier
    #[arg(long)]
    bundle_id: String,
    /// The application's version, as devices show it
    #[arg(long)]
    app_version: String,
    /// Name for people
    #[arg(long, default_value = "")]
    title: String,
    /// Takes the place of the package of that name: devices are woken to get it
    #[arg(long)]
    replace: bool,
}

impl Command {
    /// The same for another process, which may be in another folder.
    pub(super) fn absolute(self) -> std::io::Result<Self> {
        Ok(match self {
            Self::AppAdd(add) => Self::AppAdd(AppAdd { file: std::path::absolute(add.file)?, ..add }),
            other => other,
        })
    }
}

/// The server of an organisation that has one.
const ADE_NAME: &str = "default";

/// A token file is text; in DER it is carried in base64, which is taken as well.
fn read_token(path: &str) -> std::result::Result<KeyText, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    if bytes.len() > LONGEST_TOKEN {
        return Err("too long for a token".to_owned());
    }
    Ok(KeyText::new(String::from_utf8(bytes).unwrap_or_else(|binary| STANDARD.encode(binary.as_bytes()))))
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    Ok(match command {
        Command::Request { vendor_key, vendor_chain, fresh } => {
            let request = push_certificate::request(app, fresh, &who.by.actor, &who.by.origin).await?;
            match vendor_key.zip(vendor_chain) {
                Some((key, chain)) => push_certificate::countersign(app, request, Vendor { key: key.secret(), chain }).await?.into(),
                None => request_pem(&request)?.into(),
            }
        }
        Command::Import { certificate, key, replace_topic, yes, apple_account } => {
            let import = Import { certificate, key: key.map(|key| key.secret()), replace_topic, confirmed: yes, account: apple_account };
            json!(push_certificate::import(app, import, &who.by.actor, &who.by.origin).await?)
        }
        Command::Status => json!(push_certificate::status(app).await?),
        Command::AdeKey { name, fresh } => ade::request(app, name, fresh, &who.by.actor, &who.by.origin).await?.into(),
        Command::AdeToken { file, name, replace } => {
            let import = ade::Import { name, file: file.secret().expose().to_vec(), replace, account: None };
            json!(ade::import(app, import, &who.by.actor, &who.by.origin).await?)
        }
        Command::AdeStatus => json!(ade::status(app).await?),
        Command::AdeSync { name } => json!(ade::sync(app, &name, &who.by.actor, &who.by.origin).await?),
        Command::AdeDiscovery { name, show: true } => ade::discovery(app, &name).await?.into(),
        Command::AdeDiscovery { name, show: false } => ade::set_discovery(app, &name, &who.by.actor, &who.by.origin).await?.into(),
        Command::AdeDevices { after } => {
            ade::devices(app, after).await?.into_iter().map(|(device, server)| show(&device, &server)).collect()
        }
        Command::ContentToken { file, replace } => licences::import(app, &file.secret(), replace, &who.by.actor, &who.by.origin).await?,
        Command::ContentStatus { assets } => licences::status(app, assets).await?,
        Command::AppAdd(AppAdd { file, name, bundle_id, app_version, title, replace }) => {
            let new = packages::New { name, bundle_id, version: app_version, title, replace };
            packages::add(app, &file, new, &who.by.actor, &who.by.origin).await?
        }
        Command::AppList => packages::list(app).await?,
        Command::AppRemove { name } => {
            packages::remove(app, name, &who.by.actor, &who.by.origin).await?;
            Value::Null
        }
        Command::AdeRemove { name } => {
            ade::remove(app, name, &who.by.actor, &who.by.origin).await?;
            Value::Null
        }
    })
}

fn show(device: &Device, server: &str) -> Value {
    json!({
        "serial": device.serial,
        "model": device.model,
        "family": device.family,
        "os": device.os,
        "asset_tag": device.asset_tag,
        "profile": device.profile_status,
        "assigned_at": device.assigned_at.map(|at| at.to_string()),
        "migrate_until": device.migration_deadline.map(|at| at.to_string()),
        "server": server,
    })
}
