//! Messages that real devices sent: each is read, says what its file's name says, survives being written again, and moves a server.

use std::path::{Path, PathBuf};

use muster::domain::command::State as OrderState;
use muster::domain::enrollment::{Enrollment, State};
use muster::service::apple::enroll;
use muster::service::device::{self, Order};
use muster::sim::apple::{Device, Machine};
use muster::store::apple::channels::{self, DEVICE};
use muster::store::apple::push;
use muster::store::sealed::APPLE_PUSH;
use muster::store::{commands, enrollments};
use muster::wire::apple::checkin::{CheckIn, Message};
use muster::wire::apple::command::{Answer, Command, Status};
use muster::wire::apple::ddm::{Kind, StatusReport, Valid};
use muster::wire::apple::machine_info::DeviceAttributes;
use muster::wire::cms;
use muster::wire::plist::{self, Limits};

use crate::apple_enroll::{enrolled, live, on};
use crate::support::tools;
use crate::support::windows::{House, by};

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

/// Sends a body as it is, signed by the device.
async fn send(house: &House, device: &Device, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let request = house.server.client().put(format!("{}{path}", house.server.web)).header("Mdm-Signature", device.sign(body).unwrap());
    let answer = request.body(body.to_vec()).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_real_mac_said_enrols_it_with_its_token_and_what_devices_answered_ends_their_commands() {
    let Some(folder) = tools::shared("apple-samples") else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let (introduction, token) = (read("nanomdm/Authenticate.2.plist"), read("nanomdm/TokenUpdate.2.plist"));
    let Message::Authenticate(said) = CheckIn::decode(&introduction).unwrap().message else { panic!() };
    let house = on(House::tweaked(|config| config.apple.sign_messages = true).await).await;
    let app = &house.server.app;
    let topic = said.topic.clone();
    let set = move |tx: &mut muster::store::Tx<'_>| {
        let ours = push::find_certificate(tx.conn())?.unwrap();
        push::upsert_certificate(tx, &muster::domain::apple::push::Certificate { topic: topic.clone(), ..ours })
    };
    app.store.write(set).await.unwrap();
    let machine = Machine { udid: "66ADE930-5FDF-5EC4-8429-15640684C489".into(), serial: "C02MT66KFLHH".into(), ..Machine::mac(1) };
    let mac = enrolled(&house, machine).await;
    let enrollment = live(&house, &mac.machine.udid).await.unwrap();
    // As it was before it introduced itself.
    let half = Enrollment { state: State::Provisioned, ..enrollment.clone() };
    app.store.write(move |tx| enrollments::claim_update(tx, &half)).await.unwrap();
    assert_eq!(send(&house, &mac, enroll::CHECK_IN_PATH, &introduction).await, (200, Vec::new()));
    assert_eq!(live(&house, &mac.machine.udid).await.unwrap().state, State::Provisioned, "not yet");
    assert_eq!(send(&house, &mac, enroll::CHECK_IN_PATH, &token).await, (200, Vec::new()));
    assert_eq!(live(&house, &mac.machine.udid).await.unwrap().state, State::Active);
    let id = enrollment.id.clone();
    let channel = app.store.read(move |c| channels::find_channel(c, &id, DEVICE)).await.unwrap().unwrap();
    let kept = app.sealer().open(APPLE_PUSH, &channel.sealed_push.unwrap()).unwrap();
    assert!(String::from_utf8_lossy(kept.expose()).contains("888CEB39-BFFA-40F6-89FA-B60752EB63C2"), "its own magic");

    // Answers of devices that cannot, or do not understand: the order is over, and the next command comes with the answer.
    let mut mac = mac;
    mac.settle().await.unwrap();
    let answers = [
        ("nanocmd/resp-error.plist", "-909"),
        ("commandment/Errors/iOS-11.3.1-AvailableOSUpdatesFailure.xml", "; "),
        ("commandment/Errors/iOS-11.3.1-CommandFormatError.xml", "does not understand"),
    ];
    let mut orders = Vec::new();
    for _ in 0..=answers.len() {
        let order = Order::Known("list-applications".into());
        orders.push(device::command(app, &enrollment.device_id, order, true, &by()).await.unwrap().id);
    }
    let idle = Answer { who: mac.who(), status: Status::Idle, command_uuid: None, errors: Vec::new(), body: plist::Dict::new() };
    let (_, told) = send(&house, &mac, enroll::COMMANDS_PATH, &idle.encode().unwrap()).await;
    let mut command = Command::decode(&told).unwrap();
    for ((file, words), order) in answers.into_iter().zip(&orders) {
        let captured = Answer::decode(&read(file)).unwrap();
        let answer = Answer { who: mac.who(), command_uuid: Some(command.uuid.clone()), ..captured };
        let (status, told) = send(&house, &mac, enroll::COMMANDS_PATH, &answer.encode().unwrap()).await;
        assert_eq!(status, 200, "{file}");
        let next = Command::decode(&told).unwrap();
        assert_ne!(next.uuid, command.uuid, "{file}");
        command = next;
        let (id, sealer) = (order.clone(), app.sealer());
        let order = app.store.read(move |c| commands::load_command(c, &sealer, &id)).await.unwrap();
        assert_eq!(order.state, OrderState::Failed, "{file}");
        assert!(order.result.as_deref().is_some_and(|result| result.contains(words)), "{file}: {:?}", order.result);
    }
}
