//! The side of a Windows device in a management session, message by message.

use muster::domain::command::Verb as OrderVerb;
use muster::ids::{DeviceId, EnrollmentId};
use muster::service::device::{self, Custom, Order};
use muster::sim::http::Client;
use muster::sim::windows::Device;
use muster::store::{audit, enrollments};
use muster::wire::syncml::{Address, Alert, Command, Header, SyncMl, auth};

use super::windows::{House, by};

/// A device's side of the wire, message by message.
pub struct Wire {
    pub client: Client,
    pub url: reqwest::Url,
    source: String,
    pub session: &'static str,
}

impl Wire {
    pub fn new(house: &House, device: &Device) -> Self {
        Self {
            client: device.identity.client(&house.roots()).unwrap(),
            url: device.identity.management_url().unwrap(),
            source: device.identity.device_id.clone(),
            session: "77",
        }
    }

    pub fn message(&self, msg_id: u32, body: Vec<Command>) -> SyncMl {
        let header = Header {
            ver_dtd: "1.2".into(),
            ver_proto: "DM/1.2".into(),
            session_id: self.session.into(),
            msg_id,
            target: Address::new(self.url.to_string()),
            source: Address::new(self.source.clone()),
            ..Header::default()
        };
        SyncMl { header, body, last: true, ..SyncMl::default() }
    }

    pub fn first(&self) -> SyncMl {
        self.message(1, vec![Command::Alert(Alert { id: Some("1".into()), code: 1201, ..Alert::default() })])
    }

    pub async fn post(&mut self, body: &[u8]) -> (u16, Vec<u8>) {
        let headers = [("Content-Type", "application/vnd.syncml.dm+xml")];
        let answer = self.client.send("POST", &self.url, &headers, body).await.unwrap();
        (answer.status, answer.body)
    }

    pub async fn send(&mut self, message: &SyncMl) -> SyncMl {
        let (status, body) = self.post(&message.encode()).await;
        assert_eq!(status, 200);
        SyncMl::decode(&body).unwrap()
    }
}

/// The code of the status of the header, and the nonce beside it.
pub fn header_status(answer: &SyncMl) -> (u16, Option<Vec<u8>>) {
    let Some(Command::Status(status)) = answer.body.first() else { panic!("{answer:?}") };
    assert_eq!((status.cmd_ref.as_str(), status.cmd.as_ref()), ("0", "SyncHdr"));
    (status.code, status.chal.as_ref().and_then(auth::nonce))
}

pub async fn enrollment(house: &House, device: &DeviceId) -> EnrollmentId {
    let device = device.clone();
    house.server.app.store.read(move |c| enrollments::list_enrollments(c, &device, 1)).await.unwrap().remove(0).id
}

pub async fn only_device(house: &House) -> DeviceId {
    house.device_ids().await.remove(0)
}

pub fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

pub async fn order(house: &House, verb: OrderVerb, uri: &str, data: Option<&str>) {
    let format = data.map(|_| "chr".to_owned());
    let custom = Custom { verb, uri: uri.into(), format, data: data.map(str::to_owned) };
    let device = only_device(house).await;
    device::command(&house.server.app, &device, Order::Custom(custom), true, &by()).await.unwrap();
}

pub async fn rows(house: &House, action: &str) -> Vec<String> {
    let rows = house.server.app.store.read(|c| audit::list(c, 0, 1000)).await.unwrap();
    rows.into_iter().filter(|row| row.action == action).map(|row| row.after.unwrap_or_default()).collect()
}

/// Has the device asked for everything again.
pub async fn sync(house: &House) {
    device::sync(&house.server.app, &only_device(house).await, &by()).await.unwrap();
}
