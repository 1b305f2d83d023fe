//! Packages that are downloaded part by part: a download that broke off goes on, with the bytes of the same package or from the beginning.

use muster::domain::apple::app::PART;
use muster::service::apple::packages::{self, New};
use muster::sim::apple::Machine;
use muster::wire::apple::app::Manifest;
use reqwest::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, RANGE};

use crate::apple_apps::{command, draft, enrolled, new};
use crate::apple_enroll::on;
use crate::support::apple::Account;
use crate::support::windows::House;

/// A package of which every byte is known.
fn content(size: usize) -> Vec<u8> {
    let mut content: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
    content[..29].copy_from_slice(&muster::domain::apple::package::XAR);
    content
}

async fn bring(house: &House, content: &[u8], new: New) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    packages::add(&house.server.app, file.path(), new, "cli:test", "local").await.unwrap();
}

/// Where a Mac is told to fetch the package.
async fn address(house: &House) -> String {
    let (mut mac, _) = enrolled(house, Machine::mac(1), None).await;
    Account::open(&mut mac);
    mac.settle().await.unwrap();
    Manifest::from_dict(command(&mac, "InstallEnterpriseApplication").dict("Manifest").unwrap()).unwrap().url
}

async fn get(house: &House, url: &str, headers: &[(reqwest::header::HeaderName, &str)]) -> (u16, HeaderMap, Vec<u8>) {
    let mut request = house.server.client().get(url);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.headers().clone(), answer.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_goes_on_where_it_broke_off() {
    let house = on(House::new().await).await;
    let size = 2 * PART + 1000;
    let package = content(size);
    bring(&house, &package, new("1.0")).await;
    house.assign(draft("macos", "broker", "package = \"broker\"\n")).await;
    let url = address(&house).await;
    let (status, headers, whole) = get(&house, &url, &[]).await;
    assert_eq!((status, headers[ACCEPT_RANGES].to_str().unwrap(), whole == package), (200, "bytes", true));
    let tag = headers[ETAG].to_str().unwrap().to_owned();
    assert!(tag.starts_with('"'), "a strong one: {tag}");
    // Within a part, over the bounds of parts, to the end, from the end, and one byte.
    for (range, first, last) in [
        ("bytes=10-19".to_owned(), 10, 19),
        (format!("bytes={}-{}", PART - 5, PART + 4), PART - 5, PART + 4),
        (format!("bytes={}-{}", PART - 1, 2 * PART), PART - 1, 2 * PART),
        (format!("bytes={PART}-"), PART, size - 1),
        ("bytes=-700".to_owned(), size - 700, size - 1),
        (format!("bytes={}-{}", size - 1, size + 99), size - 1, size - 1),
        (format!("bytes=0-{}", size - 1), 0, size - 1),
    ] {
        let (status, headers, part) = get(&house, &url, &[(RANGE, &range), (IF_RANGE, &tag)]).await;
        assert_eq!(status, 206, "{range}");
        assert_eq!(headers[CONTENT_RANGE].to_str().unwrap(), format!("bytes {first}-{last}/{size}"));
        assert_eq!(headers[CONTENT_LENGTH].to_str().unwrap(), (last - first + 1).to_string());
        assert!(part == package[first..=last], "{range}");
    }
    let (status, headers, body) = get(&house, &url, &[(RANGE, &format!("bytes={size}-"))]).await;
    assert_eq!((status, headers[CONTENT_RANGE].to_str().unwrap(), body.len()), (416, format!("bytes */{size}").as_str(), 0));
    for several in ["bytes=0-1,5-6", "bytes=5-2", "lines=1-2"] {
        let (status, headers, body) = get(&house, &url, &[(RANGE, several)]).await;
        assert_eq!((status, headers.contains_key(CONTENT_RANGE), body.len()), (200, false, size), "{several}");
    }
    let (status, _, body) = get(&house, &url, &[(RANGE, "bytes=5-6"), (IF_RANGE, "\"another\"")]).await;
    assert_eq!((status, body.len()), (200, size), "it began with another package");
}
