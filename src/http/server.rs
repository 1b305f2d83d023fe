//! Starting and stopping the three faces.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::guard::{Guard, fn_guard};
use actix_web::middleware::from_fn;
use actix_web::web::{Data, ServiceConfig, scope};
use actix_web::{HttpResponse, HttpServer};
use openssl::ssl::SslAcceptorBuilder;

use super::drain::Drain;
use super::error::Problem;
use super::limits::Limiter;
use super::observe::observe;
use super::orders::{Carrier, Orders};
use super::peer::{self, Face};
use super::routes;
use super::tls::{self, Ask, Current, Identity};
use crate::app::App;
use crate::config::Config;
use crate::telemetry;

/// Seconds that answers in flight have to finish when the server stops.
const STOP_SECONDS: u64 = 30;
/// Seconds after that in which finished answers leave the socket buffers; idle HTTP/2 connections are cut then.
const FLUSH_SECONDS: u64 = 1;
/// Threads per worker for what blocks (database reads, RSA).
const BLOCKING_THREADS: usize = 64;
/// Connections a worker holds at most; the rest wait in the listener's queue.
const CONNECTIONS_PER_WORKER: usize = 25_000;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be taken.
    #[error("{key}.listen = {address}: {}", why(.cause))]
    Bind {
        /// The configuration key of the face.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// The faces did not start.
    #[error("the faces do not start")]
    Io(#[from] std::io::Error),
    /// The server certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Why a port cannot be taken, and what to do.
fn why(cause: &std::io::Error) -> String {
    match cause.kind() {
        std::io::ErrorKind::AddrInUse => "another program has this port; stop it, or choose another port".into(),
        std::io::ErrorKind::AddrNotAvailable => "this machine has no such address; choose one that it has, or 0.0.0.0 for all".into(),
        std::io::ErrorKind::PermissionDenied => "this user may not take this port; choose one from 1024 on, or give the right to".into(),
        _ => cause.to_string(),
    }
}

impl From<openssl::error::ErrorStack> for Error {
    fn from(error: openssl::error::ErrorStack) -> Self {
        Self::Tls(error.into())
    }
}

/// The ports, taken as soon as the database is held, so that URLs with the true port numbers can be given out from the first moment.
#[derive(Debug)]
pub struct Listeners {
    web: TcpListener,
    device: Option<TcpListener>,
    pki: TcpListener,
}

/// Takes the ports that `config` names and writes their true numbers back into it.
///
/// # Errors
/// [`Error::Bind`] names the face.
pub fn bind(config: &mut Config) -> Result<Listeners, Error> {
    fn take(key: &'static str, address: &mut SocketAddr) -> Result<TcpListener, Error> {
        let bound = TcpListener::bind(*address).and_then(|l| l.set_nonblocking(true).map(|()| l));
        let listener = bound.map_err(|cause| Error::Bind { key, address: *address, cause })?;
        *address = listener.local_addr()?;
        Ok(listener)
    }
    let web = take("web", &mut config.web.listen)?;
    let device = if config.single_port {
        config.device.listen = config.web.listen;
        None
    } else {
        Some(take("device", &mut config.device.listen)?)
    };
    let pki = take("pki", &mut config.pki.listen)?;
    Ok(Listeners { web, device, pki })
}

/// The route table of each face.
#[derive(Clone, Copy, Debug)]
pub struct Routes {
    /// Of the web face.
    pub web: fn(&mut ServiceConfig),
    /// Of the device face.
    pub device: fn(&mut ServiceConfig),
    /// Of the CA's plain HTTP face.
    pub pki: fn(&mut ServiceConfig),
    /// Who carries out what the command line of another machine orders; nobody: there are no orders here.
    pub orders: Option<&'static dyn Carrier>,
}

impl Default for Routes {
    fn default() -> Self {
        Self { web: routes::web, device: routes::device, pki: routes::pki, orders: None }
    }
}

/// A server that answers.
#[derive(Debug)]
pub struct Running {
    /// Address of the web face.
    pub web: SocketAddr,
    /// Address of the device face; the web face's when they share a port.
    pub device: SocketAddr,
    /// Address of the CA's plain HTTP face.
    pub pki: SocketAddr,
    /// The server certificate in force.
    pub certificate: Current,
    drain: Arc<Drain>,
    faces: Vec<(ServerHandle, tokio::task::JoinHandle<std::io::Result<()>>)>,
}

impl Running {
    /// Stops: begins no new answers, lets those in flight finish, and returns when all is quiet.
    pub async fn stop(mut self) {
        let patience = Duration::from_secs(STOP_SECONDS);
        if tokio::time::timeout(patience, self.drain.finish()).await.is_err() {
            tracing::warn!("answers that took more than {STOP_SECONDS} s are broken off");
        }
        let faces = std::mem::take(&mut self.faces);
        let stops = faces.iter().map(|(handle, _)| handle.stop(true));
        futures_util::future::join_all(stops).await;
        for (_, task) in faces {
            drop(task.await);
        }
    }
}

impl Drop for Running {
    /// A server that is not waited for is broken off: connections close at once.
    fn drop(&mut self) {
        for (handle, _) in &self.faces {
            drop(handle.stop(false));
        }
    }
}

/// Starts the faces.
///
/// # Errors
/// [`Error`] when the server certificate cannot be used.
pub fn start(app: &Arc<App>, listeners: Listeners, identity: Identity, routes: Routes) -> Result<Running, Error> {
    telemetry::start_metrics();
    let config = Arc::clone(&app.config);
    let certificate = Current::new(identity);
    let drain = Arc::new(Drain::default());
    let shared = Shared {
        app: Data::from(Arc::clone(app)),
        limiter: Data::new(Limiter::new(&config.limits)),
        drain: Data::from(Arc::clone(&drain)),
        orders: Data::new(Orders(routes.orders)),
    };
    let face = |ask: Ask, table, listener| {
        let acceptor = tls::acceptor(&certificate, ask.clone())?;
        serve(&shared, ask, table, listener, Some(acceptor)).map_err(Error::from)
    };
    let mut servers = Vec::new();
    if let Some(listener) = listeners.device {
        servers.push(face(Ask::Never, Table::One(routes.web), listeners.web)?);
        servers.push(face(Ask::Always, Table::One(routes.device), listener)?);
    } else {
        servers.push(face(Ask::Name(config.device_host()), Table::ByFace(routes), listeners.web)?);
    }
    servers.push(serve(&shared, Ask::Never, Table::One(routes.pki), listeners.pki, None)?);
    let faces = servers.into_iter().map(|server| (server.handle(), tokio::spawn(server))).collect();
    Ok(Running { web: config.web.listen, device: config.device.listen, pki: config.pki.listen, certificate, drain, faces })
}

/// Which route table a port answers from.
#[derive(Clone, Copy)]
enum Table {
    One(fn(&mut ServiceConfig)),
    ByFace(Routes),
}

impl Table {
    fn configure(self, config: &mut ServiceConfig) {
        match self {
            Self::One(table) => table(config),
            Self::ByFace(routes) => {
                config
                    .service(scope("").guard(is(Face::Device)).configure(routes.device))
                    .service(scope("").guard(is(Face::Web)).configure(routes.web));
            }
        }
        config.default_service(actix_web::web::to(refuse_unknown));
    }
}

fn is(face: Face) -> impl Guard {
    fn_guard(move |context| context.req_data().get::<Face>() == Some(&face))
}

async fn refuse_unknown() -> Result<HttpResponse, Problem> {
    Err(Problem::not_found())
}

/// What the handlers of all faces work with.
#[derive(Clone)]
struct Shared {
    app: Data<App>,
    limiter: Data<Limiter>,
    drain: Data<Drain>,
    orders: Data<Orders>,
}

fn serve(shared: &Shared, ask: Ask, table: Table, listener: TcpListener, acceptor: Option<SslAcceptorBuilder>) -> std::io::Result<Server> {
    let workers = shared.app.config.workers;
    let shared = shared.clone();
    let factory = move || {
        actix_web::App::new()
            .app_data(shared.app.clone())
            .app_data(shared.limiter.clone())
            .app_data(shared.drain.clone())
            .app_data(shared.orders.clone())
            .wrap(from_fn(observe))
            .configure(|config| table.configure(config))
    };
    let mut server = HttpServer::new(factory)
        .on_connect(move |io, data| peer::remember(io, data, &ask))
        .disable_signals()
        .shutdown_timeout(FLUSH_SECONDS)
        .tls_handshake_timeout(Duration::from_secs(10))
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .max_connections(CONNECTIONS_PER_WORKER);
    if workers > 0 {
        server = server.workers(workers);
    }
    match acceptor {
        Some(acceptor) => server.listen_openssl(listener, acceptor),
        None => server.listen(listener),
    }
    .map(HttpServer::run)
}
