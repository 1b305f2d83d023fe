//! The users of a simulated Mac: each has a channel of their own, with profiles, declarations and an address.

use openssl::rand::rand_bytes;

use super::declarations::Declarations;
use super::profiles::Store;
use super::{Device, Error};
use crate::wire::apple::checkin::{CheckOut, Message, UserAuthenticate};

/// What a user is asked: all other commands are the device's.
pub const COMMANDS: [&str; 10] = [
    "CertificateList",
    "DeclarativeManagement",
    "DeviceInformation",
    "InstallMedia",
    "InstallProfile",
    "InstalledApplicationList",
    "NSExtensionMappings",
    "ProfileList",
    "RemoveProfile",
    "Settings",
];

/// What a channel holds.
#[derive(Debug, Default)]
pub(super) struct Side {
    profiles: Store,
    declarations: Declarations,
    push_token: Vec<u8>,
    push_magic: String,
    unsent: Option<Vec<u8>>,
}

impl Device {
    /// From now on it speaks for that user, or for itself.
    pub fn speak_for(&mut self, user: Option<&str>) {
        let user = user.map(str::to_owned);
        let next = self.others.remove(&user).unwrap_or_default();
        let before = Side {
            profiles: std::mem::replace(&mut self.profiles, next.profiles),
            declarations: std::mem::replace(&mut self.declarations, next.declarations),
            push_token: std::mem::replace(&mut self.push_token, next.push_token),
            push_magic: std::mem::replace(&mut self.push_magic, next.push_magic),
            unsent: std::mem::replace(&mut self.unsent, next.unsent),
        };
        self.others.insert(std::mem::replace(&mut self.user, user), before);
    }

    /// A network user signs in: their channel begins, when the server manages users. Speaks for the user from then on.
    ///
    /// # Errors
    /// [`Error::Http`] with 410 when it does not; else [`Error`].
    pub async fn sign_in(&mut self, user: &str) -> Result<(), Error> {
        self.speak_for(Some(user));
        let first = self.check_in(Message::UserAuthenticate(UserAuthenticate::default())).await;
        match first {
            Ok(Some(_)) => {
                let response = UserAuthenticate { digest_response: Some("none".into()) };
                self.check_in(Message::UserAuthenticate(response)).await?;
            }
            Ok(None) => {}
            Err(error) => {
                self.speak_for(None);
                return Err(error);
            }
        }
        if self.machine.shared && self.settings.await_users {
            self.settings.waiting_users.push(user.to_owned());
        }
        if self.push_token.is_empty() {
            self.push_token = vec![0; 32];
            rand_bytes(&mut self.push_token)?;
            self.push_magic = format!("magic of {user}");
        }
        self.update_token().await
    }

    /// The account of the user is deleted: their channel ends. Speaks for itself from then on.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sign_out(&mut self) -> Result<(), Error> {
        let farewell = Message::CheckOut(CheckOut { topic: self.enrollment.mdm.topic.clone() });
        let said = self.check_in(farewell).await.map(drop);
        let user = self.user.clone();
        self.speak_for(None);
        self.others.remove(&user);
        said
    }
}
