//! `ActivationLockBypassCode`: the code that opens Activation Lock in the place of the user's Apple Account. Kept sealed.

use super::super::turn::Turn;
use super::{Request, Subject};
use crate::domain::apple::escrow::Kind;
use crate::secret::Secret;
use crate::wire::apple::command::Answer;

pub(super) struct ActivationLockBypassCode;

/// Longest code that is taken for one, in bytes.
const LONGEST: usize = 128;

impl ActivationLockBypassCode {
    fn code<'a>(&self, answer: &'a Answer) -> Option<&'a str> {
        let code = answer.body.string(self.name())?;
        (!code.is_empty() && code.len() <= LONGEST && code.bytes().all(|b| b.is_ascii_graphic())).then_some(code)
    }
}

impl Request for ActivationLockBypassCode {
    fn name(&self) -> &'static str {
        "ActivationLockBypassCode"
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        match self.code(answer) {
            Some(_) => Ok("the code is kept".into()),
            None => Err("the device gave no code: it does so for 15 days after it was supervised".into()),
        }
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        let kept = self.code(answer).map(|code| turn.keep(Kind::ActivationLock, &Secret::new(code.as_bytes().to_vec()), None));
        if let Some(Err(error)) = kept {
            tracing::error!(device = %turn.device.id, %error, "the code for Activation Lock was not kept");
        }
    }
}
