//! Kafka goes away, and comes back: what clients, `/ready` and `/stats` say meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::main_job::{balances, records};
use crate::process::{agent, command, eventually, get, Weir};

/// `weir broker` in a process of its own.
struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    fn start(data_dir: &Path, port: &str) -> Self {
        let mut child = command()
            .args(["broker", "--kafka-port", port, "--data-dir"])
            .arg(data_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.by_ref().map_while(Result::ok).find(|line| line.contains("Kafka  "));
        let address = line.expect("the broker starts").split_whitespace().nth(1).unwrap().into();
        // Read on, so that it can write.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client was told of one event.
#[derive(Debug, Clone)]
struct Told {
    id: String,
    status: u16,
    retry_after: Option<String>,
    answer: Value,
    took: Duration,
}

/// Posts one event every 20 ms, each from a client of its own, as devices do.
struct Load {
    told: Arc<Mutex<Vec<Told>>>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    fn new() -> Self {
        Self { told: Arc::default(), callers: Vec::new() }
    }

    fn run_until(&mut self, gateway: &str, deadline: Instant) {
        while Instant::now() < deadline {
            let (number, told) = (self.callers.len(), Arc::clone(&self.told));
            let url = format!("{gateway}/v1/events");
            self.callers.push(thread::spawn(move || {
                let one = post(&url, number);
                told.lock().unwrap().push(one);
            }));
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn finish(self) -> Vec<Told> {
        for caller in self.callers {
            caller.join().unwrap();
        }
        self.told.lock().unwrap().clone()
    }
}

fn post(url: &str, number: usize) -> Told {
    let id = format!("outage-{number}");
    // Every tenth is urgent.
    let kind = if number.is_multiple_of(10) { "emergency.landing" } else { "drone.heartbeat" };
    let body = format!(
        r#"{{"id":"{id}","type":"{kind}","source":"t","data":{{"drone_id":"d{}"}}}}"#,
        number % 50
    );
    let started = Instant::now();
    let mut response = agent().post(url).send(body).unwrap();
    let header = response.headers().get("retry-after");
    let retry_after = header.map(|value| value.to_str().unwrap().to_owned());
    let answer = response.body_mut().read_to_string().unwrap();
    Told {
        id,
        status: response.status().as_u16(),
        retry_after,
        answer: serde_json::from_str(&answer).unwrap(),
        took: started.elapsed(),
    }
}

fn ready(weir: &Weir) -> (u16, Value) {
    let (status, text) = get(&format!("{}/ready", weir.gateway));
    (status, serde_json::from_str(&text).unwrap())
}

/// Asks at each poll whether the ledger balances.
fn stats(weir: &Weir) -> Value {
    let stats = weir.get("/stats");
    assert!(balances(&stats), "{stats}");
    stats
}

#[test]
fn a_kafka_that_is_killed_is_told_at_once_and_costs_no_accepted_event() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let mut broker = Broker::start(&path("broker"), "0");
    let weir = Weir::up(&path("weir"), &["--brokers", &broker.address]);
    assert_eq!(ready(&weir).0, 200);
    let mut load = Load::new();
    load.run_until(&weir.gateway, Instant::now() + Duration::from_millis(1_500));
    let before = load.told.lock().unwrap().len();
    assert!(before > 20, "only {before} events came through");

    broker.kill_9();
    let killed = Instant::now();
    let not_ready = eventually("/ready is 503", 3, || {
        let (status, body) = ready(&weir);
        (status == 503).then_some(body)
    });
    assert_eq!(not_ready["code"], "WEIR-0913", "{not_ready}");
    assert!(not_ready["message"].as_str().unwrap().contains("Kafka"), "{not_ready}");
    let mut opened = None;
    // Over the deadline of 10 s, so that events are refused; half-open and open again on the way.
    while killed.elapsed() < Duration::from_secs(13) {
        load.run_until(&weir.gateway, Instant::now() + Duration::from_millis(250));
        let open = stats(&weir)["breaker"]["state"] == "open";
        opened = opened.or(open.then(|| killed.elapsed()));
        assert_eq!(ready(&weir).0, 503, "{:?} after the kill", killed.elapsed());
    }
    let opened = opened.expect("the breaker opens");
    assert!(opened < Duration::from_secs(4), "the breaker opened after {opened:?}");

    let port = broker.port().to_owned();
    let broker = Broker::start(&path("broker"), &port);
    eventually("ready again, with everything sent that waited", 6, || {
        let stats = stats(&weir);
        let sent = stats["current_queue_size"] == 0 && stats["breaker"]["state"] == "closed";
        (sent && ready(&weir).0 == 200).then_some(())
    });
    load.run_until(&weir.gateway, Instant::now() + Duration::from_millis(500));
    check_answers(load.finish(), &broker.address);
    stats(&weir);
}

fn check_answers(told: Vec<Told>, brokers: &str) {
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    let mut accepted = BTreeSet::new();
    for one in &told {
        let code = one.answer["code"].as_str().unwrap_or("accepted").to_owned();
        *codes.entry(code.clone()).or_default() += 1;
        match code.as_str() {
            "accepted" => assert!(accepted.insert(one.id.as_str())),
            "WEIR-0504" => {
                let message = one.answer["message"].as_str().unwrap();
                assert!(message.contains("circuit breaker is"), "{message}");
                assert!(message.contains("refused"), "{message}");
            }
            // Those on the wire when the broker died.
            "WEIR-0507" => {}
            _ => panic!("{one:?}"),
        }
        if code != "accepted" {
            assert_eq!(one.status, 503, "{one:?}");
            assert!(one.retry_after.is_some(), "{one:?}");
            assert!(one.took < Duration::from_secs(12), "{one:?}");
        }
    }
    assert!(codes["WEIR-0504"] > 20, "{codes:?}");
    let unknown = codes.get("WEIR-0507").copied().unwrap_or(0);
    assert!(unknown <= 10, "more than can have been on the wire: {codes:?}");
    let mut written: BTreeMap<String, usize> = BTreeMap::new();
    for record in records(brokers, "drone-events") {
        let event: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        *written.entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    for id in accepted {
        assert_eq!(written.get(id), Some(&1), "{id} was accepted");
    }
}
