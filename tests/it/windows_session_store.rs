//! What management sessions keep, and what becomes of them when something about that goes wrong; over real TLS.

use diesel::RunQueryDsl as _;
use muster::clock::{HOUR, MINUTE};
use muster::domain::command::{State as OrderState, Verb as OrderVerb};
use muster::domain::desired::State;
use muster::service::device;
use muster::service::profile::Draft;
use muster::service::reseal;
use muster::sim::http::Client;
use muster::sim::windows::{Device, enroll::Machine};
use muster::store::dm_sessions::{self, Stored};
use muster::store::sealed::{COMMAND_PAYLOAD, COMMAND_RESULT, SESSION_RESPONSE, SESSION_STATE};
use muster::store::{Conn, facts};
use muster::wire::syncml::{Address, Alert, Command, Data, Format, Header, Item, Meta, Results, Status, SyncMl, auth};

use crate::support::server::Options;
use crate::support::windows::{House, key};
use crate::support::wire::{Wire, enrollment, header_status, holds, only_device, order, rows};

async fn stored(house: &House) -> Option<Stored> {
    let id = enrollment(house, &only_device(house).await).await;
    house.server.app.store.read(move |c| dm_sessions::find_session(c, &id)).await.unwrap()
}

async fn sql(house: &House, text: &'static str) {
    let run = house.server.app.store.write(move |tx| match tx.conn() {
        Conn::Postgres(c) => Ok(diesel::sql_query(text).execute(c)?),
        Conn::Sqlite(c) => Ok(diesel::sql_query(text).execute(c)?),
    });
    assert!(run.await.unwrap() > 0, "{text}");
}

#[derive(diesel::QueryableByName)]
struct Blob {
    #[diesel(sql_type = diesel::sql_types::Binary)]
    value: Vec<u8>,
}

async fn blobs(house: &House, text: &'static str) -> Vec<Vec<u8>> {
    let rows: Vec<Blob> = house
        .server
        .app
        .store
        .read(move |c| match c {
            Conn::Postgres(c) => Ok(diesel::sql_query(text).load(c)?),
            Conn::Sqlite(c) => Ok(diesel::sql_query(text).load(c)?),
        })
        .await
        .unwrap();
    rows.into_iter().map(|row| row.value).collect()
}

const WRITTEN: &str = "./Device/Vendor/MSFT/DMClient/Provider/X/Secret";
const READ: &str = "./Vendor/MSFT/DeviceStatus/OS/Mode";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_to_a_device_is_sealed_and_an_idle_session_stores_nothing() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let name = "what-the-device-says";
    device.tree.set(READ, name);
    order(&house, OrderVerb::Replace, WRITTEN, Some("open-sesame")).await;
    order(&house, OrderVerb::Get, READ, None).await;
    device.faults.drop_after = Some(1);
    device.session().await.unwrap_err();
    let (sealer, row) = (house.server.app.sealer(), stored(&house).await.unwrap());
    let state = row.sealed_state.unwrap();
    for (sealed, purpose) in [(&row.sealed_response, SESSION_RESPONSE), (&state, SESSION_STATE)] {
        assert!(!holds(sealed, "open-sesame") && !holds(sealed, "SyncML"));
        assert!(holds(sealer.open(purpose, sealed).unwrap().expose(), "open-sesame"));
    }
    let payloads = blobs(&house, "SELECT sealed_payload AS value FROM commands ORDER BY id").await;
    assert!(payloads.iter().all(|sealed| !holds(sealed, "open-sesame") && !holds(sealed, "DeviceStatus")));
    assert!(holds(sealer.open(COMMAND_PAYLOAD, &payloads[0]).unwrap().expose(), "open-sesame"));

    device.faults.drop_after = None;
    // The session that finds out that the orders are lost sends them again.
    device.session().await.unwrap();
    let results = blobs(&house, "SELECT sealed_result AS value FROM commands WHERE sealed_result IS NOT NULL ORDER BY id").await;
    assert!(!holds(&results[1], name) && holds(sealer.open(COMMAND_RESULT, &results[1]).unwrap().expose(), name));
    // The audit log has the status, and not what was read.
    let ended = rows(&house, "command.ended").await;
    assert!(ended.len() == 2 && ended.iter().all(|row| row.contains("\"status\"") && !row.contains(name)), "{ended:?}");
    assert!(ended.iter().any(|row| row.contains("\"status\":200")), "{ended:?}");

    let before = stored(&house).await.unwrap();
    assert_eq!(before.sealed_state, None, "what is over keeps no state");
    house.server.clock.advance(MINUTE);
    assert_eq!(device.session().await.unwrap().messages, 1);
    assert_eq!(stored(&house).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_message_is_a_repetition_for_an_hour_and_then_a_new_session() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    order(&house, OrderVerb::Exec, "./Device/Vendor/MSFT/Reboot/RebootNow", None).await;
    let mut wire = Wire::new(&house, &device);
    let body = wire.first().encode();
    let (_, answer) = wire.post(&body).await;
    assert!(holds(&answer, "RebootNow"));
    house.server.clock.advance(59 * MINUTE);
    assert_eq!(wire.post(&body).await.1, answer);
    house.server.clock.advance(2 * MINUTE);
    // Nobody knows whether it ran: a new session does not send it again.
    assert!(!holds(&wire.post(&body).await.1, "RebootNow"));
    let orders = device::orders(&house.server.app, &only_device(&house).await, 10).await.unwrap();
    assert_eq!(orders[0].state, OrderState::Uncertain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_cannot_be_read_is_dropped_and_the_next_one_works() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    for (broken, messages) in [("sealed_state", 2), ("sealed_response", 1)] {
        order(&house, OrderVerb::Replace, WRITTEN, Some("v")).await;
        let mut wire = Wire::new(&house, &device);
        let first = wire.first();
        wire.send(&first).await;
        sql(
            &house,
            if broken == "sealed_state" {
                "UPDATE dm_sessions SET sealed_state = sealed_response"
            } else {
                "UPDATE dm_sessions SET sealed_response = sealed_state"
            },
        )
        .await;
        if messages == 2 {
            let second = wire.message(2, vec![Command::Alert(Alert { id: Some("1".into()), code: 1222, ..Alert::default() })]);
            assert_eq!(header_status(&wire.send(&second).await).0, 400, "{broken}");
            assert!(stored(&house).await.is_none());
        } else {
            // The answer of the last time is lost: the message begins a session.
            assert_eq!(header_status(&wire.send(&first).await).0, 200, "{broken}");
        }
        device.settle().await.unwrap();
    }
    assert_eq!(rows(&house, "management.session-unreadable").await.len(), 2);
    let orders = device::orders(&house.server.app, &only_device(&house).await, 10).await.unwrap();
    assert!(orders.len() == 2 && orders.iter().all(|order| !matches!(order.state, OrderState::Queued | OrderState::Sent)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_cannot_be_read_is_given_up_and_the_others_go_on() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    order(&house, OrderVerb::Get, READ, None).await;
    sql(&house, "UPDATE commands SET sealed_payload = sealed_payload || sealed_payload").await;
    order(&house, OrderVerb::Get, READ, None).await;
    device.settle().await.unwrap();
    let orders = device::orders(&house.server.app, &only_device(&house).await, 10).await.unwrap();
    assert_eq!(orders.iter().map(|order| order.state).collect::<Vec<_>>(), [OrderState::Done]);
    assert_eq!(rows(&house, "command.unreadable").await.len(), 1);
    // Nothing is due any more: the next session is idle.
    let before = stored(&house).await.unwrap();
    device.session().await.unwrap();
    assert_eq!(stored(&house).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_lost_the_answer_to_its_leave_gets_the_same_bytes_for_an_hour() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let mut wire = Wire::new(&house, &device);
    let item = Item {
        meta: Meta { kind: Some("com.microsoft:mdm.unenrollment.userrequest".into()), format: Some(Format::Int), ..Meta::default() },
        data: Some(Data::Text("1".into())),
        ..Item::default()
    };
    let alert = Alert { id: Some("1".into()), code: 1226, items: vec![item], ..Alert::default() };
    let body = wire.message(1, vec![Command::Alert(alert)]).encode();
    let (status, answer) = wire.post(&body).await;
    assert_eq!((status, header_status(&SyncMl::decode(&answer).unwrap()).0), (200, 200));
    assert_eq!(wire.post(&body).await, (200, answer.clone()));
    // Nothing else is answered any more.
    let other = wire.message(2, Vec::new()).encode();
    assert_eq!(wire.post(&other).await.0, 403);
    house.server.clock.advance(59 * MINUTE);
    assert_eq!(wire.post(&body).await, (200, answer));
    house.server.clock.advance(2 * MINUTE);
    assert_eq!(wire.post(&body).await.0, 403);
    assert_eq!(rows(&house, "enrollment.end-by-user").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_object_of_the_device_is_kept_in_pieces_until_it_is_whole() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    order(&house, OrderVerb::Get, READ, None).await;
    let mut wire = Wire::new(&house, &device);
    let mut answer = wire.send(&wire.first()).await;
    let get = answer.body.iter().find(|command| command.name() == "Get").unwrap().id().unwrap().to_owned();
    let asked_in = answer.header.msg_id;
    let mut sizes = Vec::new();
    for number in 0..6_u32 {
        let (more, text) = (number < 5, char::from(b'a' + u8::try_from(number).unwrap()).to_string().repeat(20_000));
        let meta = Meta { format: Some(Format::Chr), size: (number == 0).then_some(120_000), ..Meta::default() };
        let item = Item { source: Some(Address::new(READ)), meta, data: Some(Data::Text(text)), more, ..Item::default() };
        let status = |cmd_ref: &str, cmd: &'static str| {
            let id = Some(if cmd == "Get" { "2" } else { "1" }.to_owned());
            let msg_ref = if cmd == "Get" { asked_in } else { answer.header.msg_id };
            Command::Status(Status { id, msg_ref, cmd_ref: cmd_ref.into(), cmd: cmd.into(), code: 200, ..Status::default() })
        };
        let mut body = vec![status("0", "SyncHdr")];
        if number == 0 {
            body.push(status(&get, "Get"));
        }
        let results = Results { id: Some("8".into()), msg_ref: asked_in, cmd_ref: get.clone(), items: vec![item], ..Results::default() };
        body.push(Command::Results(results));
        answer = wire.send(&wire.message(number + 2, body)).await;
        if more {
            assert!(answer.body.iter().any(|command| matches!(command, Command::Alert(alert) if alert.code == 1222)));
            sizes.push(stored(&house).await.unwrap().sealed_state.unwrap().len());
            let pieces = blobs(&house, "SELECT sealed_text AS value FROM dm_pieces ORDER BY id").await;
            assert_eq!(pieces.len(), usize::try_from(number).unwrap() + 1);
            assert!(pieces.iter().all(|piece| piece.len() < 21_000 && !holds(piece, "aaaa")));
        }
    }
    // What is stored with each message does not grow with what has come.
    assert!(sizes.iter().all(|size| *size < sizes[0] + 100), "{sizes:?}");
    assert!(blobs(&house, "SELECT sealed_text AS value FROM dm_pieces").await.is_empty());
    let orders = device::orders(&house.server.app, &only_device(&house).await, 10).await.unwrap();
    assert_eq!(orders[0].state, OrderState::Done);
    assert!(orders[0].result.as_ref().unwrap().starts_with("200 aaaa"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_an_enrolment_of_the_machine_nothing_is_sent_for_whoever_is_signed_in() {
    let house = House::new().await;
    let text = "display_name = \"user\"\nkind = \"configuration\"\nplatform = \"windows\"\n[document.settings]\n\
                \"passport-for-work.pin-complexity.minimum-pin-length@user\" = 7\n";
    house.assign(Draft::parse(text).unwrap()).await;
    let machine = Machine { enrollment_type: "Device", ..Machine::windows_11(1) };
    let sign_in = house.sign_in().await;
    let mut device = Device::enroll(&house.roots(), &house.discovery(), machine, &sign_in, &key()).await.unwrap();
    device.heard = Some(Vec::new());
    for _ in 0..3 {
        device.settle().await.unwrap();
        house.server.clock.advance(3 * HOUR);
    }
    assert!(device.heard.unwrap().iter().all(|answer| !holds(answer, "./User/")));
    let items = house.items(&only_device(&house).await).await;
    assert!(items.iter().all(|l| !matches!(l.item.state, State::Verified | State::Failed)), "{:?}", items[0].item.state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_slowed_down_and_recorded_a_few_times_while_devices_beside_them_are_served() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let url = device.identity.management_url().unwrap();
    let headers = [("Content-Type", "application/vnd.syncml.dm+xml")];
    let mut stranger = Client::new(&house.roots(), None).unwrap();
    let mut codes = Vec::new();
    for _ in 0..70 {
        let answer = stranger.send("POST", &url, &headers, b"<x/>").await.unwrap();
        if answer.status == 429 {
            assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
        }
        codes.push(answer.status);
    }
    assert!(codes[..60].iter().all(|code| *code == 403) && codes[60..].iter().all(|code| *code == 429), "{codes:?}");
    let refused = rows(&house, "management.refused").await;
    assert!(refused.len() == 5 && refused.iter().all(|row| row.contains("CRT0001")), "{refused:?}");
    // The same address, with a certificate that is good.
    device.disconnect();
    device.session().await.unwrap();
    order(&house, OrderVerb::Get, READ, None).await;
    device.settle().await.unwrap();
    house.server.clock.advance(2 * MINUTE);
    assert_eq!(stranger.send("POST", &url, &headers, b"<x/>").await.unwrap().status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_told_so_in_its_own_language() {
    let house = House::new().await;
    let device = house.enroll(1).await;
    let mut wire = Wire::new(&house, &device);
    let mut message = wire.first();
    message.header.ver_proto = "DS/1.2".into();
    assert_eq!(header_status(&wire.send(&message).await).0, 513);
}

async fn careful() -> House {
    House::with(Options { tweak: Box::new(|config| config.windows.md5_authentication = true), ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_with_md5_credentials_holds_its_sessions() {
    let house = careful().await;
    house.assign_baseline("windows-hello-for-business").await;
    let mut device = house.enroll(1).await;
    device.faults.resend = true;
    let report = device.settle().await.unwrap();
    assert!(report.commands > 10 && report.unequal == 0, "{report:?}");
    let items = house.items(&only_device(&house).await).await;
    assert!(items.iter().all(|l| l.item.state == State::Verified), "{:?}", items[0].item.state);
    // A session that died with work, and the challenge of the next one in between.
    order(&house, OrderVerb::Exec, "./Device/Vendor/MSFT/Reboot/RebootNow", None).await;
    device.faults = muster::sim::windows::Faults { drop_after: Some(2), ..Default::default() };
    device.session().await.unwrap_err();
    device.faults.drop_after = None;
    device.settle().await.unwrap();
    let orders = device::orders(&house.server.app, &only_device(&house).await, 10).await.unwrap();
    assert_eq!(orders[0].state, OrderState::Uncertain);
    // It leaves as any other does.
    device.ask_to_leave();
    device.faults.resend = true;
    assert_eq!(device.session().await.unwrap().unequal, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn md5_credentials_are_asked_for_and_each_nonce_is_good_once_and_for_five_minutes() {
    let house = careful().await;
    let device = house.enroll(1).await;
    let account = &device.identity.management.client;
    let ha1 = auth::md5_ha1(account.name.as_deref().unwrap(), &account.secret).unwrap();
    let wrong = auth::md5_ha1(account.name.as_deref().unwrap(), "guess").unwrap();
    let mut wire = Wire::new(&house, &device);
    let with = |mut message: SyncMl, ha1: &str, nonce: &[u8]| {
        message.header.cred = Some(auth::md5_cred(ha1, nonce).unwrap());
        message
    };
    let again = |wire: &Wire, msg_id: u32| SyncMl { header: Header { msg_id, ..wire.first().header }, ..wire.first() };

    // S1 and S2: asked for, given, good; the answer says what to use next.
    let answer = wire.send(&wire.first()).await;
    let (code, nonce) = header_status(&answer);
    assert_eq!((code, answer.body.len()), (407, 1));
    let good = with(again(&wire, 2), &ha1, &nonce.clone().unwrap());
    let (_, bytes) = wire.post(&good.encode()).await;
    let (code, next) = header_status(&SyncMl::decode(&bytes).unwrap());
    assert!(code == 200 && next.is_some() && next != nonce);
    // The same message again is a repetition, and no second use.
    assert_eq!(wire.post(&good.encode()).await.1, bytes);

    // A used nonce and a wrong secret: 401, another nonce, and nothing else.
    wire.session = "78";
    let answer = wire.send(&with(wire.first(), &ha1, &nonce.unwrap())).await;
    let (code, nonce) = header_status(&answer);
    assert_eq!((code, answer.body.len()), (401, 1));
    let (code, nonce) = header_status(&wire.send(&with(again(&wire, 2), &wrong, &nonce.unwrap())).await);
    assert_eq!(code, 401);
    // Right, but too late; then in time.
    house.server.clock.advance(5 * MINUTE + 1);
    let (code, nonce) = header_status(&wire.send(&with(again(&wire, 3), &ha1, &nonce.unwrap())).await);
    assert_eq!(code, 401);
    house.server.clock.advance(5 * MINUTE);
    let (code, _) = header_status(&wire.send(&with(again(&wire, 4), &ha1, &nonce.unwrap())).await);
    assert_eq!(code, 200);
    let refused = rows(&house, "management.refused").await;
    assert!(refused.len() == 3 && refused.iter().all(|row| row.contains("MGT0005")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_too_many_writes_wait_a_device_is_told_to_come_back() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    order(&house, OrderVerb::Get, READ, None).await;
    let store = house.server.app.store.clone();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let (begun, begins) = std::sync::mpsc::channel::<()>();
    let busy = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .write(move |_| {
                    let _ = begun.send(());
                    let _ = wait.lock().unwrap().recv();
                    Ok(())
                })
                .await
        }
    });
    begins.recv().unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..5000 {
        let store = store.clone();
        waiting.spawn(async move { store.write(|_| Ok(())).await });
    }
    // What finds no place is refused at once, and everything else waits.
    let mut refused = 0;
    while refused < 900 {
        refused += usize::from(waiting.join_next().await.unwrap().unwrap().is_err());
    }
    let mut wire = Wire::new(&house, &device);
    let body = wire.first().encode();
    let headers = [("Content-Type", "application/vnd.syncml.dm+xml")];
    let answer = wire.client.send("POST", &wire.url, &headers, &body).await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    go.send(()).unwrap();
    busy.await.unwrap().unwrap();
    while let Some(done) = waiting.join_next().await {
        refused += usize::from(done.unwrap().is_err());
    }
    assert!((900..=1000).contains(&refused), "{refused}");
    assert_eq!(wire.post(&body).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_under_a_new_master_key() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    order(&house, OrderVerb::Get, READ, None).await;
    let mut wire = Wire::new(&house, &device);
    let answer = wire.send(&wire.first()).await;
    let get = answer.body.iter().find(|command| command.name() == "Get").unwrap().id().unwrap().to_owned();
    let app = &house.server.app;
    app.sealer().write(&app.config.master_key_path()).unwrap();
    reseal::rotate(app, "cli:test").await.unwrap();
    house.server.clock.advance(2 * MINUTE);
    reseal::retire(app, "cli:test").await.unwrap();
    let status = Status { id: Some("1".into()), msg_ref: 1, cmd_ref: get, cmd: "Get".into(), code: 404, ..Status::default() };
    let answer = wire.send(&wire.message(2, vec![Command::Status(status)])).await;
    assert_eq!(header_status(&answer).0, 200);
    let orders = device::orders(app, &only_device(&house).await, 10).await.unwrap();
    assert_eq!(orders[0].state, OrderState::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_from_a_device_is_answered_and_nothing_of_it_happens() {
    let house = House::new().await;
    let mut device = house.enroll(1).await;
    device.settle().await.unwrap();
    let mut wire = Wire::new(&house, &device);
    let good = String::from_utf8(wire.first().encode()).unwrap();
    let inside = |body: &str| {
        let (head, tail) = (good.split_once("<Alert>").unwrap().0, good.split_once("</Alert>").unwrap().1);
        format!("{head}{body}{tail}").into_bytes()
    };
    let replace = |uri: &str, id: usize| {
        format!("<Replace><CmdID>{id}</CmdID><Item><Source><LocURI>{uri}</LocURI></Source><Data>v</Data></Item></Replace>")
    };
    let many: String = (1..=10_000).map(|id| replace("./DevInfo/Man", id)).collect();
    let deep = format!("{}{}", "<Atomic><CmdID>1</CmdID>".repeat(500), "</Atomic>".repeat(500));
    let mut broken = good.clone().into_bytes();
    let at = broken.len() / 2;
    broken[at] = 0xff;
    let before = stored(&house).await.unwrap().version;
    for body in [
        good.replace("<MsgID>1</MsgID>", "").into_bytes(),
        good.replace("<MsgID>1</MsgID>", "<MsgID>-1</MsgID>").into_bytes(),
        good.as_bytes()[..good.len() / 2].to_vec(),
        broken,
        inside(&deep),
    ] {
        assert_eq!(wire.post(&body).await.0, 400, "{}", String::from_utf8_lossy(&body[..body.len().min(600)]));
    }
    assert_eq!(stored(&house).await.unwrap().version, before);
    let known = || async {
        let id = only_device(&house).await;
        house.server.app.store.read(move |c| facts::list_for_device(c, &id)).await.unwrap()
    };
    let facts_before = known().await;
    assert_eq!(wire.post(&inside(&many)).await.0, 400, "more commands than a message may hold");
    let answer = wire.send(&SyncMl::decode(&inside(&(replace("../x", 1) + &replace("/x", 2)))).unwrap()).await;
    let codes: Vec<u16> =
        answer.body.iter().filter_map(|command| if let Command::Status(status) = command { Some(status.code) } else { None }).collect();
    assert_eq!(codes, [200, 400, 400]);
    assert_eq!(stored(&house).await.unwrap().version, before);
    assert_eq!(known().await, facts_before);
    device.settle().await.unwrap();
}
