//! Trusted certificates: `RootCATrustedCertificates` (windows.md section 4.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::{MessageDigest, hash};
use openssl::x509::X509;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CLEAN, Context, Csp, Part, REMOVE, Turn};
use crate::domain::desired::{Input, State};
use crate::domain::dm_session::{Op, Outcome, Verdict};
use crate::domain::profile::fields;
use crate::service::windows::plan;
use crate::service::Result;
use crate::wire::syncml::Format;

const ROOT: &str = "./Device/Vendor/MSFT/RootCATrustedCertificates";

/// The provider.
pub(super) struct TrustedCertificate;

/// Fields of the payload.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Body {
    /// Which store.
    #[serde(default)]
    store: Store,
    /// One of our own authorities …
    #[serde(default)]
    authority: Option<Which>,
    /// … or a certificate as PEM.
    #[serde(default)]
    certificate: Option<String>,
}

/// Certificate stores that devices let us write.
#[derive(Clone, Copy, Default, Deserialize)]
enum Store {
    #[default]
    Root,
    #[serde(rename = "CA")]
    Ca,
    TrustedPublisher,
    TrustedPeople,
    UntrustedCertificates,
}

impl Store {
    fn as_str(self) -> &'static str {
        match self {
            Self::Root => "Root",
            Self::Ca => "CA",
            Self::TrustedPublisher => "TrustedPublisher",
            Self::TrustedPeople => "TrustedPeople",
            Self::UntrustedCertificates => "UntrustedCertificates",
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    Root,
    Issuing,
}

/// What is to be trusted.
enum Source {
    /// One of our own authorities.
    Ours(Which),
    /// Another certificate, DER.
    Other(Vec<u8>),
}

impl Body {
    /// Reads a payload: the store, and which certificate.
    fn read(body: &Map<String, Value>) -> std::result::Result<(Store, Source), String> {
        let body: Self = fields(body)?;
        let source = match (body.authority, &body.certificate) {
            (Some(which), None) => Source::Ours(which),
            (None, Some(pem)) => Source::Other(pem_to_der(pem)?),
            _ => return Err("exactly one of authority and certificate is needed".into()),
        };
        Ok((body.store, source))
    }
}

impl Source {
    /// The certificate, DER.
    fn der(self, context: &Context<'_>) -> std::result::Result<Vec<u8>, String> {
        match self {
            Self::Ours(Which::Issuing) => Ok(context.authority.certificate.clone()),
            Self::Ours(Which::Root) => context.authority.chain.last().cloned().ok_or_else(|| "authority: there is no root".into()),
            Self::Other(der) => Ok(der),
        }
    }
}

fn pem_to_der(pem: &str) -> std::result::Result<Vec<u8>, String> {
    let refuse = || "certificate: one certificate in PEM".to_owned();
    match X509::stack_from_pem(pem.as_bytes()).map_err(|_| refuse())?.as_slice() {
        [one] => one.to_der().map_err(|_| refuse()),
        _ => Err(refuse()),
    }
}

impl Csp for TrustedCertificate {
    fn kind(&self) -> &'static str {
        "trusted-certificate"
    }

    fn check(&self, body: &Map<String, Value>) -> std::result::Result<(), String> {
        Body::read(body).map(|_| ())
    }

    fn begin<'a>(&'a self, context: &'a Context<'_>, part: &'a Part<'_>) -> BoxFuture<'a, Result<Turn>> {
        async move {
        let old = part.memory("node").map(str::to_owned);
        let Some(payload) = part.payload else {
            // Nothing is known to be there: nothing to take away.
            return Ok(match old {
                Some(node) => Turn::send(REMOVE, vec![Op::delete(node)]),
                None => Turn::moved(Input::Removed),
            });
        };
        let wanted = Body::read(&payload.body).and_then(|(store, source)| Ok((store, source.der(context)?)));
        let (store, der) = match wanted {
            Ok(wanted) => wanted,
            Err(why) => return Ok(Turn::refused(why)),
        };
        // The node's name is the SHA-1 of exactly the bytes in it, in upper-case hex.
        let thumbprint = hex::encode_upper(hash(MessageDigest::sha1(), &der)?);
        let node = format!("{ROOT}/{}/{thumbprint}", store.as_str());
        let leaf = format!("{node}/EncodedCertificate");
        if matches!(part.record.state, State::Delivered | State::Verified) && old.as_deref() == Some(&node) {
            return Ok(Turn::send("verify", vec![Op::get(leaf)]));
        }
        let encoded = STANDARD.encode(&der);
        let mut turn = Turn::send("set", vec![Op::replace(leaf, Format::B64, encoded.as_str())]);
        if let Some(old) = old.filter(|old| *old != node) {
            turn.steps.extend(Turn::send(CLEAN, vec![Op::delete(old)]).steps);
        }
        let memory = Map::from_iter([("node".to_owned(), Value::from(node)), ("certificate".to_owned(), Value::from(encoded))]);
        turn.memory = Some(memory);
        turn.inputs.push(Input::Sent);
        Ok(turn)
        }
        .boxed()
    }

    fn answered(&self, context: &Context<'_>, part: &Part<'_>, phase: &str, outcome: &Outcome) -> Result<Turn> {
        let status = plan::status(outcome);
        Ok(match (phase, outcome.verdict) {
            ("set", Verdict::Done) => {
                let leaf = format!("{}/EncodedCertificate", part.memory("node").unwrap_or_default());
                Turn { inputs: vec![Input::Taken { status }], ..Turn::send("verify", vec![Op::get(leaf)]) }
            }
            ("verify", Verdict::Done) => {
                let found = plan::value(outcome, 0).map(|value| value.split_whitespace().collect::<String>());
                let wanted = part.memory("certificate");
                Turn::moved(if found.is_some() && found.as_deref() == wanted { Input::Matches } else { Input::Differs { found } })
            }
            // It is wanted again meanwhile.
            (REMOVE, _) if part.payload.is_some() => Turn::moved(Input::Outdated),
            (REMOVE, Verdict::Done) => Turn::moved(Input::Removed),
            (CLEAN, _) => Turn::default(),
            (_, verdict) => Turn::moved(plan::input(verdict, outcome, context.now)),
        })
    }
}
