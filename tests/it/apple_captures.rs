//! Messages that real devices sent: each is read, says what its file's name says, and survives being written again.

use std::path::{Path, PathBuf};

use muster::wire::apple::checkin::{CheckIn, Message};
use muster::wire::apple::command::{Answer, Status};
use muster::wire::apple::ddm::{Kind, StatusReport, Valid};
use muster::wire::apple::machine_info::DeviceAttributes;
use muster::wire::cms;
use muster::wire::plist::{self, Limits};

use crate::support::tools;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "plist" || e == "xml") {
            found.push(path);
        }
    }
}

#[test]
fn every_capture_is_read_and_written_again() {
    let Some(folder) = tools::shared("apple-samples") else { return };
    let mut all = Vec::new();
    files(&folder, &mut all);
    assert!(all.len() > 50);
    let (mut checkins, mut answers) = (0, 0);
    for path in all {
        let shown = path.display();
        let bytes = std::fs::read(&path).unwrap();
        let value = plist::decode(&bytes, Limits::MESSAGE).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(plist::decode(&plist::encode(&value), Limits::MESSAGE).unwrap(), value, "{shown}");
        if value.as_dict().unwrap().get("MessageType").is_some() {
            let message = CheckIn::decode(&bytes).unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(CheckIn::decode(&message.encode().unwrap()).unwrap(), message, "{shown}");
            let parent = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(parent == message.message.name() || name.starts_with(message.message.name()), "{shown}");
            checkins += 1;
        } else {
            let answer = Answer::decode(&bytes).unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(Answer::decode(&answer.encode().unwrap()).unwrap(), answer, "{shown}");
            answers += 1;
        }
    }
    assert!(checkins >= 16 && answers >= 30, "{checkins} check-in messages, {answers} results");
}

#[test]
fn captures_say_what_they_are_known_for() {
    let Some(folder) = tools::shared("apple-samples") else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let answer = |name: &str| Answer::decode(&read(name)).unwrap();
    // An undocumented key is passed over.
    assert!(matches!(CheckIn::decode(&read("nanomdm/Authenticate.2.plist")).unwrap().message, Message::Authenticate(_)));
    let Message::TokenUpdate(update) = CheckIn::decode(&read("nanomdm/TokenUpdate.1.plist")).unwrap().message else { panic!() };
    assert!(update.unlock_token.is_some());
    let user = CheckIn::decode(&read("commandment/TokenUpdate/10.12.2-user.xml")).unwrap();
    assert!(user.who.channel().unwrap().user.is_some());
    assert_eq!(answer("commandment/NotNow/iOS-11.3.1.xml").status, Status::NotNow);
    assert_eq!(answer("commandment/Errors/iOS-11.3.1-CommandFormatError.xml").status, Status::CommandFormatError);
    let failed = answer("commandment/Errors/iOS-11.3.1-RemoveProfile-Unmanaged.xml");
    assert_eq!((failed.status, failed.errors[0].error_code), (Status::Error, 12013));
    let twice = answer("nanocmd/resp-error.plist");
    assert!(twice.status == Status::Error && !twice.errors.is_empty());
    let security = answer("zentral/security_info.plist");
    assert!(security.body.dict("SecurityInfo").unwrap().get("FDE_Enabled").is_some());
}

#[test]
fn status_reports_of_real_devices_are_read() {
    let Some(folder) = tools::shared("apple-samples") else { return };
    let read = |name: &str| StatusReport::decode(&std::fs::read(folder.join(name)).unwrap()).unwrap();
    let first = read("kmfddm/status.1st.json");
    let capabilities = first.capabilities().unwrap();
    assert!(capabilities.takes("com.apple.configuration.passcode.settings") && capabilities.reports("device.model.family"));
    assert!(!capabilities.takes("com.apple.configuration.nothing"));
    assert_eq!(first.declarations(Kind::Activation), Some(vec![]));
    let error = read("kmfddm/status.D0.error.json");
    let of = &error.declarations(Kind::Configuration).unwrap()[0];
    assert_eq!((of.active, of.valid, of.reasons[0].code.as_str()), (false, Valid::Unknown, "Info.NotReferencedByActivation"));
    let odd = read("kmfddm/A047820F-FC6B-4104-BED0-466876D82BB8.20220628-103225.001918.status.json");
    let all: Vec<_> = Kind::ALL.into_iter().filter_map(|kind| odd.declarations(kind)).flatten().collect();
    assert!(all.iter().any(|d| d.active && d.valid == Valid::Invalid));
    assert!(!read("zentral/status_report.json").status_items.is_empty());
}

#[test]
fn the_signed_attributes_of_a_real_device_are_read() {
    let Some(folder) = tools::shared("apple-samples") else { return };
    let body = std::fs::read(folder.join("zentral/ota_playload_phase_2")).unwrap();
    let der = cms::ber::to_der(&body).unwrap();
    let signed = cms::SignedData::parse(&der).unwrap();
    let attributes = DeviceAttributes::decode(signed.content.unwrap()).unwrap();
    assert_eq!(attributes.serial.as_deref(), Some("ZDL2M9PTJ3"));
    assert_eq!(attributes.challenge.map(|c| c.len()), Some(64));
}
