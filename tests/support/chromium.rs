//! A real Chromium, driven over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/).

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

const PATIENCE: Duration = Duration::from_secs(60);

/// One browser with one page.
pub struct Chromium {
    child: Child,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: String,
    next: u64,
    /// What the page has told meanwhile: events by method, with their parameters.
    pub events: Vec<(String, Value)>,
    _profile: tempfile::TempDir,
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The browser's program, if there is one. Without it a test says so loudly and passes, unless services are required.
fn program() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    });
    if found.is_none() {
        assert!(
            std::env::var_os("FRESHBENCH_REQUIRE_SERVICES").is_none_or(|value| value != "1"),
            "there is no Chromium, and FRESHBENCH_REQUIRE_SERVICES=1 asks for it: apt-get install chromium"
        );
        eprintln!("SKIPPED: there is no Chromium on this machine; apt-get install chromium");
    }
    found
}

impl Chromium {
    /// Starts one, if the machine has it.
    pub fn start() -> Option<Chromium> {
        let program = program()?;
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("DevTools listening on ").map(str::to_owned));
        // A full pipe would stop the browser.
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = tungstenite::connect(address.expect("the address of the DevTools")).unwrap();
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let (session, events) = (String::new(), Vec::new());
        let mut chromium = Chromium { child, socket, session, next: 0, events, _profile: profile };
        let target = chromium.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = chromium.call("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        chromium.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            chromium.call(&format!("{domain}.enable"), json!({}));
        }
        Some(chromium)
    }

    /// Asks for something and waits for the answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let message = self.read();
            if message["id"] == json!(self.next) {
                assert!(message.get("error").is_none(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
        }
    }

    fn read(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().expect("a word of the browser") {
                let message: Value = serde_json::from_str(&text).unwrap();
                if let Some(method) = message["method"].as_str() {
                    self.events.push((method.to_owned(), message["params"].clone()));
                }
                return message;
            }
        }
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str) {
        self.events.clear();
        self.call("Page.navigate", json!({"url": url}));
        let begun = Instant::now();
        while !self.events.iter().any(|(method, _)| method == "Page.loadEventFired") {
            assert!(begun.elapsed() < PATIENCE, "{url} does not load");
            self.read();
        }
    }

    /// What an expression gives, awaited if it is a promise.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// The size of the window, and the scheme: `light` or `dark`.
    pub fn look(&mut self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"media": "", "features": features}));
    }

    /// Moves the pointer there.
    pub fn point_at(&mut self, x: f64, y: f64) {
        self.call("Input.dispatchMouseEvent", json!({"type": "mouseMoved", "x": x, "y": y}));
    }

    /// A picture of the whole page or of the window, as PNG in base64.
    pub fn picture(&mut self, whole: bool) -> String {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": whole}));
        answer["data"].as_str().unwrap().to_owned()
    }

    /// What went wrong in the page: exceptions, and errors on its console.
    pub fn complaints(&self) -> Vec<String> {
        let wrong = self.events.iter().filter(|(method, told)| match method.as_str() {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" => told["type"] == "error" || told["type"] == "warning",
            "Log.entryAdded" => told["entry"]["level"] == "error" || told["entry"]["level"] == "warning",
            _ => false,
        });
        wrong.map(|(method, told)| format!("{method}: {told}")).collect()
    }

    /// The addresses that the page asked for.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.events.iter().filter(|(method, _)| method == "Network.requestWillBeSent");
        asked.filter_map(|(_, told)| told["request"]["url"].as_str().map(str::to_owned)).collect()
    }
}
