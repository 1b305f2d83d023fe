//! A browser without scripts: cookies, forms, and no redirects that the test does not follow itself.

use std::collections::BTreeMap;

use super::server::Server;

/// What came back.
#[derive(Debug)]
pub struct Seen {
    pub status: u16,
    pub location: String,
    pub html: String,
    pub cookies: Vec<String>,
}

impl Seen {
    /// The value of the first field of that name.
    pub fn field(&self, name: &str) -> String {
        let Some((_, rest)) = self.html.split_once(&format!("name=\"{name}\"")) else { panic!("no {name}: {}", self.html) };
        plain(rest.split_once("value=\"").unwrap().1.split_once('"').unwrap().0)
    }

    /// What the page asks of the browser's passkeys.
    pub fn options(&self) -> serde_json::Value {
        let Some((_, rest)) = self.html.split_once("data-options=\"") else { panic!("no options: {}", self.html) };
        serde_json::from_str(&plain(rest.split_once('"').unwrap().0)).unwrap()
    }
}

fn plain(text: &str) -> String {
    text.replace("&#34;", "\"").replace("&quot;", "\"").replace("&#38;", "&").replace("&amp;", "&").replace("&#39;", "'")
}

/// The browser.
pub struct Browser {
    client: reqwest::Client,
    web: String,
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    pub fn new(server: &Server) -> Self {
        Self { client: server.client(), web: server.web.clone(), cookies: BTreeMap::new() }
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Seen {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = request.header("Accept", "text/html").header("Cookie", cookies.join("; ")).send().await.unwrap();
        let text = |name: &str| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        let (status, location) = (answer.status().as_u16(), text("location"));
        let set: Vec<String> = answer.headers().get_all("set-cookie").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
        for cookie in &set {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Seen { status, location, html: answer.text().await.unwrap(), cookies: set }
    }

    pub async fn get(&mut self, path: &str) -> Seen {
        let request = self.client.get(format!("{}{path}", self.web));
        self.send(request).await
    }

    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Seen {
        let request = self.client.post(format!("{}{path}", self.web)).form(fields);
        self.send(request).await
    }

    /// Signs in with a pass at the page for `next`.
    pub async fn sign_in(&mut self, next: &str, user: &str, pass: &str) -> Seen {
        let next: String = reqwest::Url::parse_with_params("https://x/", [("next", next)]).unwrap().query().unwrap().to_owned();
        let page = self.get(&format!("/signin?again=1&{next}")).await;
        let (mark, next) = (page.field("mark"), page.field("next"));
        self.post("/signin", &[("mark", &mark), ("next", &next), ("user_name", user), ("pass", pass)]).await
    }
}
