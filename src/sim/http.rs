//! A small HTTP/1.1 client over TLS for simulated devices: one connection, kept open, with the device's certificate. It costs little, so
//! that a load run measures the server.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// Largest answer that a device takes.
const MAX_BODY: usize = 8 << 20;
const MAX_HEAD: usize = 64 << 10;
/// Letters of what a server says of a refusal.
const MAX_SAID: usize = 400;
/// How long a device waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header names in lower case, with values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What the server says of a refusal, on one line: code and text of a problem document, the alert of a page, or the plain text itself.
    #[must_use]
    pub fn said(&self) -> String {
        let media = self.header("content-type").unwrap_or_default();
        let body = String::from_utf8_lossy(&self.body);
        let said = if media.contains("json") {
            let problem = serde_json::from_slice::<serde_json::Value>(&self.body).unwrap_or_default();
            let field = |name: &str| problem.get(name).and_then(serde_json::Value::as_str);
            [field("code"), field("detail")].into_iter().flatten().collect::<Vec<_>>().join(": ")
        } else if media.starts_with("text/html") {
            let element = |start: &str| body.split_once(start)?.1.split_once('>')?.1.split_once('<').map(|(text, _)| text.to_owned());
            // Pages of errors end with the code.
            let code = element("class=\"small\"").filter(|text| text.starts_with("Status "));
            element("role=\"alert\"").into_iter().chain(code).collect::<Vec<_>>().join(" ")
        } else if media.starts_with("text/plain") {
            body.into_owned()
        } else {
            String::new()
        };
        said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_SAID).collect()
    }
}

/// What follows the status where the server said why.
pub(super) fn after(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

/// A client with at most one open connection.
pub struct Client {
    context: SslContext,
    keep: bool,
    open: Option<(String, Box<dyn Stream>)>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("open", &self.open.as_ref().map(|(to, _)| to)).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that trusts `roots` and shows `identity` when asked.
    ///
    /// # Errors
    /// When OpenSSL refuses the certificate or the key.
    pub fn new(roots: &[X509], identity: Option<(&X509, &[X509], &PKey<Private>)>) -> io::Result<Self> {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        let mut store = X509StoreBuilder::new()?;
        for root in roots {
            store.add_cert(root.clone())?;
        }
        context.set_cert_store(store.build());
        context.set_verify(SslVerifyMode::PEER);
        context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        context.set_alpn_protos(b"\x08http/1.1")?;
        if let Some((leaf, chain, key)) = identity {
            context.set_certificate(leaf)?;
            context.set_private_key(key)?;
            for link in chain {
                context.add_extra_chain_cert(link.clone())?;
            }
        }
        Ok(Self { context: context.build(), keep: true, open: None, buffer: Vec::with_capacity(4096) })
    }

    /// Whether the connection stays open between requests (it does by default).
    pub fn set_keep(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Closes the connection: the next request makes a new one.
    pub fn disconnect(&mut self) {
        self.open = None;
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When the server cannot be reached, is not trusted, or does not speak HTTP/1.1 with a `Content-Length`.
    pub async fn send(&mut self, method: &str, url: &Url, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Response> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, url, headers, body)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                self.open = None;
                Err(error)
            }
            Err(_) => {
                self.open = None;
                Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
            }
        }
    }

    async fn exchange(&mut self, method: &str, url: &Url, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Response> {
        let host = url.host_str().ok_or_else(|| invalid("a URL without a host"))?;
        let port = url.port_or_known_default().ok_or_else(|| invalid("a URL without a port"))?;
        let target = format!("{}://{host}:{port}", url.scheme());
        self.buffer.clear();
        let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
        self.buffer.extend_from_slice(format!("{method} {}{query} HTTP/1.1\r\nHost: {host}:{port}\r\n", url.path()).as_bytes());
        for (name, value) in headers {
            self.buffer.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if method != "GET" || !body.is_empty() {
            self.buffer.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        self.buffer.extend_from_slice(b"\r\n");
        self.buffer.extend_from_slice(body);

        let reused = self.open.as_ref().is_some_and(|(to, _)| *to == target);
        if !reused {
            self.open = Some((target.clone(), self.connect(url, host, port).await?));
        }
        match self.round().await {
            // A kept connection may have been closed meanwhile: once more on a fresh one, as every HTTP client does.
            Err(error) if reused && is_closed(&error) => {
                self.open = Some((target, self.connect(url, host, port).await?));
                self.round().await
            }
            other => other,
        }
    }

    async fn connect(&self, url: &Url, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        tcp.set_nodelay(true)?;
        if url.scheme() == "http" {
            return Ok(Box::new(tcp));
        }
        let mut ssl = Ssl::new(&self.context)?;
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            ssl.param_mut().set_ip(address)?;
        } else {
            ssl.set_hostname(host)?;
            ssl.param_mut().set_host(host)?;
        }
        let mut stream = SslStream::new(ssl, tcp)?;
        Pin::new(&mut stream).connect().await.map_err(io::Error::other)?;
        Ok(Box::new(stream))
    }

    async fn round(&mut self) -> io::Result<Response> {
        let (_, stream) = self.open.as_mut().ok_or_else(|| invalid("no connection"))?;
        stream.write_all(&self.buffer).await?;
        stream.flush().await?;
        let mut data = Vec::with_capacity(2048);
        let head_end = loop {
            if let Some(at) = data.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if data.len() > MAX_HEAD {
                return Err(invalid("the answer's head is too large"));
            }
            if stream.read_buf(&mut data).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = std::str::from_utf8(data.get(..head_end).unwrap_or_default()).map_err(|_| invalid("the answer's head is not text"))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok()).ok_or_else(|| invalid("no status"))?;
        let headers: Vec<(String, String)> =
            lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned())).collect();
        let mut body = data.split_off(head_end + 4);
        let find = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, v)| v.as_str());
        let length: usize = match (find("content-length"), status) {
            (Some(text), _) => text.parse().map_err(|_| invalid("bad Content-Length"))?,
            (None, 204 | 304) => 0,
            (None, _) => return Err(invalid("an answer without Content-Length")),
        };
        if length > MAX_BODY {
            return Err(invalid("the answer is too large"));
        }
        while body.len() < length {
            if stream.read_buf(&mut body).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        body.truncate(length);
        let close = find("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if close || !self.keep {
            self.open = None;
        }
        Ok(Response { status, headers, body })
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_refusal_says_is_read_from_each_kind_of_answer() {
        let said = |media: &str, body: &str| {
            let headers = vec![("content-type".to_owned(), media.to_owned())];
            Response { status: 403, headers, body: body.as_bytes().to_vec() }.said()
        };
        assert_eq!(said("application/problem+json", r#"{"code":"ENR0032","detail":"not here"}"#), "ENR0032: not here");
        assert_eq!(
            said("text/html; charset=utf-8", "<p class=\"error\" role=\"alert\">Not\n here.</p><p class=\"small\">Status 403, ENR0032</p>"),
            "Not here. Status 403, ENR0032"
        );
        assert_eq!(said("text/plain", "ENR0032: not here"), "ENR0032: not here");
        assert_eq!(said("application/octet-stream", "x"), "");
        assert_eq!((after(""), after("a")), (String::new(), " (a)".to_owned()));
    }
}
