//! `muster serve` as a process of its own, which can be killed.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// A server that runs until it is killed.
pub struct Serving(pub Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Serving {
    /// Starts a server and waits until it serves.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.arg("serve").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let serving = Self(child);
        let mut said = Vec::new();
        loop {
            let Some(line) = lines.next() else { panic!("the server ended before it served: {said:#?}") };
            let line = line.unwrap();
            if serde_json::from_str::<Value>(&line).is_ok_and(|line| line["message"] == "serving") {
                break;
            }
            said.push(line);
        }
        std::thread::spawn(move || lines.for_each(drop));
        serving
    }

    /// Stops it as an operator does, and says that it ended well.
    pub fn stop(mut self) {
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

/// Ports below the range from which the system takes any: nobody else gets them while the server is down. No port is given twice.
pub fn ports() -> [u16; 3] {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut from = next.unwrap_or_else(|| 20_000 + u16::try_from(std::process::id() % 10_000).unwrap());
    let ports = std::array::from_fn(|_| {
        let port = (from..32_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port");
        from = port + 1;
        port
    });
    *next = Some(from);
    ports
}
