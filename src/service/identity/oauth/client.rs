//! How applications prove themselves: a secret (RFC 6749, section 2.3.1), or an assertion that a registered certificate's key signed (RFC
//! 7523, section 3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKeyRef, Public};
use openssl::rsa::Padding;
use openssl::sha::sha256;
use openssl::sign::{RsaPssSaltlen, Verifier};
use openssl::x509::X509;

use super::access_token::Proved;
use super::{Error, Result, is_tenant, issuer};
use crate::app::App;
use crate::clock::{DAY, MINUTE, SECOND, Time};
use crate::domain::application::{Application, Client, Credential, Proof};
use crate::domain::oauth::Failure;
use crate::secret::same;
use crate::store::applications;
use crate::wire::jwt::Compact;

/// The type of assertion that is taken (RFC 7523, section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far an assertion's end may be: until then it is remembered.
const LONGEST_ASSERTION: i64 = DAY;
/// How far clocks may differ.
const SKEW: i64 = 5 * MINUTE;

/// What a request shows of its client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// `client_id`.
    pub client_id: Option<&'a str>,
    /// `client_secret`, or the password of HTTP's Basic scheme.
    pub secret: Option<&'a str>,
    /// `client_assertion_type`.
    pub assertion_type: Option<&'a str>,
    /// `client_assertion`.
    pub assertion: Option<&'a str>,
}

/// Finds out which application asks. One that is public shows nothing.
///
/// # Errors
/// [`Failure::ClientUnauthorized`], [`Failure::SecretMissing`], [`Failure::SecretWrong`], [`Failure::SecretExpired`],
/// [`Failure::ClientIsPublic`], [`Failure::AssertionInvalid`].
pub async fn authenticate(app: &App, shown: Shown<'_>) -> Result<(Application, Proved)> {
    let assertion = shown.assertion.map(|text| Compact::parse(text).map_err(|_| Error::from(Failure::AssertionInvalid))).transpose()?;
    // A request with an assertion need not say its client_id (RFC 7521, section 4.2).
    let claimed = assertion.as_ref().and_then(|token| token.text("sub"));
    let client_id = shown.client_id.or(claimed).ok_or_else(|| Error::of(Failure::ParameterMissing, "client_id"))?;
    let wanted = client_id.to_lowercase();
    let found = app.store.look_up(move |conn| {
        let Some(application) = applications::find_by_client_id(conn, &wanted)? else { return Ok(None) };
        let credentials = applications::list_credentials(conn, &application.id)?;
        Ok(Some((application, credentials)))
    });
    let (application, credentials) = found.await?.filter(|(application, _)| application.enabled).ok_or(Failure::ClientUnauthorized)?;
    match (shown.secret, assertion) {
        (Some(_), Some(_)) => Err(Error::of(Failure::Malformed, "client_secret and client_assertion")),
        // A program in a browser or on somebody's machine has no secret, whatever else the application is: what its redirect URIs may do
        // is decided with the code.
        (None, None) if application.public || application.redirects.iter().any(|known| known.client != Client::Web) => {
            Ok((application, Proved::Not))
        }
        (None, None) => Err(Failure::SecretMissing.into()),
        (Some(_), None) if application.public => Err(Failure::ClientIsPublic.into()),
        (Some(secret), None) => {
            check_secret(&credentials, secret, app.now())?;
            Ok((application, Proved::Secret))
        }
        (None, Some(token)) => {
            if shown.assertion_type != Some(ASSERTION_TYPE) {
                return Err(Error::of(Failure::Malformed, "client_assertion_type"));
            }
            check_assertion(app, &application, &credentials, &token).await?;
            Ok((application, Proved::Certificate))
        }
    }
}

fn check_secret(credentials: &[Credential], secret: &str, now: Time) -> Result<()> {
    let shown = sha256(secret.as_bytes());
    let mut found = None;
    for credential in credentials {
        // A secret has 256 random bits, so a plain hash is enough; all are compared, whichever fits.
        if let Proof::Secret { sha256, .. } = &credential.proof
            && same(sha256, &shown)
        {
            found = Some(credential);
        }
    }
    match found {
        None => Err(Failure::SecretWrong.into()),
        Some(credential) if !credential.is_good(now) => Err(Failure::SecretExpired.into()),
        Some(_) => Ok(()),
    }
}

/// RFC 7523, section 3, by its numbers.
async fn check_assertion(app: &App, application: &Application, credentials: &[Credential], token: &Compact<'_>) -> Result<()> {
    let refuse = |why: &str| Error::of(Failure::AssertionInvalid, why);
    // 9: signed by a key of the client's. The header names the certificate by its thumbprint.
    let named = named_certificate(credentials, token).ok_or_else(|| refuse("x5t names no registered certificate"))?;
    let (credential, der) = named;
    if !is_signed(der, token)? {
        return Err(refuse("signature"));
    }
    // 1 and 2: issuer and subject are the client.
    let own = |name| token.text(name).is_some_and(|text: &str| text.eq_ignore_ascii_case(&application.client_id));
    if !own("iss") || !own("sub") {
        return Err(refuse("iss and sub"));
    }
    // 3: for us.
    if !token.is_for(|audience| is_audience(app, audience)) {
        return Err(refuse("aud"));
    }
    // 4, 5 and 6: in its time, and not for long.
    let now = app.now();
    let at = |name| token.number(name).map(|seconds| Time(seconds.saturating_mul(SECOND)));
    let end = at("exp").ok_or_else(|| refuse("exp"))?;
    if end <= now || end > now.plus(LONGEST_ASSERTION + SKEW) {
        return Err(refuse("exp"));
    }
    if at("nbf").is_some_and(|start| start > now.plus(SKEW)) || at("iat").is_some_and(|issued| issued > now.plus(SKEW)) {
        return Err(refuse("nbf"));
    }
    if !credential.is_good(now) {
        return Err(Failure::SecretExpired.into());
    }
    // 7: good once.
    let id = token.text("jti").filter(|id| !id.is_empty()).ok_or_else(|| refuse("jti"))?;
    let hash = hex::encode(sha256(format!("{}\n{id}", application.client_id).as_bytes()));
    if app.store.write(move |tx| applications::claim_assertion(tx, &hash, end)).await? { Ok(()) } else { Err(refuse("used before")) }
}

/// The registered certificate that the header names: by SHA-256 (`x5t#S256`) or SHA-1 (`x5t`) in base64url, or by `kid` in hex.
fn named_certificate<'a>(credentials: &'a [Credential], token: &Compact<'_>) -> Option<(&'a Credential, &'a [u8])> {
    let decoded = |name| token.head(name).and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()).map(hex::encode);
    let (by_sha256, by_sha1) = (decoded("x5t#S256"), decoded("x5t"));
    let kid = token.head("kid").map(str::to_lowercase);
    credentials.iter().find_map(|credential| match &credential.proof {
        Proof::Certificate { der, sha1, sha256 } => {
            let named = match (&by_sha256, &by_sha1, &kid) {
                (Some(shown), ..) => shown == sha256,
                (None, Some(shown), _) => shown == sha1,
                (None, None, Some(shown)) => shown == sha1 || shown == sha256,
                (None, None, None) => false,
            };
            named.then_some((credential, der.as_slice()))
        }
        Proof::Secret { .. } | Proof::Token { .. } => None,
    })
}

fn is_signed(der: &[u8], token: &Compact<'_>) -> Result<bool> {
    let key = X509::from_der(der)?.public_key()?;
    Ok(verify(&key, token).unwrap_or(false))
}

/// The algorithm is the header's, but only one that fits the registered key: no `none`, and no HMAC over a public key.
fn verify(key: &PKeyRef<Public>, token: &Compact<'_>) -> std::result::Result<bool, openssl::error::ErrorStack> {
    let input = token.input.as_bytes();
    match (token.head("alg"), key.id()) {
        (Some("RS256"), Id::RSA) => Verifier::new(MessageDigest::sha256(), key)?.verify_oneshot(&token.signature, input),
        (Some("PS256"), Id::RSA) => {
            let mut verifier = Verifier::new(MessageDigest::sha256(), key)?;
            verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
            // RFC 7518, section 3.5: a salt as long as the hash.
            verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
            verifier.verify_oneshot(&token.signature, input)
        }
        (Some("ES256"), Id::EC) if token.signature.len() == 64 && key.bits() == 256 => {
            let (r, s) = token.signature.split_at(32);
            let signature = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
            signature.verify(&sha256(input), key.ec_key()?.as_ref())
        }
        _ => Ok(false),
    }
}

/// Clients name the token endpoint or the issuer, each by the organisation's id or a word for it.
fn is_audience(app: &App, audience: &str) -> bool {
    if audience == issuer(app) {
        return true;
    }
    let Some(rest) = audience.strip_prefix(&app.config.web_url()).and_then(|rest| rest.strip_prefix('/')) else { return false };
    let Some((tenant, path)) = rest.split_once('/') else { return false };
    is_tenant(app, tenant) && ["oauth2/v2.0/token", "oauth2/token", "v2.0"].iter().any(|known| known.eq_ignore_ascii_case(path))
}
