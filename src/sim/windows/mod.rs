//! A simulated Windows device: real keys, real TLS, real messages, and a management tree that says no as Windows does.

mod certificates;
pub mod enroll;
mod idle;
mod manners;
pub mod session;
pub mod tree;

use std::collections::BTreeMap;
use std::io;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use reqwest::Url;

use super::http::{Client, after};
use super::scep;
use crate::catalogue::{Scope, catalogue};
use crate::clock::{Clock, SystemClock, Time};
use crate::wire::Malformed;
use crate::wire::syncml::MEDIA_TYPE;
use certificates::Pending;
use enroll::{Failure, Identity, Machine, SignIn};
pub use idle::Rehearsed;
use session::{Login, Md5, Session, Start};
use tree::{Effect, Tree};

/// Alert type with which Windows tells that it leaves.
const UNENROLL: &str = "com.microsoft:mdm.unenrollment.userrequest";
/// Sessions that [`Device::settle`] holds at most.
const SETTLE: usize = 12;

/// Why a session failed on the device's side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network or TLS.
    #[error("connection: {0}")]
    Connection(#[from] io::Error),
    /// The server answered with that status, and said that.
    #[error("HTTP status {}{}", .0, after(.1))]
    Http(u16, String),
    /// The answer is no SyncML.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Enrolment or renewal.
    #[error(transparent)]
    Enrollment(#[from] Failure),
    /// The session was dropped on purpose.
    #[error("dropped")]
    Dropped,
    /// A session that should have been idle was not.
    #[error("the session was not idle")]
    NotIdle,
}

/// How a device misbehaves in its sessions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Drops the connection after that many answers, and forgets the session.
    pub drop_after: Option<u32>,
    /// Carries out what that many answers ask, and loses the network before it can say so.
    pub mute_after: Option<u32>,
    /// Fails its SCEP enrolments.
    pub no_scep: bool,
    /// Sends each message twice and expects the same bytes.
    pub resend: bool,
    /// How far its clock is ahead, in milliseconds.
    pub clock_skew: i64,
    /// Says that its user is signed in while the user's tree is not loaded yet.
    pub slow_user: bool,
    /// The largest message that it takes: it sends and receives what is larger in parts.
    pub max_message: Option<u64>,
    /// The longest value that it takes.
    pub max_object: Option<u64>,
}

/// A certificate that the device got by SCEP.
#[derive(Clone, Debug)]
pub struct Held {
    /// Certificate and key.
    pub identity: scep::Identity,
    /// Machine or user store.
    pub scope: Scope,
    /// The issuing CA and what else the server named.
    pub chain: Vec<Vec<u8>>,
}

/// What a session was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages sent.
    pub messages: u32,
    /// Commands carried out.
    pub commands: usize,
    /// Chunks of values that came and were not the last.
    pub chunks: usize,
    /// Answers that differed although the same message was sent twice.
    pub unequal: u32,
}

/// An enrolled device.
#[derive(Debug)]
pub struct Device {
    /// What it got when it enrolled.
    pub identity: Identity,
    /// The machine.
    pub machine: Machine,
    /// Its management tree.
    pub tree: Tree,
    /// Who sits there.
    pub login: Login,
    /// How it misbehaves.
    pub faults: Faults,
    /// Certificates by request.
    pub certificates: BTreeMap<String, Held>,
    /// Whether it has left management.
    pub left: bool,
    /// How often it ran which command of the catalogue.
    pub ran: BTreeMap<&'static str, u32>,
    /// Every answer of the management server, when it is to be kept.
    pub heard: Option<Vec<Vec<u8>>>,
    /// Management addresses that it calls in turn, passing over those that cannot be reached; empty: the one it was given.
    pub nodes: Vec<Url>,
    /// The key of its SCEP requests; none: a fresh one for each, which takes long.
    pub scep_key: Option<PKey<Private>>,
    roots: Vec<X509>,
    management: Client,
    web: Client,
    sessions: u32,
    calls: usize,
    alerts: Vec<(String, String)>,
    waiting: Vec<(Scope, String, BTreeMap<String, String>)>,
    /// SCEP requests that the server has not decided on.
    pending: Vec<Pending>,
    /// SCEP servers that it has met and not used yet, by URL.
    servers: BTreeMap<String, scep::Server>,
}

impl Device {
    /// Enrols a machine at the discovery address. `roots` is what the machine trusts beforehand.
    ///
    /// # Errors
    /// [`Error::Enrollment`].
    pub async fn enroll(roots: &[X509], discovery: &Url, machine: Machine, sign_in: &SignIn, key: &PKey<Private>) -> Result<Self, Error> {
        let mut client = Client::new(roots, None)?;
        let identity = enroll::enroll(&mut client, discovery, &machine, sign_in, key).await?;
        Self::with(roots, machine, identity)
    }

    /// A device that has enrolled.
    ///
    /// # Errors
    /// When OpenSSL refuses the identity.
    pub fn with(roots: &[X509], machine: Machine, identity: Identity) -> Result<Self, Error> {
        let mut roots = roots.to_vec();
        roots.extend(identity.root.clone());
        let mut tree = Tree::new(&identity.provider_id);
        tree.set("./DevInfo/DevId", &identity.device_id);
        tree.set("./DevDetail/SwV", &machine.os_version);
        tree.set(tree::EDITION, &machine.os_edition);
        tree.set("./DevDetail/Ext/Microsoft/DeviceName", &machine.name);
        let serial = format!("SIM{}", machine.hardware_id.get(..10).unwrap_or_default().to_uppercase());
        tree.set("./DevDetail/Ext/Microsoft/SMBIOSSerialNumber", &serial);
        Ok(Self {
            management: identity.client(&roots)?,
            web: Client::new(&roots, None)?,
            identity,
            machine,
            tree,
            login: Login::User,
            faults: Faults::default(),
            certificates: BTreeMap::new(),
            left: false,
            ran: BTreeMap::new(),
            heard: None,
            nodes: Vec::new(),
            scep_key: None,
            roots,
            sessions: 0,
            calls: 0,
            alerts: Vec::new(),
            waiting: Vec::new(),
            pending: Vec::new(),
            servers: BTreeMap::new(),
        })
    }

    /// Closes the connection to the management server: the next session makes a new one.
    pub fn disconnect(&mut self) {
        self.management.disconnect();
    }

    /// Asks to leave: the next session brings the alert.
    pub fn ask_to_leave(&mut self) {
        self.alerts.push((UNENROLL.to_owned(), "1".to_owned()));
    }

    /// Whether something waits for another session: a finished enrolment to report.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.alerts.is_empty() || !self.waiting.is_empty()
    }

    /// Holds a session, from package 1 to its end.
    ///
    /// # Errors
    /// [`Error`]; the session is then dead, as it is for a device that lost its network.
    pub async fn session(&mut self) -> Result<Report, Error> {
        let id = self.next_session();
        let alerts = self.alerts.clone();
        let start = Start {
            login: self.login,
            alerts,
            max_message: self.faults.max_message,
            max_object: self.faults.max_object,
            ..Start::default()
        };
        self.tree.faults.user_present = self.login == Login::User && !self.faults.slow_user;
        let client = &self.identity.management.client;
        let md5 = client.name.clone().map(|user| Md5 { user, secret: client.secret.clone() });
        let target = self.identity.management.address.clone();
        let mut session = Session::new(&id, &self.identity.device_id, &target, start, md5);
        let ended = self.converse(&mut session).await;
        // What the device has begun goes on, however the session ended.
        for effect in std::mem::take(&mut session.effects) {
            match effect {
                Effect::ScepEnroll { scope, id, install } => {
                    self.waiting.retain(|(_, known, _)| *known != id);
                    self.pending.retain(|pending| pending.id != id);
                    self.waiting.push((scope, id, install));
                }
                Effect::Command(name) => {
                    *self.ran.entry(name).or_default() += 1;
                    self.left |= catalogue().command(name).is_some_and(|row| row.ends_enrollment);
                }
            }
        }
        let unequal = ended?;
        // The alerts have been heard.
        self.alerts.clear();
        Ok(Report { messages: session.messages(), commands: session.commands, chunks: session.chunks, unequal })
    }

    /// Exchanges messages until the session is over; how many answers differed from the first to the same message.
    async fn converse(&mut self, session: &mut Session) -> Result<u32, Error> {
        let mut unequal = 0;
        let mut message = Some(session.first(&self.tree));
        while let Some(body) = message {
            let answer = self.call(&body).await?;
            if let Some(heard) = &mut self.heard {
                heard.push(answer.clone());
            }
            if self.faults.resend && self.call(&body).await? != answer {
                unequal += 1;
            }
            if self.faults.drop_after.is_some_and(|after| session.messages() >= after) {
                self.management.disconnect();
                return Err(Error::Dropped);
            }
            let sent = session.messages();
            message = session.answer(&answer, &mut self.tree)?;
            if message.is_some() && self.faults.mute_after.is_some_and(|after| sent >= after) {
                self.management.disconnect();
                return Err(Error::Dropped);
            }
        }
        Ok(unequal)
    }

    /// Windows numbers sessions in hexadecimal and starts over.
    fn next_session(&mut self) -> String {
        self.sessions += 1;
        format!("{:X}", self.sessions % 0xFFFF)
    }

    /// Where to call, in order.
    fn management_urls(&mut self) -> Result<Vec<Url>, Error> {
        let mut urls = vec![self.identity.management_url()?];
        if !self.nodes.is_empty() {
            urls.clone_from(&self.nodes);
            urls.rotate_left(self.calls % self.nodes.len());
            self.calls += 1;
        }
        for url in &mut urls {
            url.query_pairs_mut().append_pair("mode", "Maintenance").append_pair("Platform", "WoA");
        }
        Ok(urls)
    }

    /// The time on its clock.
    fn now(&self) -> Time {
        SystemClock.now().plus(self.faults.clock_skew)
    }

    async fn call(&mut self, body: &[u8]) -> Result<Vec<u8>, Error> {
        let mut failed = Error::Dropped;
        for url in self.management_urls()? {
            match self.send(&url, body).await {
                Err(Error::Connection(error)) => failed = error.into(),
                other => return other,
            }
        }
        Err(failed)
    }

    async fn send(&mut self, url: &Url, body: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = if self.identity.management.sign_messages { Some(self.identity.sign_message(body, self.now())?) } else { None };
        let mut headers = vec![("Content-Type", MEDIA_TYPE), ("User-Agent", "MSFT OMA DM Client/1.2.0.1")];
        headers.extend(signature.as_deref().map(|signature| ("MDM-Signature", signature)));
        let response = self.management.send("POST", url, &headers, body).await?;
        if response.status == 200 { Ok(response.body) } else { Err(Error::Http(response.status, response.said())) }
    }

    /// The last words of a PC that was told to leave. Whatever becomes of them, it has left; one that wiped itself has none.
    async fn say_goodbye(&mut self) {
        if self.ran.contains_key("unenroll") {
            self.ask_to_leave();
            drop(self.session().await);
        }
    }

    /// Holds sessions until nothing is left to do on the device's side. Gives the sum of all of them.
    ///
    /// # Errors
    /// That of the session which failed.
    pub async fn settle(&mut self) -> Result<Report, Error> {
        let mut sum = Report::default();
        for _ in 0..SETTLE {
            let report = self.session().await?;
            sum.messages += report.messages;
            sum.commands += report.commands;
            sum.chunks += report.chunks;
            sum.unequal += report.unequal;
            if self.left {
                self.say_goodbye().await;
                break;
            }
            self.work().await;
            if !self.has_news() {
                break;
            }
        }
        Ok(sum)
    }

    /// Renews the identity with the current one (ROBO).
    ///
    /// # Errors
    /// [`Error::Enrollment`].
    pub async fn renew(&mut self) -> Result<(), Error> {
        let key = enroll::new_key().map_err(io::Error::from)?;
        self.identity = enroll::renew(&mut self.management, &self.identity, &key, false).await?;
        self.management = self.identity.client(&self.roots)?;
        Ok(())
    }
}
