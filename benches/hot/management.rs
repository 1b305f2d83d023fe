//! Management sessions and desired state.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use muster::catalogue::catalogue;
use muster::domain::desired::{Candidate, Target, effective};
use muster::domain::device::Platform;
use muster::ids::ProfileId;
use muster::service::profile;
use muster::wire::locuri;
use muster::wire::syncml::SyncMl;

/// What an idle device sends first, behind a comment for the golden tests.
const IDLE: &str = include_str!("../../tests/golden/syncml/windows10-1809-machine.xml");

fn idle() -> &'static str {
    IDLE.split_once("-->").map_or(IDLE, |(_, message)| message.trim_start())
}

/// An answer to 500 commands.
fn long() -> Vec<u8> {
    let (head, body) = idle().split_once("<SyncBody>").unwrap();
    let (_, tail) = body.split_once("</SyncBody>").unwrap();
    let mut out = format!("{head}<SyncBody>");
    for n in 1..=500 {
        out.push_str(&format!(
            "<Status><CmdID>{n}</CmdID><MsgRef>1</MsgRef><CmdRef>{n}</CmdRef><Cmd>Replace</Cmd>\
             <TargetRef>./Device/Vendor/MSFT/Policy/Config/DeviceLock/MinDevicePasswordLength</TargetRef><Data>200</Data></Status>"
        ));
    }
    out.push_str("</SyncBody>");
    out.push_str(tail);
    out.into_bytes()
}

fn message(name: &str) -> Vec<u8> {
    if name == "idle" { idle().into() } else { long() }
}

#[divan::bench(args = ["idle", "500 answers"])]
fn syncml_decode(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = message(name);
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| SyncMl::decode(black_box(&bytes)).unwrap());
}

#[divan::bench(args = ["idle", "500 answers"])]
fn syncml_encode(bencher: Bencher<'_, '_>, name: &str) {
    let message = SyncMl::decode(&message(name)).unwrap();
    bencher.counter(BytesCount::of_slice(&message.encode())).bench_local(|| black_box(&message).encode());
}

#[divan::bench]
fn locuri_compare(bencher: Bencher<'_, '_>) {
    let a = "./Device/Vendor/MSFT/Policy/Config/DeviceLock/MinDevicePasswordLength";
    let b = "./Vendor/MSFT/Policy/Config/devicelock/MinDevicePasswordLength";
    bencher.bench_local(|| locuri::same(black_box(a), black_box(b)));
}

#[divan::bench]
fn catalogue_lookup(bencher: Bencher<'_, '_>) {
    let ids: Vec<&str> = catalogue().settings().map(|setting| setting.id.as_str()).collect();
    bencher
        .counter(ItemsCount::new(ids.len()))
        .bench_local(|| ids.iter().filter(|id| catalogue().setting(black_box(id)).is_some()).count());
}

#[divan::bench]
fn desired_state_of_all_baselines(bencher: Bencher<'_, '_>) {
    let profiles: Vec<_> = profile::ready().unwrap().into_iter().map(|(_, draft)| (ProfileId::new(), draft)).collect();
    let candidates: Vec<Candidate<'_>> =
        profiles.iter().map(|(id, draft)| Candidate { profile: id, kind: draft.kind, document: &draft.document }).collect();
    bencher.bench_local(|| effective(black_box(&candidates), Target::Of(Platform::Windows), catalogue()));
}
