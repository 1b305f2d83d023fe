//! Sessions in which nothing happens, said by heart: for measuring, so that the devices cost little beside the server.

use reqwest::Url;

use super::session::{Session, Start};
use super::{Device, Error};

/// A first message that ended its session, with its answer: both but for the session's number.
#[derive(Debug)]
pub struct Rehearsed {
    url: Url,
    message: Text,
    answer: Text,
}

/// Bytes around a session's number.
#[derive(Debug)]
struct Text {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Text {
    fn split(bytes: &[u8], id: &str) -> Option<Self> {
        let element = format!("<SessionID>{id}</SessionID>");
        let at = bytes.windows(element.len()).position(|window| window == element.as_bytes())? + "<SessionID>".len();
        let (before, rest) = bytes.split_at_checked(at)?;
        Some(Self { before: before.to_vec(), after: rest.get(id.len()..)?.to_vec() })
    }

    fn with(&self, id: &str) -> Vec<u8> {
        [&self.before, id.as_bytes(), &self.after].concat()
    }

    fn is(&self, bytes: &[u8], id: &str) -> bool {
        let rest = bytes.strip_prefix(self.before.as_slice()).and_then(|rest| rest.strip_prefix(id.as_bytes()));
        rest == Some(self.after.as_slice())
    }
}

impl Device {
    /// Holds a session in which the server has nothing to say, and remembers it.
    ///
    /// # Errors
    /// As [`Device::session`]; [`Error::NotIdle`] when the server had something to say.
    pub async fn rehearse(&mut self) -> Result<Rehearsed, Error> {
        let id = self.next_session();
        let target = self.identity.management.address.clone();
        let start = Start { login: self.login, ..Start::default() };
        let mut session = Session::new(&id, &self.identity.device_id, &target, start, None);
        let message = session.first(&self.tree);
        let answer = self.call(&message).await?;
        let more = session.answer(&answer, &mut self.tree)?;
        if more.is_some() || session.commands > 0 {
            return Err(Error::NotIdle);
        }
        let url = self.management_urls()?.into_iter().next().ok_or(Error::NotIdle)?;
        let (Some(message), Some(answer)) = (Text::split(&message, &id), Text::split(&answer, &id)) else { return Err(Error::NotIdle) };
        Ok(Rehearsed { url, message, answer })
    }

    /// Holds such a session again.
    ///
    /// # Errors
    /// [`Error::NotIdle`] when the answer differs in more than the session's number; else as [`Device::session`].
    pub async fn repeat(&mut self, rehearsed: &Rehearsed) -> Result<(), Error> {
        let id = self.next_session();
        let answer = self.send(&rehearsed.url, &rehearsed.message.with(&id)).await?;
        if rehearsed.answer.is(&answer, &id) { Ok(()) } else { Err(Error::NotIdle) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_may_differ() {
        let text = Text::split(b"<a><SessionID>1F</SessionID>x</a>", "1F").unwrap();
        assert_eq!(text.with("20"), b"<a><SessionID>20</SessionID>x</a>");
        assert!(text.is(b"<a><SessionID>21</SessionID>x</a>", "21"));
        assert!(!text.is(b"<a><SessionID>21</SessionID>y</a>", "21") && !text.is(b"<a><SessionID>21</SessionID>x</a>", "22"));
        assert!(Text::split(b"<a/>", "1").is_none());
    }
}
