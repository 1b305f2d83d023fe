//! Looks at what is on an Apple device: two lists of which the device puts one off, in either order.

use muster::clock::{DAY, MINUTE};
use muster::domain::desired::State;
use muster::domain::device::Platform;
use muster::domain::profile::Kind;
use muster::ids::ProfileId;
use muster::service::profile::Draft;
use muster::sim::apple::Device;
use muster::sim::apple::machine::Machine;
use serde_json::json;

use crate::apple_apps::{self, BUNDLE, add};
use crate::apple_enroll::{enrolled, house, live, on};
use crate::apple_identities::{issued, pass};
use crate::support::windows::House;

fn draft(days: u32) -> Draft {
    let payloads = json!([{ "type": "scep", "name": "vpn",
        "template": { "subject": "CN={{SerialNumber}}", "days": days, "key_usages": ["digital-signature"] } }]);
    let document = serde_json::from_value(json!({ "payloads": payloads })).unwrap();
    Draft { display_name: "VPN".into(), kind: Kind::Configuration, platform: Platform::MacOs, document }
}

async fn state(house: &House, device: &Device, profile: &ProfileId) -> State {
    let id = live(house, &device.machine.udid).await.unwrap().device_id;
    house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == *profile).unwrap().item.state
}

fn asked(device: &Device, request: &str) -> u32 {
    device.ran.get(request).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_of_which_a_part_is_put_off_ends_and_is_made_anew_in_its_order() {
    for (puts_off, other) in [("ProfileList", "CertificateList"), ("CertificateList", "ProfileList")] {
        let house = house().await;
        let profile = house.assign(draft(100)).await;
        let mut device = enrolled(&house, Machine::mac(1)).await;
        device.faults.puts_off = Some(puts_off);
        for exchanges in 1..4 {
            device.connect().await.unwrap();
            assert_eq!((asked(&device, puts_off), asked(&device, other)), (0, exchanges), "once in each exchange");
            assert_eq!(state(&house, &device, &profile).await, State::Delivered, "nothing is said of half a look");
        }
        device.faults.puts_off = None;
        device.connect().await.unwrap();
        assert_eq!(state(&house, &device, &profile).await, State::Verified);
        assert_eq!((asked(&device, puts_off), asked(&device, "InstallProfile")), (1, 1));
        // The same when what is verified is looked at from time to time.
        device.faults.puts_off = Some(puts_off);
        pass(&house, &mut device, DAY + MINUTE);
        device.connect().await.unwrap();
        device.faults.puts_off = None;
        device.connect().await.unwrap();
        assert_eq!(state(&house, &device, &profile).await, State::Verified);
        assert_eq!((asked(&device, "InstallProfile"), issued(&house, &profile).await.len()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_iphone_that_is_locked_while_its_applications_are_looked_at_ends_the_exchange() {
    let house = on(House::new().await).await;
    add(&house, b"PK\x03\x04", 5000, apple_apps::new("2.1")).await.unwrap();
    let wanted = house.assign(apple_apps::draft("ios", "broker", "package = \"broker\"\n")).await;
    // Newer ones are declared their applications.
    let machine = Machine { os_version: "16.7".into(), ..Machine::iphone(1) };
    let (mut phone, id) = apple_apps::enrolled(&house, machine, None).await;
    phone.settle().await.unwrap();
    pass(&house, &mut phone, 6 * MINUTE);
    phone.settle().await.unwrap();
    assert_eq!(apple_apps::state(&house, &id, &wanted).await, Some(State::Verified), "{BUNDLE}");
    // Locked it lists what is installed, and not what is managed.
    phone.settings.locked = true;
    pass(&house, &mut phone, DAY + MINUTE);
    let before = asked(&phone, "InstalledApplicationList");
    phone.connect().await.unwrap();
    assert_eq!(asked(&phone, "InstalledApplicationList"), before + 1);
    phone.settings.locked = false;
    phone.connect().await.unwrap();
    assert_eq!(apple_apps::state(&house, &id, &wanted).await, Some(State::Verified));
}
