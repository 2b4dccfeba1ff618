//! The live view of a real run, in a real browser and for a scraper, and what it may not do to the run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/chromium.rs"]
mod chromium;

use chromium::Chromium;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A short run with a view, and the view's address.
fn watched(out: &Path, duration: &str) -> (Run, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(["run", "--live", "0", "--duration", duration, "--warmup", "200ms", "--batch-interval", "500ms"]);
    command.args(["--rows", "500", "--rate", "200", "--strategies", "full-refresh,cdc-trigger", "--out"]).arg(out);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("live view: http://").map(str::to_owned));
    std::thread::spawn(move || lines.for_each(drop));
    (Run(child), address.expect("the view's address").trim_end_matches('/').to_owned())
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn get(address: &str, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

/// Checks an exposition by the rules of OpenMetrics, and gives the samples' names.
fn samples(text: &str) -> BTreeSet<String> {
    assert!(text.ends_with("# EOF\n"));
    let (mut family, mut families, mut names) = (String::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} comes twice");
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = name.split('{').next().unwrap();
            assert!(name.starts_with(&family), "{line} under {family}");
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn a_run_is_seen_while_it_goes_on() {
    let Some(mut chromium) = Chromium::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_run, address) = watched(&folder.path().join("out"), "7s");
    chromium.look((1100, 900), "light");
    chromium.open(&format!("http://{address}/"));
    // Marked, to see that the page itself is never loaded again.
    chromium.evaluate("window.mark = 1");
    let drawn = "['#age-warehouse', '#backlog', '#rate', '#lag-warehouse'].every((id) => document.querySelector(id + ' svg path.line'))";
    let wait = |chromium: &mut Chromium, what: &str| {
        let begun = Instant::now();
        while chromium.evaluate(what) != json!(true) {
            assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    wait(&mut chromium, &format!("({drawn}) && document.querySelector('#now b').innerText === 'full-refresh'"));
    // The next case is drawn beside the one that has finished.
    let lines = "document.querySelector('#age-warehouse .view0 .wide').querySelectorAll('path.line').length";
    wait(&mut chromium, &format!("{lines} === 2 && document.querySelector('#now b').innerText === 'cdc-trigger'"));
    let shown = chromium.evaluate("document.querySelector('#age-warehouse .view0 .wide path.c3').getAttribute('d')");
    wait(
        &mut chromium,
        &format!("document.querySelector('#age-warehouse .view0 .wide path.c3').getAttribute('d') !== {shown}"),
    );
    let place = chromium.evaluate(
        "(() => { const view = document.querySelector('#age-warehouse .view0'); view.scrollIntoView({block: 'center', behavior: 'instant'}); \
         const box = view.getBoundingClientRect(); return [box.left + box.width / 4, box.top + box.height / 2]; })()",
    );
    chromium.point_at(place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
    let told = chromium.evaluate("document.getElementById('tip').innerText");
    assert!(told.as_str().unwrap().contains("full-refresh: "), "{told}");
    let wrong = chromium.evaluate(include_str!("support/page_checks.js"));
    assert_eq!(wrong, json!([]), "{wrong:#}");
    assert_eq!(chromium.evaluate("window.mark"), json!(1));
    if let Some(folder) = std::env::var_os("FRESHBENCH_SCREENSHOTS") {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(chromium.picture(true)).unwrap();
        std::fs::write(Path::new(&folder).join("live.png"), bytes).unwrap();
    }
    assert_eq!(chromium.complaints(), Vec::<String>::new());
    let here = format!("http://{address}/");
    assert!(chromium.asked().iter().all(|url| url.starts_with(&here)), "{:?}", chromium.asked());
}

#[test]
fn scrapers_get_openmetrics_and_strangers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, address) = watched(&folder.path().join("out"), "3s");
    assert!(address.starts_with("127.0.0.1:"));
    let begun = Instant::now();
    let wanted = [
        "freshbench_age_seconds",
        "freshbench_commit_lag_seconds_bucket",
        "freshbench_backlog_commits",
        "freshbench_changes_total",
    ];
    loop {
        let answer = get(&address, "/metrics");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
        let names = samples(body);
        let labelled = body.contains("strategy=\"full-refresh\",sink=\"warehouse\",phase=\"finished\"")
            && body.contains("strategy=\"cdc-trigger\",sink=\"cache\",phase=\"run\"");
        if wanted.iter().all(|name| names.contains(*name)) && labelled {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{body}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // A name of another site that leads here, and a method that changes things.
    assert!(ask(&address, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").starts_with("HTTP/1.1 403 "));
    assert!(ask(&address, &format!("POST / HTTP/1.1\r\nHost: {address}\r\n\r\n")).starts_with("HTTP/1.1 405 "));
    assert!(get(&address, "/../etc/passwd").starts_with("HTTP/1.1 404 "));
    // The port is taken: told in one line, before anything is done.
    let port = address.rsplit(':').next().unwrap();
    let other = folder.path().join("other");
    let output = Command::new(env!("CARGO_BIN_EXE_freshbench"))
        .args(["run", "--quick", "--live", port, "--out"])
        .arg(&other)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("--live PORT") && errors.lines().count() == 1 && !other.exists(), "{errors}");
    assert!(run.0.wait().unwrap().success());
}

#[test]
fn browsers_that_hang_or_vanish_do_not_touch_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (mut run, address) = watched(&out, "2s");
    // More than it takes: some say nothing, some ask and never read, some go away in the middle.
    let mut hanging = Vec::new();
    for n in 0..40 {
        let Ok(mut stream) = TcpStream::connect(&address) else { continue };
        let asked = match n % 3 {
            0 => String::new(),
            1 => format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            _ => "GET / HT".to_owned(),
        };
        let _ = stream.write_all(asked.as_bytes());
        if n % 2 == 0 {
            hanging.push(stream);
        }
    }
    assert!(run.0.wait().unwrap().success());
    let result: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("result.json")).unwrap()).unwrap();
    assert_eq!(result["complete"], json!(true));
    assert!(std::fs::metadata(out.join("report.html")).unwrap().len() > 50_000);
    drop(hanging);
}
