//! Property lists are read within their limits, in both forms, and what is read is written and read again; so are Apple's messages.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::apple::checkin::CheckIn;
use muster::wire::apple::command::{Answer, Command};
use muster::wire::apple::ddm::{Endpoint, StatusReport};
use muster::wire::apple::profile::Profile;
use muster::wire::plist::{Limits, decode, encode};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Endpoint::parse(text);
    }
    let _ = StatusReport::decode(data);
    let Ok(value) = decode(data, Limits::MESSAGE) else { return };
    let wide = Limits { bytes: usize::MAX, ..Limits::RESULT };
    let again = decode(&encode(&value), wide).expect("what was written is read");
    assert_eq!(encode(&again), encode(&value));
    if let Ok(message) = CheckIn::decode(data) {
        let written = message.encode().expect("a message is written");
        assert_eq!(CheckIn::decode(&written).expect("and read again"), message);
    }
    if let Ok(answer) = Answer::decode(data) {
        answer.encode().expect("an answer is written");
    }
    if let Ok(command) = Command::decode(data) {
        let _ = Command::decode(&command.encode());
    }
    if let Ok(profile) = Profile::decode(data) {
        let _ = Profile::decode(&profile.encode());
    }
});
