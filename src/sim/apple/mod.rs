//! A simulated Mac or iPhone: real keys, real TLS, real messages, a profile store that refuses what Apple's systems refuse, and a client
//! of declarative management.

pub mod account;
pub mod answers;
pub mod apps;
pub mod assets;
pub mod attestation;
mod checkin;
mod connect;
pub mod declarations;
mod declared_apps;
mod enroll;
pub mod idle;
pub mod machine;
mod orders;
pub mod over_the_air;
pub mod profiles;
mod returning;
mod things;
pub mod users;

use std::collections::BTreeMap;
use std::io;

use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use reqwest::Url;

use super::http::{Client, after};
use super::scep;
use crate::clock::{Clock, SystemClock, Time};
use crate::wire::Malformed;
use crate::wire::apple::Who;
use crate::wire::apple::checkin::Return;
use crate::wire::apple::enroll::Mdm;
use attestation::{Attestor, Claims};
use declarations::Declarations;
pub use enroll::{download, new_key};
pub use machine::{Machine, Settings};
use profiles::{Refused, Store};

/// Why something failed on the device's side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network or TLS.
    #[error("connection: {0}")]
    Connection(#[from] io::Error),
    /// The server answered with that status, and said that.
    #[error("HTTP status {}{}", .0, after(.1))]
    Http(u16, String),
    /// The answer cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The device does not take the profile.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// OpenSSL.
    #[error("crypto: {0}")]
    Crypto(#[from] ErrorStack),
    /// The connection was dropped on purpose.
    #[error("dropped")]
    Dropped,
    /// The device is not managed any more.
    #[error("not managed any more")]
    Unenrolled,
    /// The device is switched off.
    #[error("switched off")]
    Off,
    /// The server sends commands without end, the last of them these.
    #[error("commands without end: {0}")]
    Endless(String),
    /// An exchange that should have been idle was not.
    #[error("the exchange was not idle")]
    NotIdle,
}

/// How a device misbehaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Loses the network after that many answers, before it has read the last one: the command is never seen.
    pub drop_after: Option<u32>,
    /// Carries out what that many answers ask, and loses the network before it can say so: the result goes out with the next connection.
    pub mute_after: Option<u32>,
    /// Carries out what it is asked, loses the network before it can say so, and forgets that it had something to say.
    pub drop_answers: bool,
    /// Sends each message twice and expects the same answer.
    pub resend: bool,
    /// How far its clock is ahead, in milliseconds.
    pub skew: i64,
    /// Fails its SCEP enrolments.
    pub no_scep: bool,
    /// Puts requests of this type off.
    pub puts_off: Option<&'static str>,
}

/// What an exchange of commands was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages sent.
    pub messages: u32,
    /// Commands carried out.
    pub commands: u32,
    /// Commands put off.
    pub deferred: u32,
    /// Commands refused, failed or not understood.
    pub failed: u32,
    /// Answers that differed although the same message was sent twice.
    pub unequal: u32,
}

/// A device's relation to its server.
#[derive(Debug)]
pub struct Enrollment {
    /// What the profile says.
    pub mdm: Mdm,
    /// The profile's identifier.
    pub profile: String,
    /// The device's identity.
    pub identity: scep::Identity,
    /// The issuing CA and what else the SCEP server named.
    pub chain: Vec<Vec<u8>>,
    client: Client,
}

/// What follows when the answer to a command has been sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum After {
    #[default]
    Nothing,
    Erase,
    Restart,
    ShutDown,
    Leave,
}

/// A managed device.
#[derive(Debug)]
pub struct Device {
    /// The machine.
    pub machine: Machine,
    /// How it is set.
    pub settings: Settings,
    /// How it misbehaves.
    pub faults: Faults,
    /// Its relation to the server.
    pub enrollment: Enrollment,
    /// Its profiles.
    pub profiles: Store,
    /// Its declarations.
    pub declarations: Declarations,
    /// Its applications.
    pub apps: apps::Apps,
    /// Whether it has left management.
    pub left: bool,
    /// How often it carried out which command.
    pub ran: BTreeMap<String, u32>,
    /// Why it refused commands: request type and reason.
    pub refusals: Vec<(String, Refused)>,
    /// Every answer of the server on the command channel, when it is to be kept.
    pub heard: Option<Vec<Vec<u8>>>,
    /// Every message that it sends, with its media type, when they are to be kept.
    pub said: Option<Vec<(&'static str, Vec<u8>)>>,
    /// Nodes of the server that it calls in turn, passing over those that cannot be reached; empty: the one in its profile.
    pub nodes: Vec<Url>,
    /// Who attests it, when somebody does.
    pub attestor: Option<std::sync::Arc<Attestor>>,
    /// What its attestations say in the place of the truth.
    pub claims: Option<Claims>,
    /// The attestation that it has, and since when.
    attested: Option<(Time, Vec<Vec<u8>>)>,
    /// The key of its later SCEP requests; none: a fresh one for each, which takes long.
    pub scep_key: Option<PKey<Private>>,
    /// The name by which the server knows it in a user enrolment.
    enrollment_id: Option<String>,
    /// The user on whose channel it speaks; none: its own.
    user: Option<String>,
    /// What the channels hold on which it does not speak now.
    others: BTreeMap<Option<String>, users::Side>,
    push_token: Vec<u8>,
    push_magic: String,
    unlock_token: Vec<u8>,
    bootstrap_token: Option<Vec<u8>>,
    /// What it took along when it erased itself, to come back by itself.
    pub returns: Option<Return>,
    /// The token of the sign-in in an enrolment by account, shown with every message.
    bearer: Option<String>,
    roots: Vec<X509>,
    calls: usize,
    after: After,
    /// The result that could not be sent.
    unsent: Option<Vec<u8>>,
    /// The identity that takes over once the server has heard of it.
    successor: Option<Enrollment>,
    enclave: BTreeMap<&'static str, PKey<Private>>,
}

/// Exchanges that [`Device::settle`] holds at most.
const SETTLE: usize = 12;

impl Device {
    /// Who speaks.
    #[must_use]
    pub fn who(&self) -> Who {
        let user = self.user.clone();
        match &self.enrollment_id {
            Some(id) => Who { enrollment_id: Some(id.clone()), enrollment_user_id: user, ..Who::default() },
            None => Who { user_id: user.clone(), user_short_name: user, ..Who::device(self.machine.udid.as_str()) },
        }
    }

    /// Whether it is its user's own: enrolled by account for a user, it hides its hardware and refuses what reaches beyond the account.
    #[must_use]
    pub fn is_users(&self) -> bool {
        self.enrollment_id.is_some()
    }

    /// What its clock shows.
    fn now(&self) -> Time {
        SystemClock.now().plus(self.faults.skew)
    }

    /// Closes the connection to the server: the next message makes a new one.
    pub fn disconnect(&mut self) {
        self.enrollment.client.disconnect();
    }

    /// Holds exchanges until nothing is left to do on the device's side. Gives the sum of all of them.
    ///
    /// # Errors
    /// That of the exchange which failed.
    pub async fn settle(&mut self) -> Result<Report, Error> {
        let mut sum = Report::default();
        for _ in 0..SETTLE {
            let report = self.connect().await?;
            sum.messages += report.messages;
            sum.commands += report.commands;
            sum.deferred += report.deferred;
            sum.failed += report.failed;
            sum.unequal += report.unequal;
            if !self.work().await? || self.left || self.settings.off {
                break;
            }
        }
        Ok(sum)
    }

    /// Does what exchanges started and what goes on outside of them: a new identity introduces itself, FileVault encrypts, declarations
    /// are fetched, changes are reported, a farewell is said. Whether there was anything that the server heard of.
    ///
    /// # Errors
    /// [`Error`]; what was not done is done the next time.
    pub async fn work(&mut self) -> Result<bool, Error> {
        if self.settings.off {
            return Ok(false);
        }
        let mut worked = false;
        if let Some(successor) = self.successor.take() {
            let old = std::mem::replace(&mut self.enrollment, successor);
            if let Err(error) = self.introduce().await {
                self.successor = Some(std::mem::replace(&mut self.enrollment, old));
                return Err(error);
            }
            worked = true;
        }
        self.encrypt_volume()?;
        self.install_apps().await?;
        if self.left {
            return Ok(worked);
        }
        Ok(self.declare().await? || worked)
    }

    /// A user signs in to a Mac whose profiles ask for FileVault.
    fn encrypt_volume(&mut self) -> Result<(), Error> {
        let asked = self.profiles.payloads("com.apple.MCX.FileVault2").any(|payload| payload.body.string("Enable") == Some("On"));
        if asked && self.settings.obeys_filevault && !self.settings.filevault {
            self.settings.filevault = true;
            self.settings.recovery_key = Some(answers::recovery_key()?);
        }
        Ok(())
    }

    /// A P-256 key of the Secure Enclave: made at the first asking, and the same ever after.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn enclave_key(&mut self, name: &'static str) -> Result<&PKey<Private>, Error> {
        match self.enclave.entry(name) {
            std::collections::btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::btree_map::Entry::Vacant(free) => {
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
                Ok(free.insert(PKey::from_ec_key(EcKey::generate(&group)?)?))
            }
        }
    }
}
