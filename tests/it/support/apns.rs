//! A stand-in for Apple's push service: TLS with a client certificate, HTTP/2 by ALPN, and answers as the test wants them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslMethod, SslVerifyMode, SslVersion, select_next_proto};
use openssl::x509::X509;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::ca::{Ca, Leaf};

/// What it was asked.
pub struct Seen {
    pub path: String,
    pub method: String,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
    /// The client certificate, DER.
    pub client: Vec<u8>,
    /// Which connection it came over.
    pub connection: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What it says next.
pub enum Say {
    /// A status and a body.
    Answer(u16, String),
    /// GOAWAY: it takes no more of this connection.
    GoAway,
}

impl Say {
    pub fn reason(status: u16, reason: &str) -> Self {
        Self::Answer(status, format!("{{\"reason\":\"{reason}\"}}"))
    }
}

#[derive(Default)]
pub struct State {
    pub seen: Vec<Seen>,
    /// What is said next; 200 when there is nothing.
    pub script: VecDeque<Say>,
    pub connections: usize,
}

/// The stand-in; it answers until the runtime ends.
pub struct Apns {
    pub address: SocketAddr,
    /// The root of its own certificate.
    pub root_pem: Vec<u8>,
    pub state: Arc<Mutex<State>>,
}

impl Apns {
    /// It takes client certificates of `clients` only. Without `http2` it chooses no protocol, and speaks HTTP/1.1. Up to TLS 1.2 it
    /// refuses a certificate within the handshake.
    pub async fn start(clients: &X509, http2: bool, tls: SslVersion) -> Self {
        let own = Ca::new("Push service root");
        let Leaf { certificate, key } = own.leaf("Push service", &["127.0.0.1".to_owned()]);
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_max_proto_version(Some(tls)).unwrap();
        acceptor.set_certificate(&certificate).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.cert_store_mut().add_cert(clients.clone()).unwrap();
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        acceptor
            .set_alpn_select_callback(move |_, offered| select_next_proto(b"\x02h2", offered).filter(|_| http2).ok_or(AlpnError::NOACK));
        let acceptor = Arc::new(acceptor.build());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&acceptor), Arc::clone(&shared)));
            }
        });
        Self { address, root_pem: own.root.to_pem().unwrap(), state }
    }

    pub fn say(&self, what: impl IntoIterator<Item = Say>) {
        self.state.lock().unwrap().script.extend(what);
    }

    /// How often it was asked.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap().seen.len()
    }
}

async fn serve(stream: TcpStream, acceptor: Arc<SslAcceptor>, state: Arc<Mutex<State>>) {
    let mut stream = tokio_openssl::SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
    if std::pin::Pin::new(&mut stream).accept().await.is_err() {
        // What is left unread would reset the connection, and the alert with it.
        let stream = stream.get_mut();
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        return;
    }
    let client = stream.ssl().peer_certificate().unwrap().to_der().unwrap();
    let connection = {
        let mut state = state.lock().unwrap();
        state.connections += 1;
        state.connections
    };
    if stream.ssl().selected_alpn_protocol() != Some(b"h2") {
        let mut bytes = [0; 4096];
        let _ = stream.read(&mut bytes).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        let _ = stream.shutdown().await;
        return;
    }
    let mut http = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = http.accept().await {
        let say = state.lock().unwrap().script.pop_front().unwrap_or_else(|| Say::Answer(200, String::new()));
        let Say::Answer(status, text) = say else {
            http.abrupt_shutdown(h2::Reason::NO_ERROR);
            continue;
        };
        let (state, client) = (Arc::clone(&state), client.clone());
        tokio::spawn(async move {
            let (head, mut incoming) = request.into_parts();
            let mut body = Vec::new();
            while let Some(Ok(chunk)) = incoming.data().await {
                body.extend_from_slice(&chunk);
                let _ = incoming.flow_control().release_capacity(chunk.len());
            }
            let (path, method) = (head.uri.path().to_owned(), head.method.to_string());
            state.lock().unwrap().seen.push(Seen { path, method, headers: head.headers, body, client, connection });
            let response =
                http::Response::builder().status(status).header("apns-id", "eabeae54-14a8-11e5-b60b-1697f925ec7b").body(()).unwrap();
            let mut stream = respond.send_response(response, text.is_empty()).unwrap();
            if !text.is_empty() {
                let _ = stream.send_data(text.into_bytes().into(), true);
            }
        });
    }
}
