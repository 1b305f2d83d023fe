//! Answers that need no session: refusals and challenges. They say nothing but the status of the header.

use crate::domain::Refusal;
use crate::wire::syncml::{Address, Command, Header, Meta, Status, SyncMl, auth};

use super::digest::Judgement;

/// The answer to a message that is refused; it goes out with HTTP 200.
#[must_use]
pub fn refuse(message: &SyncMl, refusal: Refusal) -> SyncMl {
    let code = match refusal {
        Refusal::ManagementMessageOutOfOrder | Refusal::ManagementSessionUnknown => 400,
        Refusal::ManagementProtocolUnsupported => 513,
        _ => 403,
    };
    header_only(message, code, None)
}

/// The answer to missing or wrong credentials, and the nonce for the next ones; `None` when they were right.
#[must_use]
pub fn challenge(message: &SyncMl, judgement: Judgement, nonce: &[u8]) -> Option<SyncMl> {
    let code = match judgement {
        Judgement::Accepted => return None,
        Judgement::Missing => 407,
        Judgement::Wrong => 401,
    };
    Some(header_only(message, code, Some(auth::challenge(nonce))))
}

fn header_only(message: &SyncMl, code: u16, chal: Option<Meta>) -> SyncMl {
    let from = &message.header;
    let status = Status {
        id: Some("1".to_owned()),
        msg_ref: from.msg_id,
        cmd_ref: "0".to_owned(),
        cmd: "SyncHdr".into(),
        target_refs: vec![from.target.uri.clone()],
        source_refs: vec![from.source.uri.clone()],
        chal,
        code,
        ..Status::default()
    };
    SyncMl {
        dtd: message.dtd,
        header: Header {
            ver_dtd: from.ver_dtd.clone(),
            ver_proto: from.ver_proto.clone(),
            session_id: from.session_id.clone(),
            msg_id: from.msg_id,
            target: Address::new(from.source.uri.clone()),
            source: Address::new(from.target.uri.clone()),
            cred: None,
            meta: Meta::default(),
        },
        body: vec![Command::Status(status)],
        last: true,
        microsoft: false,
    }
}
