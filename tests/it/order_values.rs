//! What orders bring along: secrets that stand on no command line, and files.

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::app::App;
use muster::clock::{Clock, SystemClock};
use muster::config::Config;
use muster::domain::command::Operation;
use muster::domain::device::Platform;
use muster::service::device::{self, Order};
use muster::sim::apple::machine::Machine;
use muster::store::{commands, devices, enrollments, sealed};

use crate::apple_enroll::{enrolled, house, live};
use crate::apple_late::idle;
use crate::cli::{muster, refused};
use crate::cli_orders::made;
use crate::desired::{device as device_of, enrollment};
use crate::support::windows::by;

fn put_mac(folder: &Path) {
    let config = Config { data_dir: folder.join("data"), ..Config::default() };
    tokio::runtime::Runtime::new().unwrap().block_on(async move {
        let app = App::open(config, Arc::new(SystemClock)).await.unwrap();
        let put = app.store.write(move |tx| {
            let (mac, now) = (device_of("MAC-1", Platform::MacOs, None), SystemClock.now());
            devices::insert_device(tx, &mac, now)?;
            enrollments::insert_enrollment(tx, &enrollment(&mac, now))
        });
        put.await.unwrap();
    });
}

/// Runs the program with that on its standard input.
pub fn told(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child = muster(folder).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_pin_is_read_from_the_standard_input_and_a_file_that_is_too_long_is_refused() {
    let folder = made();
    let path = folder.path();
    put_mac(path);
    let lock = ["device", "command", "MAC-1", "lock", "--with", "pin=-", "--with", "message=-", "--yes"];
    let said = |input: &str| String::from_utf8(told(path, &lock, input).stderr).unwrap();
    assert!(said("").contains("pin: nothing was given on the standard input"), "{}", said(""));
    assert!(said("123456\n").contains("message: nothing was given"), "a line for each, in their order");
    assert!(said("12\nCall us\n").contains("pin"), "what was read is looked at");
    let done = told(path, &lock, "123456\r\nCall us\n");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let wallpaper = ["device", "command", "MAC-1", "set-wallpaper", "--with-file", "image=big"];
    let file = std::fs::File::create(path.join("big")).unwrap();
    file.set_len(3 * 1024 * 1024 + 1).unwrap();
    assert!(refused(path, &wallpaper).contains("big: longer than 3145728 bytes"), "{}", refused(path, &wallpaper));
    file.set_len(3 * 1024 * 1024).unwrap();
    assert!(refused(path, &wallpaper).contains("CMD"), "{}", refused(path, &wallpaper));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_large_in_an_order_is_read_when_it_is_sent_and_not_before() {
    let house = house().await;
    let app = &house.server.app;
    let mut phone = enrolled(&house, Machine { supervised: true, ..Machine::iphone(1) }).await;
    phone.settle().await.unwrap();
    let known = live(&house, &phone.machine.udid).await.unwrap();
    let image = [&b"\x89PNG\r\n\x1a\n"[..], &[7; 100_000]].concat();
    let values = [("image".to_owned(), STANDARD.encode(&image)), ("screen".to_owned(), "lock".to_owned())].into();
    let given = device::command(app, &known.device_id, Order::With("set-wallpaper".into(), values), true, &by()).await.unwrap();

    // What each message of the device reads of it is small, and says that there is more.
    let (sealer, id) = (app.sealer(), known.id.clone());
    let open = app.store.read(move |c| commands::list_open(c, &sealer, &id, 10)).await.unwrap().readable;
    let Operation::Request(request) = &open[0].operation else { panic!() };
    assert_eq!((request.keys.len(), request.names()), (0, vec!["Settings"]));
    let length = async |purpose: &'static str| {
        let column = *sealed::COLUMNS.iter().find(|column| column.purpose == purpose).unwrap();
        let all = app.store.read(move |c| sealed::list_values(c, column, "", 10)).await.unwrap();
        all.iter().map(|value| value.sealed.len()).sum::<usize>()
    };
    assert!(length(sealed::COMMAND_PAYLOAD).await < 1000 && length(sealed::COMMAND_LARGE).await > 100_000);

    let command = idle(&house, &phone).await.unwrap();
    assert_eq!(command.uuid.to_lowercase(), given.id.as_str());
    let settings = command.body.array("Settings").unwrap();
    let wallpaper = settings[0].as_dict().unwrap();
    assert_eq!((wallpaper.string("Item"), wallpaper.data("Image")), (Some("Wallpaper"), Some(&image[..])));
}
