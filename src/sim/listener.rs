//! A small HTTP/1.1 server for receivers that stand in for somebody else's: one request per connection, everything bounded.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslAcceptor, SslContext, SslMethod};
use openssl::x509::X509;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_openssl::SslStream;

const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header names in lower case, with values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status code; 0 means: say nothing until the other side gives up.
    pub status: u16,
    /// Headers beside `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer without a body.
    #[must_use]
    pub fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// No answer: the other side waits until it gives up.
    #[must_use]
    pub fn silence() -> Self {
        Self::default()
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(mut self, value: &serde_json::Value) -> Self {
        self.body = value.to_string().into_bytes();
        self.header("Content-Type", "application/json")
    }
}

/// The future of an answer.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;
/// Answers requests.
pub type Handler = Arc<dyn Fn(Request) -> Answering + Send + Sync>;

/// A server that answers until it is dropped.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a server shows to those who connect.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Its certificate.
    pub certificate: X509,
    /// The certificates between it and a root.
    pub chain: Vec<X509>,
    /// Its key.
    pub key: PKey<Private>,
}

impl Tls {
    fn context(&self) -> io::Result<SslContext> {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        acceptor.set_certificate(&self.certificate)?;
        acceptor.set_private_key(&self.key)?;
        for link in &self.chain {
            acceptor.add_extra_chain_cert(link.clone())?;
        }
        Ok(acceptor.build().into_context())
    }
}

/// Starts a server on that address (port 0: any that is free), with TLS or without.
///
/// # Errors
/// When the address is taken, or OpenSSL refuses the certificate.
pub async fn listen(address: SocketAddr, tls: Option<&Tls>, handler: Handler) -> io::Result<Listener> {
    let context = tls.map(Tls::context).transpose()?;
    let socket = TcpListener::bind(address).await?;
    let address = socket.local_addr()?;
    let task = tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = socket.accept().await else {
                // Such as too many open files: the others finish meanwhile.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (handler, context) = (Arc::clone(&handler), context.clone());
            tokio::spawn(tokio::time::timeout(PATIENCE, async move {
                if let Err(error) = connection(stream, context, handler).await {
                    tracing::debug!(%error, "a connection broke");
                }
            }));
        }
    });
    Ok(Listener { address, task })
}

async fn connection(stream: TcpStream, context: Option<SslContext>, handler: Handler) -> io::Result<()> {
    let Some(context) = context else { return serve(stream, handler).await };
    let mut stream = SslStream::new(Ssl::new(&context)?, stream)?;
    Pin::new(&mut stream).accept().await.map_err(io::Error::other)?;
    serve(stream, handler).await
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, handler: Handler) -> io::Result<()> {
    let request = read_request(&mut stream).await?;
    let answer = handler(request).await;
    if answer.status == 0 {
        // Waits until the other side closes.
        let mut rest = [0; 64];
        while stream.read(&mut rest).await? > 0 {}
        return Ok(());
    }
    write_answer(&mut stream, &answer).await
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Request> {
    let broken = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > MAX_HEAD || stream.read_buf(&mut bytes).await? == 0 {
            return Err(broken("no whole head"));
        }
    };
    let mut body = bytes.split_off(head_end + 4);
    let head = String::from_utf8(bytes).map_err(|_| broken("the head is not UTF-8"))?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(path)) = (first.next(), first.next()) else { return Err(broken("no request line")) };
    let (method, path) = (method.to_owned(), path.to_owned());
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned())).collect();
    let request = Request { method, path, headers, body: Vec::new() };
    let length = match request.header("content-length") {
        Some(text) => text.parse::<usize>().ok().filter(|n| *n <= MAX_BODY).ok_or_else(|| broken("the body is too long"))?,
        None => 0,
    };
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(broken("the body is cut off"));
        }
    }
    body.truncate(length);
    Ok(Request { body, ..request })
}

async fn write_answer(stream: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} -\r\nContent-Length: {}\r\nConnection: close\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&answer.body).await?;
    stream.shutdown().await
}
