//! A message is read, written and read again, and the session answers it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::domain::dm_session::{Context, Manners, Proven, Session};
use muster::wire::syncml::{MAX_BYTES, SyncMl};

fuzz_target!(|data: &[u8]| {
    let Ok(message) = SyncMl::decode(data) else { return };
    let bytes = message.encode();
    if bytes.len() <= MAX_BYTES {
        assert_eq!(SyncMl::decode(&bytes).as_ref(), Ok(&message));
    }
    let device = message.header.source.uri.clone();
    let context = Context { device_id: &device, proven: Proven::Certificate };
    if let Ok((session, _)) = Session::start(&message).receive(message, &context) {
        let (_, answer, failed) = session.respond(&Manners::default());
        assert!(failed.is_empty());
        assert!(answer.encode().len() <= Manners::default().message_bytes);
    }
});
