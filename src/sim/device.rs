//! A simulated device of any platform: what fleets and the demo do with all of them.

use std::io;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509VerifyResult};
use reqwest::Url;

pub use super::apple::new_key;
use super::http::Client;
use super::windows::enroll::SignIn;
use super::{apple, windows};

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A PC with Windows 11.
    Windows,
    /// A Mac with Apple silicon.
    Mac,
    /// An iPhone.
    Iphone,
    /// An iPhone that the organisation supervises.
    SupervisedIphone,
}

/// Where devices enrol, and as whom.
#[derive(Clone, Debug)]
pub struct Door {
    /// What the machines trust beforehand.
    pub roots: Vec<X509>,
    /// The base URL of the server's web face.
    pub web: Url,
    /// The user principal name.
    pub user: String,
    /// A Temporary Access Pass of the user.
    pub pass: String,
}

/// Why something failed on a device's side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// On a PC.
    #[error(transparent)]
    Windows(#[from] windows::Error),
    /// On a Mac or an iPhone.
    #[error(transparent)]
    Apple(#[from] apple::Error),
}

/// A managed device.
#[derive(Debug)]
pub enum Device {
    /// A PC.
    Windows(Box<windows::Device>),
    /// A Mac or an iPhone.
    Apple(Box<apple::Device>),
}

/// What a device says by heart when it has nothing to say.
#[derive(Debug)]
pub enum Rehearsed {
    /// A PC.
    Windows(windows::Rehearsed),
    /// A Mac or an iPhone.
    Apple(apple::idle::Rehearsed),
}

/// A certificate of a device, with those above it that the server named.
#[derive(Clone, Debug)]
pub struct Held {
    /// The certificate.
    pub certificate: X509,
    /// The others.
    pub chain: Vec<X509>,
}

impl Held {
    fn read(certificate: &[u8], chain: &[Vec<u8>]) -> Result<Self, ErrorStack> {
        let chain = chain.iter().map(|der| X509::from_der(der)).collect::<Result<_, _>>()?;
        Ok(Self { certificate: X509::from_der(certificate)?, chain })
    }

    /// The certificate that signed it, when the server named it.
    #[must_use]
    pub fn issuer(&self) -> Option<&X509> {
        self.chain.iter().find(|other| other.issued(&self.certificate) == X509VerifyResult::OK)
    }
}

impl Device {
    /// Enrols the machine with that number, as its user does: the same number is the same hardware. `key` becomes the identity's.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn enroll(door: &Door, kind: Kind, number: u64, key: &PKey<Private>) -> Result<Self, Error> {
        let machine = match kind {
            Kind::Windows => {
                let discovery = door.web.join("/EnrollmentServer/Discovery.svc").map_err(io::Error::other).map_err(windows::Error::from)?;
                let sign_in = SignIn::Pass { user: door.user.clone(), pass: door.pass.clone() };
                let machine = windows::enroll::Machine::windows_11(number);
                let device = windows::Device::enroll(&door.roots, &discovery, machine, &sign_in, key).await?;
                return Ok(Self::Windows(Box::new(device)));
            }
            Kind::Mac => apple::Machine::mac(number),
            Kind::Iphone => apple::Machine::iphone(number),
            Kind::SupervisedIphone => apple::Machine { supervised: true, ..apple::Machine::iphone(number) },
        };
        let mut http = Client::new(&door.roots, None).map_err(apple::Error::from)?;
        let profile = apple::download(&mut http, &door.web, &door.user, &door.pass, machine.system).await?;
        let device = apple::Device::enroll(&door.roots, &profile, machine, key).await?;
        Ok(Self::Apple(Box::new(device)))
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Windows(device) => &device.machine.name,
            Self::Apple(device) => &device.machine.name,
        }
    }

    /// By what an administrator finds it: iPhones do not tell their names before they are asked.
    #[must_use]
    pub fn found_by(&self) -> &str {
        match self {
            Self::Windows(device) => &device.machine.name,
            Self::Apple(device) => &device.machine.serial,
        }
    }

    /// Whether it has left management.
    #[must_use]
    pub fn left(&self) -> bool {
        match self {
            Self::Windows(device) => device.left,
            Self::Apple(device) => device.left,
        }
    }

    /// Whether it puts off what it is told until somebody unlocks it.
    #[must_use]
    pub fn locked(&self) -> bool {
        match self {
            Self::Windows(_) => false,
            Self::Apple(device) => device.settings.locked,
        }
    }

    /// Its user unlocks it.
    pub fn unlock(&mut self) {
        if let Self::Apple(device) = self {
            device.settings.locked = false;
        }
    }

    /// Has it use that key for its later SCEP requests, in place of a fresh one for each, which takes long.
    pub fn share_key(&mut self, key: &PKey<Private>) {
        match self {
            Self::Windows(device) => device.scep_key = Some(key.clone()),
            Self::Apple(device) => device.scep_key = Some(key.clone()),
        }
    }

    /// Closes the connection to the management server: the next message makes a new one.
    pub fn disconnect(&mut self) {
        match self {
            Self::Windows(device) => device.disconnect(),
            Self::Apple(device) => device.disconnect(),
        }
    }

    /// Calls the server once, whatever that brings.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn session(&mut self) -> Result<(), Error> {
        match self {
            Self::Windows(device) => device.session().await.map(drop)?,
            Self::Apple(device) => device.connect().await.map(drop)?,
        }
        Ok(())
    }

    /// Calls the server until nothing is left to do on the device's side; how much it was told to do.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn settle(&mut self) -> Result<usize, Error> {
        Ok(match self {
            Self::Windows(device) => device.settle().await?.commands,
            Self::Apple(device) => {
                let report = device.settle().await?;
                usize::try_from(report.commands + report.failed).unwrap_or(usize::MAX)
            }
        })
    }

    /// Holds a call in which the server has nothing to say, and remembers it.
    ///
    /// # Errors
    /// [`Error`], such as that the server had something to say.
    pub async fn rehearse(&mut self) -> Result<Rehearsed, Error> {
        Ok(match self {
            Self::Windows(device) => Rehearsed::Windows(device.rehearse().await?),
            Self::Apple(device) => Rehearsed::Apple(device.rehearse().await?),
        })
    }

    /// Holds such a call again.
    ///
    /// # Errors
    /// [`Error`], such as that the server had something to say.
    pub async fn repeat(&mut self, rehearsed: &Rehearsed) -> Result<(), Error> {
        match (self, rehearsed) {
            (Self::Windows(device), Rehearsed::Windows(rehearsed)) => device.repeat(rehearsed).await?,
            (Self::Apple(device), Rehearsed::Apple(rehearsed)) => device.repeat(rehearsed).await?,
            (Self::Windows(_), _) => return Err(windows::Error::NotIdle.into()),
            (Self::Apple(_), _) => return Err(apple::Error::NotIdle.into()),
        }
        Ok(())
    }

    /// The identity with which it is managed.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn identity(&self) -> Result<Held, ErrorStack> {
        match self {
            Self::Windows(device) => Ok(Held { certificate: device.identity.certificate.clone(), chain: device.identity.chain.clone() }),
            Self::Apple(device) => Held::read(&device.enrollment.identity.certificate, &device.enrollment.chain),
        }
    }

    /// The certificates that profiles brought by SCEP.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn certificates(&self) -> Result<Vec<Held>, ErrorStack> {
        match self {
            Self::Windows(device) => device.certificates.values().map(|held| Held::read(&held.identity.certificate, &held.chain)).collect(),
            Self::Apple(device) => {
                let own = device.profiles.iter().filter(|installed| installed.profile.identifier != device.enrollment.profile);
                let all = own.flat_map(|installed| installed.identities.values().map(|identity| (identity, &installed.chain)));
                all.map(|(identity, chain)| Held::read(&identity.certificate, chain)).collect()
            }
        }
    }

    /// A client that shows its identity to servers of those roots.
    ///
    /// # Errors
    /// When OpenSSL refuses the certificate or the key.
    pub fn client(&self, roots: &[X509]) -> io::Result<Client> {
        match self {
            Self::Windows(device) => device.identity.client(roots),
            Self::Apple(device) if device.enrollment.mdm.sign_message => Client::new(roots, None),
            Self::Apple(device) => {
                let held = self.identity()?;
                let above: Vec<X509> = held.issuer().cloned().into_iter().collect();
                Client::new(roots, Some((&held.certificate, &above, &device.enrollment.identity.key)))
            }
        }
    }
}
