//! Exchanges in which nothing happens, said by heart: for measuring, so that the devices cost little beside the server.

use reqwest::Url;

use super::{Device, Error};
use crate::wire::Malformed;
use crate::wire::apple::COMMAND;
use crate::wire::apple::command::Status;
use crate::wire::plist::Dict;

/// The message of an idle device, signed where its profile asks for that.
#[derive(Debug)]
pub struct Rehearsed {
    url: Url,
    message: Vec<u8>,
    signature: Option<String>,
}

impl Device {
    /// Holds an exchange in which the server has nothing to say, and remembers it.
    ///
    /// # Errors
    /// As [`Device::connect`]; [`Error::NotIdle`] when the server had something to say.
    pub async fn rehearse(&mut self) -> Result<Rehearsed, Error> {
        let message = self.message(Status::Idle, None, Dict::new(), None)?;
        let url = Url::parse(&self.enrollment.mdm.server_url).map_err(|_| Malformed::new("not a URL", "profile"))?;
        let signature = if self.enrollment.mdm.sign_message { Some(self.sign(&message)?) } else { None };
        let rehearsed = Rehearsed { url, message, signature };
        self.repeat(&rehearsed).await?;
        Ok(rehearsed)
    }

    /// Holds such an exchange again.
    ///
    /// # Errors
    /// [`Error::NotIdle`] when the server had something to say; else as [`Device::connect`].
    pub async fn repeat(&mut self, rehearsed: &Rehearsed) -> Result<(), Error> {
        let mut headers = vec![("Content-Type", COMMAND)];
        headers.extend(rehearsed.signature.as_deref().map(|signature| ("Mdm-Signature", signature)));
        let answer = self.enrollment.client.send("PUT", &rehearsed.url, &headers, &rehearsed.message).await?;
        match answer.status {
            200 if answer.body.is_empty() => Ok(()),
            200 => Err(Error::NotIdle),
            status => Err(Error::Http(status, answer.said())),
        }
    }
}
