//! TLS by OpenSSL: what the server shows, and whom it asks for a certificate.
//!
//! The device face *asks* for a client certificate and never insists: a certificate that does not verify, or none, gets an answer in the
//! protocol's own words from the handler instead of an alert that nobody can read. No list of acceptable authorities is sent, and no chain
//! is built here: whether a certificate is ours is decided by its row (the row is committed before a certificate leaves, so a certificate
//! without one was never issued), and that decision is made anew for each request, also on resumed sessions.

use std::sync::{Arc, PoisonError, RwLock};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{NameType, SniError, SslAcceptor, SslAcceptorBuilder, SslMethod, SslRef, SslVerifyMode, SslVersion};
use openssl::x509::X509;

/// What the server shows: its certificate, the chain without the root, and the key.
#[derive(Clone)]
pub struct Identity {
    /// The server's own certificate.
    pub certificate: X509,
    /// Intermediates, in order.
    pub chain: Vec<X509>,
    /// The private key of the certificate.
    pub key: PKey<Private>,
}

/// Why a server certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    File(std::path::PathBuf, #[source] std::io::Error),
    /// The file holds no certificate.
    #[error("{0}: no certificate in it")]
    Empty(std::path::PathBuf),
    /// Key and certificate do not belong together.
    #[error("the private key does not belong to the server certificate")]
    Mismatch,
    /// OpenSSL refused.
    #[error("TLS: {0}")]
    OpenSsl(#[from] ErrorStack),
}

impl Identity {
    /// Reads PEM files: certificate and chain in one, private key in the other.
    ///
    /// # Errors
    /// [`Error`] names the file.
    pub fn read(certificates: &std::path::Path, key: &std::path::Path) -> Result<Self, Error> {
        let read = |path: &std::path::Path| std::fs::read(path).map_err(|e| Error::File(path.to_owned(), e));
        let mut chain = X509::stack_from_pem(&read(certificates)?)?;
        if chain.is_empty() {
            return Err(Error::Empty(certificates.to_owned()));
        }
        let certificate = chain.remove(0);
        let key = PKey::private_key_from_pem(&zeroize::Zeroizing::new(read(key)?))?;
        if !certificate.public_key()?.public_eq(&key) {
            return Err(Error::Mismatch);
        }
        Ok(Self { certificate, chain, key })
    }

    /// An identity of DER certificates: the server's own, and the chain without the root.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn from_der(certificate: &[u8], chain: &[Vec<u8>], key: PKey<Private>) -> Result<Self, Error> {
        let chain = chain.iter().map(|der| X509::from_der(der)).collect::<Result<_, _>>()?;
        Ok(Self { certificate: X509::from_der(certificate)?, chain, key })
    }

    fn install(&self, ssl: &mut SslRef) -> Result<(), ErrorStack> {
        ssl.set_certificate(&self.certificate)?;
        ssl.set_private_key(&self.key)?;
        for certificate in &self.chain {
            ssl.add_chain_cert(certificate.clone())?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:?})", self.certificate.subject_name())
    }
}

/// The identity in force; replacing it takes effect with the next handshake.
#[derive(Clone, Debug)]
pub struct Current(Arc<RwLock<Arc<Identity>>>);

impl Current {
    /// Puts an identity in force.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(identity))))
    }

    /// The identity in force.
    #[must_use]
    pub fn get(&self) -> Arc<Identity> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another identity in force.
    pub fn replace(&self, identity: Identity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
    }
}

/// Which connections are of the device face, and so are asked for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// None: the port is the web face's.
    Never,
    /// All: the port is the device face's.
    Always,
    /// Those that ask for this host name, and those that ask for none (clients that connect by address): one port for both faces.
    Name(String),
}

impl Ask {
    /// Whether the connection is of the device face.
    #[must_use]
    pub fn applies(&self, ssl: &SslRef) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Name(host) => ssl.servername(NameType::HOST_NAME).is_none_or(|name| name.eq_ignore_ascii_case(host)),
        }
    }
}

/// Makes the acceptor of a port.
///
/// # Errors
/// When OpenSSL refuses the identity.
pub fn acceptor(current: &Current, ask: Ask) -> Result<SslAcceptorBuilder, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    // Without it a returning client that showed a certificate fails its handshake. A context per port kind keeps a session that was never
    // asked for a certificate from being resumed where it would have been.
    let context: &[u8] = match ask {
        Ask::Never => b"muster web",
        Ask::Always => b"muster device",
        Ask::Name(_) => b"muster",
    };
    builder.set_session_id_context(context)?;
    // One is enough for clients with one connection at a time; each costs the handshake a seal and a record.
    builder.set_num_tickets(1)?;
    // OpenSSL wants a certificate in the context to offer any cipher at all; the callback puts the present one over it.
    let now = current.get();
    builder.set_certificate(&now.certificate)?;
    builder.set_private_key(&now.key)?;
    let current = current.clone();
    builder.set_servername_callback(move |ssl, _| {
        current.get().install(ssl).map_err(|_| SniError::ALERT_FATAL)?;
        if ask.applies(ssl) {
            ssl.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        } else {
            ssl.set_verify(SslVerifyMode::NONE);
        }
        Ok(())
    });
    Ok(builder)
}
