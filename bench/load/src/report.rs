//! One JSON line per run.

use std::time::Instant;

use rustix::time::{clock_gettime, ClockId};

/// What a run came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Records acknowledged, or read.
    pub records: u64,
    /// Records, or requests, that failed.
    pub errors: u64,
}

/// Wall time and CPU time (user and system, all threads) since its start.
#[derive(Debug)]
pub struct Measurement {
    started: Instant,
    cpu_started: f64,
}

impl Measurement {
    /// Starts it: after connecting, before the first record.
    pub fn start() -> Self {
        Self { started: Instant::now(), cpu_started: cpu_seconds() }
    }

    /// Ends it, after the last acknowledgement, and prints the line.
    pub fn print(self, client: &str, outcome: Outcome) {
        let (seconds, cpu) =
            (self.started.elapsed().as_secs_f64(), cpu_seconds() - self.cpu_started);
        let Outcome { records, errors } = outcome;
        let per_million = cpu * 1e6 / records.max(1) as f64;
        println!(
            "{{\"client\":\"{client}\",\"records\":{records},\"seconds\":{seconds:.6},\
             \"cpu_seconds_per_million\":{per_million:.4},\"errors\":{errors}}}"
        );
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
