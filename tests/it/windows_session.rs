//! Windows management sessions over real TLS with simulated devices.

use muster::domain::desired::State;
use muster::store::certificates::{self, Search};
use muster::wire::syncml::{Command, Data, SyncMl};

use crate::support::ddf::Ddf;
use crate::support::server::Options;
use crate::support::windows::House;

fn real_time() -> Options {
    Options { system_clock: true, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_receives_hello_roots_and_a_certificate_and_holds_them() {
    let house = House::with(real_time()).await;
    for baseline in ["windows-hello-for-business", "trusted-root", "scep-device-certificate", "windows-compliance"] {
        house.assign_baseline(baseline).await;
    }
    let mut device = house.enroll(1).await;
    device.heard = Some(Vec::new());
    for _ in 0..3 {
        device.settle().await.unwrap();
    }
    let id = house.device_ids().await.remove(0);
    for loaded in house.items(&id).await {
        let open: Vec<_> = loaded.item.detail.records.iter().filter(|(_, r)| r.state != State::Verified).collect();
        println!("{} {:?} {open:#?}", loaded.name, loaded.item.state);
    }
    let tenant = house.server.app.tenant.to_string();
    let hello = format!("./Device/Vendor/MSFT/PassportForWork/{tenant}/Policies/UsePassportForWork");
    assert_eq!(device.tree.get(&hello), Some("true"));
    let items = house.items(&id).await;
    assert!(items.iter().all(|l| matches!(l.item.state, State::Verified | State::Assigned)), "every profile is verified");
    let held = device.certificates.values().next().expect("a certificate by SCEP");
    let sha256 = hex::encode(openssl::sha::sha256(&held.identity.certificate));
    let known = house.server.app.store.read(move |c| certificates::find_certificate_by_sha256(c, &sha256)).await.unwrap();
    assert_eq!(known.unwrap().grant.device_id, Some(id.clone()));
    let search = Search { device: Some(id), ..Search::default() };
    let all = house.server.app.store.read(move |c| certificates::list_certificates(c, &search, 10)).await.unwrap();
    assert_eq!(all.len(), 2, "the identity and the one of the profile");
    every_command_is_in_the_ddf(&device.heard.take().unwrap());
    let report = device.session().await.unwrap();
    assert_eq!((report.messages, report.commands), (1, 0), "nothing is left to do");
}

/// S11: each command that the server sent exists in the maker's description.
fn every_command_is_in_the_ddf(answers: &[Vec<u8>]) {
    let Some(ddf) = Ddf::load() else { return };
    fn walk(command: &Command, ddf: &Ddf, count: &mut usize) {
        match command {
            Command::Operation(operation) => {
                for item in &operation.items {
                    let uri = &item.target.as_ref().unwrap().uri;
                    let format = item.meta.format.or(operation.meta.format);
                    let data = item.data.as_ref().map(Data::as_str);
                    if let Err(why) = ddf.check(operation.verb.as_str(), uri, format.map(|f| f.as_str()), data) {
                        panic!("{} {uri}: {why}", operation.verb.as_str());
                    }
                    *count += 1;
                }
            }
            Command::Atomic(group) | Command::Sequence(group) => group.commands.iter().for_each(|inner| walk(inner, ddf, count)),
            _ => {}
        }
    }
    let mut count = 0;
    for answer in answers {
        for command in &SyncMl::decode(answer).unwrap().body {
            walk(command, &ddf, &mut count);
        }
    }
    assert!(count > 50, "{count} commands");
}
