//! Two nodes with a worker each, on either database.

use std::sync::Arc;

use muster::clock::SystemClock;
use muster::service::outbox;
use muster::sim::listener::Answer;

use super::{PATIENCE, Rig, flip, node};
use crate::both_backends;
use crate::support::server::Options;

const DEVICES: usize = 8;
const FLIPS: usize = 10;

both_backends! {
    async fn two_workers_neither_lose_nor_reorder_a_devices_signals(store: Store) {
        let rig = Rig::with(DEVICES, Options { store: Some(store), system_clock: true, ..Options::default() }).await;
        let nodes = [Arc::clone(&rig.server.app), node(&rig.server, Arc::new(SystemClock))];
        rig.receiver.script([Answer::of(503)]);
        let workers = nodes.clone().map(|app| outbox::start(app).unwrap());
        let mut writers = tokio::task::JoinSet::new();
        for (n, device) in rig.devices.iter().enumerate() {
            let (app, device) = (Arc::clone(&nodes[n % 2]), device.clone());
            writers.spawn(async move {
                for k in 0..FLIPS {
                    flip(&app, &device, k % 2 == 1, &k.to_string()).await;
                }
            });
        }
        writers.join_all().await;
        let last = (FLIPS - 1).to_string();
        for device in &rig.devices {
            let is_last = |e: &muster::sim::receiver::Accepted| e.device.as_deref() == Some(device.as_str()) && e.reason() == Some(&last);
            assert!(rig.receiver.wait_for(is_last, PATIENCE).await.is_some(), "the last signal of {device}");
        }
        for worker in workers {
            worker.stop().await;
        }
        assert_eq!(rig.receiver.complaints(), [""; 0]);
        assert_eq!((rig.receiver.events().len(), rig.receiver.duplicates()), (DEVICES * FLIPS, 0));
        assert_eq!(rig.server.app.store.read(muster::store::outbox::count_lanes).await.unwrap(), 0);
    }
}
