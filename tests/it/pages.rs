//! What people see: the pages as HTML, and driven by a browser as Windows drives its embedded one.

use std::process::Command;

use muster::domain::tap::Policy;
use muster::service::identity::tap;
use reqwest::Url;

use crate::support::server::Server;
use crate::support::tools;
use crate::support::windows::{House, UPN};

async fn get(house: &House, path: &str, accept: &str) -> (u16, String, String) {
    let answer = house.server.client().get(format!("{}{path}", house.server.web)).header("Accept", accept).send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    (answer.status().as_u16(), kind, answer.text().await.unwrap())
}

const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_has_a_language_a_title_a_heading_and_labelled_fields() {
    let house = House::new().await;
    let sign_in = "/EnrollmentServer/Authenticate?appru=ms-app://x&login_hint=ana@example.org";
    for path in ["/", "/enroll/windows?username=ana@example.org", "/enroll/apple", sign_in] {
        let (status, kind, html) = get(&house, path, BROWSER).await;
        assert_eq!((status, kind.as_str()), (200, "text/html; charset=UTF-8"), "{path}");
        assert!(html.contains("<html lang=\"en\">") && html.contains("name=\"viewport\""), "{path}");
        let title = html.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).unwrap().0;
        assert!(!title.trim().is_empty() && html.matches("<h1>").count() == 1, "{path}: {title}");
        for field in html.split("<input ").skip(1).filter(|field| !field.starts_with("type=\"hidden\"")) {
            let id = field.split_once("id=\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
            assert!(html.contains(&format!("<label for=\"{id}\">")), "{path}: {id}");
        }
        // Without scripts a form still goes: it has an address and a button.
        assert!(html.matches("<form").count() == html.matches("type=\"submit\"").count(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_pass_is_answered_on_the_page_with_its_code() {
    let house = crate::apple_enroll::house().await;
    for (path, more, status) in [("/EnrollmentServer/Authenticate", "appru=ms-app%3A%2F%2Fx&", 200), ("/enroll/apple", "", 403)] {
        let request = house.server.client().post(format!("{}{path}", house.server.web));
        let form = format!("{more}user_name={}&pass=abcd-efgh-ijkl", UPN.replace('@', "%40"));
        let answer = request.header("Content-Type", "application/x-www-form-urlencoded").body(form).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let html = answer.text().await.unwrap();
        assert!(html.contains("role=\"alert\"") && html.contains("(AUT0002)"), "{path}: {html}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_a_page_for_people_and_json_for_programs() {
    let house = House::new().await;
    for (path, status, code) in [("/nothing", 404, "not-found"), ("/EnrollmentServer/Authenticate?appru=https://evil", 400, "appru")] {
        let (got, kind, html) = get(&house, path, BROWSER).await;
        assert_eq!((got, kind.as_str()), (status, "text/html; charset=UTF-8"), "{path}");
        assert!(html.contains("<h1>") && html.contains(code) && !html.contains("evil"), "{html}");
        let (got, kind, json) = get(&house, path, "*/*").await;
        assert_eq!((got, kind.as_str()), (status, "application/problem+json"), "{path}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["code"], code);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_who_comes_to_any_face_sees_a_page() {
    let server = Server::start().await;
    for (base, status) in [(&server.web, 200), (&server.device, 404), (&server.pki, 404)] {
        let answer = server.client().get(format!("{base}/")).header("Accept", BROWSER).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (status, &"text/html; charset=UTF-8".parse().unwrap()),
            "{base}"
        );
        let answer = server.client().get(format!("{base}/nothing")).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{base}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_can_be_asked_for_without_its_body() {
    let server = Server::start().await;
    let (web, pki) = (&server.web, &server.pki);
    for url in [
        format!("{pki}/crl/issuing.crl"),
        format!("{pki}/aia/issuing.cer"),
        format!("{pki}/healthz"),
        format!("{web}/healthz"),
        format!("{}/EnrollmentServer/Discovery.svc", server.device),
        format!("{web}/EnrollmentServer/Discovery.svc"),
    ] {
        muster::service::pki::crl::due(&server.app).await.unwrap();
        let read = server.client().get(&url).send().await.unwrap();
        let asked = server.client().head(&url).send().await.unwrap();
        assert_eq!((asked.status(), asked.status().as_u16()), (read.status(), 200), "{url}");
        assert_eq!(asked.headers().get("content-type"), read.headers().get("content-type"), "{url}");
        assert_eq!(asked.headers().get("content-length"), read.headers().get("content-length"), "{url}");
        assert!(asked.bytes().await.unwrap().is_empty(), "{url}");
    }
    let refused = server.client().head(format!("{}/ManagementServer/MDM.svc", server.device)).send().await.unwrap();
    assert_eq!(refused.status(), 405);
}

/// What a browser makes of a sign-in with that pass: the document at the end, and what its console says.
fn browse(chromium: &std::path::Path, house_web: &str, pass: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("form.html");
    let form = format!(
        "<!doctype html><form method=post action=\"{house_web}/EnrollmentServer/Authenticate\">\
         <input name=appru value=\"ms-app://s-1-15-2-1\"><input name=user_name value=\"{UPN}\"><input name=pass value=\"{pass}\">\
         </form><script>document.forms[0].submit()</script>"
    );
    std::fs::write(&page, form).unwrap();
    let out = Command::new("timeout")
        .arg("60")
        .arg(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(Url::from_file_path(&page).unwrap().as_str())
        .output()
        .unwrap();
    let console = String::from_utf8_lossy(&out.stderr).lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
    (String::from_utf8_lossy(&out.stdout).into_owned(), console)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_signs_in_and_hands_the_token_to_the_application_by_itself() {
    let Some(chromium) = tools::find("chromium", "chromium") else { return };
    let house = House::new().await;
    let pass = tap::create(&house.server.app, &house.user, Policy::default(), None, "cli:test", "local").await.unwrap().show().to_owned();
    let web = house.server.web.clone();
    let runs = tokio::task::spawn_blocking(move || (browse(&chromium, &web, "wrong-pass-word"), browse(&chromium, &web, &pass)));
    let ((wrong, complaints), (_, console)) = runs.await.unwrap();
    assert!(wrong.contains("role=\"alert\"") && wrong.contains("That did not work") && wrong.contains(UPN), "{wrong}\n{complaints}");
    // The browser does not know the application; what counts is that the page's own script sent the form off, and that nothing was
    // held back by the page's policy.
    assert!(console.contains("EnrollmentServer/Authenticate") && console.contains("'ms-app://s-1-15-2-1'"), "{console}");
    for said in [complaints, console] {
        assert!(!said.contains("Content Security Policy") && !said.contains("Refused"), "{said}");
    }
}
