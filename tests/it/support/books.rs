//! A stand-in for Apps and Books: TLS, the content token on every request, licences by serial number, changes that take a while; and
//! whatever a test wants it to answer instead.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::sim::apple::apps::Shop;
use muster::sim::listener::{self, Answer, Listener, Request, Tls};
use serde_json::{Value, json};

use super::ca::Ca;

/// The application that it has licences for.
pub const STORE_ID: i64 = 1_113_153_706;
pub const BUNDLE: &str = "com.example.store";

/// Status, body and a header.
type Say = (u16, Value, Option<(String, String)>);

pub struct State {
    /// The location of the token.
    pub location: String,
    /// Which device management has the token.
    pub owner: Value,
    /// How many licences there are.
    pub total: usize,
    /// What is said instead of an answer, in order: status, body, header.
    pub script: VecDeque<Say>,
    /// Every request: path and body.
    pub seen: Vec<(String, Value)>,
    /// The changes that were asked for and are not done: give or take back, and whose.
    pending: BTreeMap<String, (bool, Vec<String>)>,
    done: BTreeMap<String, Value>,
}

pub struct Books {
    pub shop: Arc<Shop>,
    pub root_pem: Vec<u8>,
    pub url: String,
    pub token: String,
    state: Arc<Mutex<State>>,
    _listener: Listener,
}

/// A content token with that end.
pub fn token(expiry: &str) -> String {
    STANDARD.encode(json!({ "token": "secret of the location", "expDate": expiry, "orgName": "Example" }).to_string())
}

impl State {
    fn answer(&mut self, request: &Request, token: &str, shop: &Shop) -> Answer {
        let say = |status: u16, body: &Value| Answer { status, body: body.to_string().into_bytes(), ..Answer::default() };
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        self.seen.push((request.path.clone(), body.clone()));
        if request.header("authorization") != Some(&format!("Bearer {token}")) {
            return say(401, &json!({ "errorNumber": 9622, "errorMessage": "Your session has expired" }));
        }
        if let Some((status, body, header)) = self.script.pop_front() {
            return Answer { headers: header.into_iter().collect(), ..say(status, &body) };
        }
        let query: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let mut held = shop.licences.lock().unwrap();
        match (request.method.as_str(), path) {
            ("GET", "/client/config") => say(200, &json!({ "uId": self.location, "locationName": "Vienna", "mdmInfo": self.owner })),
            ("POST", "/client/config") => {
                self.owner = body["mdmInfo"].clone();
                say(200, &json!({ "uId": self.location, "locationName": "Vienna", "mdmInfo": self.owner }))
            }
            ("GET", "/service/config") => say(200, &json!({ "limits": { "maxSerialNumbers": 2, "maxAssets": 25 } })),
            ("GET", "/assets") => say(
                200,
                &json!({ "assets": [{ "adamId": STORE_ID.to_string(), "pricingParam": "STDQ", "deviceAssignable": true,
                    "totalCount": self.total, "assignedCount": held.len(), "availableCount": self.total - held.len() }] }),
            ),
            ("POST", "/assets/associate" | "/assets/disassociate") => {
                let serials: Vec<String> = serde_json::from_value(body["serialNumbers"].clone()).unwrap();
                let assets = json!([{ "adamId": STORE_ID.to_string(), "pricingParam": "STDQ" }]);
                assert_eq!((&body["assets"], body.as_object().unwrap().len()), (&assets, 2), "{body}");
                if serials.is_empty() || serials.len() > 2 {
                    return say(400, &json!({ "errorNumber": 9600, "errorMessage": "too many serial numbers" }));
                }
                let event = format!("event-{}", self.seen.len());
                self.pending.insert(event.clone(), (path == "/assets/associate", serials));
                say(200, &json!({ "eventId": event, "uId": self.location }))
            }
            ("GET", "/status") => {
                let event = query["eventId"];
                if let Some((give, serials)) = self.pending.remove(event) {
                    // The first look finds it under way.
                    let free = self.total - held.len();
                    let result = if give && serials.len() > free {
                        json!({ "eventStatus": "FAILED", "failures": [{ "errorNumber": 9709, "errorMessage": "Not enough licences" }] })
                    } else {
                        for serial in serials {
                            if give {
                                held.insert((serial, STORE_ID))
                            } else {
                                held.remove(&(serial, STORE_ID))
                            };
                        }
                        json!({ "eventStatus": "COMPLETE" })
                    };
                    self.done.insert(event.to_owned(), result);
                    return say(200, &json!({ "eventStatus": "PENDING" }));
                }
                match self.done.get(event) {
                    Some(result) => say(200, result),
                    None => say(400, &json!({ "errorNumber": 9615, "errorMessage": "no such event" })),
                }
            }
            ("GET", "/assignments") => {
                let mine = held.iter().filter(|(serial, id)| serial == query["serialNumber"] && id.to_string() == query["adamId"]);
                let mine: Vec<Value> = mine.map(|(serial, id)| json!({ "adamId": id.to_string(), "serialNumber": serial })).collect();
                say(200, &json!({ "assignments": mine }))
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Books {
    pub async fn start(total: usize) -> Self {
        let ca = Ca::new("Apps and Books");
        let leaf = ca.leaf("127.0.0.1", &["127.0.0.1".into()]);
        let tls = Tls { certificate: leaf.certificate, chain: Vec::new(), key: leaf.key };
        let apps = [(STORE_ID, (BUNDLE.to_owned(), "9.1".to_owned()))].into_iter().collect();
        let shop = Arc::new(Shop { apps, ..Shop::default() });
        let state = State {
            location: "L1".into(),
            owner: Value::Null,
            total,
            script: VecDeque::new(),
            seen: Vec::new(),
            pending: BTreeMap::new(),
            done: BTreeMap::new(),
        };
        let (state, token) = (Arc::new(Mutex::new(state)), token("2199-01-02T03:04:05+0000"));
        let (known, good, store) = (Arc::clone(&state), token.clone(), Arc::clone(&shop));
        let handler: listener::Handler = Arc::new(move |request| {
            let answer = known.lock().unwrap().answer(&request, &good, &store);
            Box::pin(async move { answer })
        });
        let listener = listener::listen("127.0.0.1:0".parse().unwrap(), Some(&tls), handler).await.unwrap();
        let url = format!("https://{}", listener.address);
        Self { shop, root_pem: ca.root.to_pem().unwrap(), url, token, state, _listener: listener }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How many devices have a licence.
    pub fn held(&self) -> usize {
        self.shop.licences.lock().unwrap().len()
    }
}
