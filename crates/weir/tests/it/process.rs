//! A running `weir`, with its addresses, and plain HTTP to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The Kafka to run on instead of the embedded broker, if the environment names one.
pub(crate) fn cluster() -> Option<String> {
    std::env::var("WEIR_TEST_BROKERS").ok().filter(|brokers| !brokers.is_empty())
}

/// Asks until there is an answer, or fails with `what` at the deadline.
pub(crate) fn eventually<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// `weir up` with free ports.
pub(crate) struct Weir {
    child: Child,
    pub(crate) kafka: String,
    pub(crate) gateway: String,
    pub(crate) console: String,
    /// Everything it has printed until it was ready.
    pub(crate) banner: String,
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_")) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C");
    for name in ["KAFKA_BROKERS", "KAFKA_TOPIC", "DB_HOST", "DB_USER", "DB_PASSWORD"] {
        command.env_remove(name);
    }
    command
}

fn up(data_dir: &Path, args: &[&str]) -> Command {
    let mut command = command();
    command.args(["up", "--gateway-port", "0", "--console-port", "0", "--data-dir"]).arg(data_dir);
    // A test that brings its own Kafka says so.
    match cluster().filter(|_| !args.contains(&"--brokers")) {
        Some(brokers) => command
            .args(["--brokers", &brokers])
            // Groups of a shared cluster: one for each test, the same after its restarts.
            .env("WEIR_KAFKA_GROUP_ID", data_dir.file_name().unwrap()),
        None => command.args(["--kafka-port", "0"]),
    };
    command.args(args);
    command
}

/// Runs `weir up` to its end, which a start that fails reaches by itself.
pub(crate) fn up_fails(data_dir: &Path, args: &[&str]) -> Output {
    up(data_dir, args).output().unwrap()
}

impl Weir {
    pub(crate) fn up(data_dir: &Path, args: &[&str]) -> Self {
        Self::start(data_dir, up(data_dir, args))
    }

    /// As [`Weir::up`], with so many open files at most.
    pub(crate) fn up_with_files(data_dir: &Path, args: &[&str], files_max: u32) -> Self {
        let up = up(data_dir, args);
        let mut limited = Command::new("sh");
        limited.arg("-c").arg(format!("ulimit -n {files_max} && exec \"$0\" \"$@\""));
        limited.arg(up.get_program()).args(up.get_args());
        for (name, value) in up.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        Self::start(data_dir, limited)
    }

    fn start(data_dir: &Path, mut command: Command) -> Self {
        let log = std::fs::File::create(data_dir.join("stderr.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("weir starts");
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut banner = String::new();
        while !banner.contains("Ctrl-C stops") {
            let line = lines.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| {
                let log = std::fs::read_to_string(data_dir.join("stderr.log")).unwrap();
                panic!("weir is not ready; it printed\n{banner}\n{log}")
            });
            banner.push_str(&line);
            banner.push('\n');
        }
        let after = |word: &str| {
            let line = banner.lines().find(|line| line.trim_start().starts_with(word)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        let (kafka, gateway, console) = (after("Kafka"), after("Gateway"), after("Console"));
        Self { child, kafka, gateway, console, banner }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let base = if path.starts_with("/api") { &self.console } else { &self.gateway };
        let (status, text) = get(&format!("{base}{path}"));
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Posts a body and returns status and answer.
    pub(crate) fn post(&self, body: &str) -> (u16, Value) {
        let url = format!("{}/v1/events", self.gateway);
        let mut response = agent().post(&url).send(body).unwrap();
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text}")))
    }

    /// SIGTERM; returns how long it took to end. It must end well.
    pub(crate) fn terminate(mut self) -> Duration {
        let started = Instant::now();
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
        let status = eventually("weir ends after SIGTERM", 10, || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        started.elapsed()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .new_agent()
}

pub(crate) fn get(url: &str) -> (u16, String) {
    let mut response = agent().get(url).call().unwrap();
    let status = response.status().as_u16();
    (status, response.body_mut().read_to_string().unwrap())
}
