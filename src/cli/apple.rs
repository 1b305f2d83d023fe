//! `muster apple`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ca::{KeyText, read_file, read_key, request_pem};
use crate::app::App;
use crate::service::Result;
use crate::service::apple::push_certificate::{self, Import, Vendor};

/// Where orders from the command line come from.
const ORIGIN: &str = "local";

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
    },
    /// Shows the push certificate, and what to do about it
    #[command(name = "push-status")]
    Status,
}

pub(super) async fn run(app: &App, command: Command, actor: &str) -> Result<Value> {
    Ok(match command {
        Command::Request { vendor_key, vendor_chain, fresh } => {
            let request = push_certificate::request(app, fresh, actor, ORIGIN).await?;
            match vendor_key.zip(vendor_chain) {
                Some((key, chain)) => push_certificate::countersign(request, Vendor { key: key.secret(), chain }).await?.into(),
                None => request_pem(&request)?.into(),
            }
        }
        Command::Import { certificate, key, replace_topic } => {
            let import = Import { certificate, key: key.map(|key| key.secret()), replace_topic };
            json!(push_certificate::import(app, import, actor, ORIGIN).await?)
        }
        Command::Status => json!(push_certificate::status(app).await?),
    })
}
