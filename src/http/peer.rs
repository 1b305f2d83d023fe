//! Who is on the other end: the client certificate and the address, from the connection or, for configured reverse proxies only, from the
//! headers that they add (RFC 9440, RFC 7239). The same headers from anybody else are ignored.

use std::any::Any;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use actix_tls::accept::openssl::TlsStream;
use actix_web::dev::{Extensions, Payload};
use actix_web::http::StatusCode;
use actix_web::http::header::{FORWARDED, HeaderMap};
use actix_web::rt::net::TcpStream;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::sha::sha256;
use openssl::x509::X509;

use super::error::Problem;
use super::tls::Ask;
use crate::app::App;

/// The faces of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Never asks for a client certificate.
    Web,
    /// Asks for a client certificate.
    Device,
    /// Plain HTTP of the CA.
    Pki,
}

impl Face {
    /// The name in logs and numbers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Device => "device",
            Self::Pki => "pki",
        }
    }
}

/// A certificate whose private key the other end has proven to hold. Whether it is ours, valid and unrevoked is for the use case to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The certificate.
    pub der: Vec<u8>,
    /// Its SHA-256, in lower-case hex.
    pub sha256: String,
}

impl PeerCertificate {
    fn new(certificate: &X509) -> Option<Self> {
        let der = certificate.to_der().ok()?;
        let sha256 = hex::encode(sha256(&der));
        Some(Self { der, sha256 })
    }
}

/// The other end of a request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client certificate; always none on faces that do not ask.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// The client's address, also behind a configured proxy.
    pub address: IpAddr,
    /// Whether a configured proxy stands in between.
    pub via_proxy: bool,
    /// The face that the request came to.
    pub face: Face,
}

impl Peer {
    /// The address as audit rows show it.
    #[must_use]
    pub fn origin(&self) -> String {
        self.address.to_string()
    }

    /// The other end of `request`.
    ///
    /// # Errors
    /// 400 when a configured proxy sent a `Client-Cert` header that is not RFC 9440's.
    pub fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let connection = request.conn_data::<Connection>();
        let face = connection.map_or(Face::Pki, |c| c.face);
        let direct = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| canonical(a.ip()));
        let config = request.app_data::<Data<App>>().map(|app| &app.config);
        let proxies = config.map_or(&[][..], |config| &config.proxies);
        if !proxies.contains(&direct) {
            let certificate = connection.and_then(|c| c.certificate.clone());
            return Ok(Self { certificate, address: direct, via_proxy: false, face });
        }
        let certificate = if face == Face::Device { client_cert(request.headers())?.map(Arc::new) } else { None };
        Ok(Self {
            certificate,
            address: forwarded(request.headers(), config.map_or("", |config| &config.proxy_header), direct, proxies),
            via_proxy: true,
            face,
        })
    }
}

impl FromRequest for Peer {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

/// What is known of a connection since its handshake.
pub(super) struct Connection {
    pub(super) face: Face,
    certificate: Option<Arc<PeerCertificate>>,
}

/// Remembers what a fresh connection's handshake told.
pub(super) fn remember(io: &dyn Any, data: &mut Extensions, ask: &Ask) {
    let tls = io.downcast_ref::<TlsStream<TcpStream>>();
    // An answer follows the session tickets of the handshake: it must not wait until the client has acknowledged those, which takes 40 ms.
    if let Some(Err(error)) = tls.map(|stream| stream.get_ref()).or_else(|| io.downcast_ref()).map(|tcp| tcp.set_nodelay(true)) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let connection = match tls {
        Some(stream) if ask.applies(stream.ssl()) => {
            let certificate = stream.ssl().peer_certificate().and_then(|c| PeerCertificate::new(&c)).map(Arc::new);
            Connection { face: Face::Device, certificate }
        }
        Some(_) => Connection { face: Face::Web, certificate: None },
        None => Connection { face: Face::Pki, certificate: None },
    };
    data.insert(connection);
}

/// IPv4 addresses that arrive over an IPv6 socket look like IPv4 again.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The certificate in the header that a proxy adds (RFC 9440 section 2.1: a structured field, a byte sequence between colons).
fn client_cert(headers: &HeaderMap) -> Result<Option<PeerCertificate>, Problem> {
    let wrong = || Problem::new(StatusCode::BAD_REQUEST, "client-cert", "the proxy's Client-Cert header is not one RFC 9440 byte sequence");
    let mut values = headers.get_all("client-cert");
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong());
    }
    let text = value.to_str().map_err(|_| wrong())?.trim();
    let inner = text.strip_prefix(':').and_then(|t| t.strip_suffix(':')).ok_or_else(wrong)?;
    let der = STANDARD.decode(inner).map_err(|_| wrong())?;
    let certificate = X509::from_der(&der).map_err(|_| wrong())?;
    PeerCertificate::new(&certificate).filter(|c| c.der == der).map(Some).ok_or_else(wrong)
}

/// The client's address by that header: the last hop that is not a configured proxy.
fn forwarded(headers: &HeaderMap, header: &str, direct: IpAddr, proxies: &[IpAddr]) -> IpAddr {
    let text = headers.get_all(header).filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    let mut hops: Vec<Option<IpAddr>> = Vec::new();
    if header == FORWARDED.as_str() {
        for element in text.split(',') {
            let node = element.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"').to_owned())
            });
            hops.push(node.and_then(|n| node_address(&n)));
        }
    } else {
        hops.extend(text.split(',').map(|n| node_address(n.trim())));
    }
    let mut address = direct;
    for hop in hops.into_iter().rev() {
        let Some(hop) = hop else { break };
        address = hop;
        if !proxies.contains(&hop) {
            break;
        }
    }
    address
}

/// An address as RFC 7239 section 6 writes it: `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn node_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip())).map(canonical)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn address(headers: &[(&str, &str)]) -> String {
        let mut request = TestRequest::default();
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        let proxies = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let header = headers.first().map_or("forwarded", |(name, _)| name);
        forwarded(request.to_http_request().headers(), header, proxies[0], &proxies).to_string()
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_proxy() {
        assert_eq!(address(&[]), "10.0.0.1");
        assert_eq!(address(&[("forwarded", "for=192.0.2.7;proto=https")]), "192.0.2.7");
        assert_eq!(address(&[("forwarded", "for=6.6.6.6, for=\"[2001:db8::1]:4711\";by=x")]), "2001:db8::1");
        assert_eq!(address(&[("forwarded", "for=192.0.2.7, for=10.0.0.2")]), "192.0.2.7");
        assert_eq!(address(&[("forwarded", "for=unknown")]), "10.0.0.1");
        assert_eq!(address(&[("x-forwarded-for", "6.6.6.6, 192.0.2.8:1000")]), "192.0.2.8");
        assert_eq!(address(&[("x-forwarded-for", "192.0.2.9"), ("x-forwarded-for", "10.0.0.2")]), "192.0.2.9");
        // What a client wrote into the header that the proxy passes on untouched.
        assert_eq!(address(&[("x-forwarded-for", "192.0.2.9"), ("forwarded", "for=6.6.6.6")]), "192.0.2.9");
        assert_eq!(address(&[("forwarded", "for=192.0.2.7"), ("x-forwarded-for", "6.6.6.6")]), "192.0.2.7");
    }

    #[test]
    fn a_client_cert_header_is_one_byte_sequence_or_refused() {
        let header = |values: &[&str]| {
            let mut request = TestRequest::default();
            for value in values {
                request = request.append_header(("client-cert", *value));
            }
            client_cert(request.to_http_request().headers())
        };
        assert!(header(&[]).unwrap().is_none());
        for wrong in ["", ":", "::", ":AAAA:", "AAAA", ":not base64:"] {
            assert!(header(&[wrong]).is_err(), "{wrong}");
        }
        assert!(header(&[":AAAA:", ":AAAA:"]).is_err());
    }
}
