//! Batches, one partition after the other: as fast as a window of requests in flight allows, or at a rate.

use std::error::Error;
use std::time::{Duration, Instant};

use bench_load::{Measurement, Outcome, Readings};

use crate::batch::{self, Producer};
use crate::wire::Connection;

/// Requests sent and not yet answered, over all partitions.
const IN_FLIGHT_MAX: u64 = 8;
/// At a rate, what is sent in this time is not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// What to send where.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) address: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partitions: u32,
    pub(crate) batch_records: u32,
    /// As on the wire: -1 for all.
    pub(crate) acks: i16,
    /// Bytes that each value is filled up to.
    pub(crate) value_bytes: Option<usize>,
}

/// The sending end.
struct Sender<'a> {
    plan: &'a Plan<'a>,
    connection: Connection,
    id: i64,
    epoch: i16,
    sequences: Vec<i32>,
    readings: Readings,
    value: Vec<u8>,
    request: Vec<u8>,
    requests: u64,
}

impl<'a> Sender<'a> {
    fn open(plan: &'a Plan<'a>) -> Result<Self, Box<dyn Error>> {
        let mut connection = Connection::open(plan.address, plan.acks)?;
        let (id, epoch) = connection.init_producer_id()?;
        Ok(Self {
            plan,
            connection,
            id,
            epoch,
            sequences: vec![0; plan.partitions.max(1) as usize],
            readings: plan.value_bytes.map_or_else(Readings::default, Readings::filled),
            value: Vec::new(),
            request: Vec::new(),
            requests: 0,
        })
    }

    /// Sends a batch of `count` records to the next partition.
    fn send(&mut self, count: u32) -> Result<(), Box<dyn Error>> {
        let partition = (self.requests % self.sequences.len() as u64) as usize;
        let sequence = self.sequences[partition];
        let (request, topic) = (&mut self.request, self.plan.topic);
        let records_at = self.connection.begin_produce(request, topic, partition as i32);
        let producer = Producer { id: self.id, epoch: self.epoch, sequence };
        batch::push(request, count, producer, &mut self.readings, &mut self.value);
        self.connection.send_produce(request, records_at)?;
        self.sequences[partition] = sequence + count as i32;
        self.requests += 1;
        Ok(())
    }
}

/// Sends `records` with [`IN_FLIGHT_MAX`] requests in flight.
pub(crate) fn run(plan: &Plan<'_>, records: u64) -> Result<(), Box<dyn Error>> {
    let mut sender = Sender::open(plan)?;
    let (mut sent, mut answers) = (0, 0);
    let mut outcome = Outcome::default();
    let measurement = Measurement::start();
    while sent < records {
        let count = u64::from(plan.batch_records).min(records - sent) as u32;
        sender.send(count)?;
        sent += u64::from(count);
        if sender.requests - answers == IN_FLIGHT_MAX {
            answers += 1;
            outcome.errors += failed(&mut sender.connection)?;
        }
    }
    while answers < sender.requests {
        answers += 1;
        outcome.errors += failed(&mut sender.connection)?;
    }
    outcome.records = sent;
    measurement.print("probe", outcome);
    ended(outcome.errors)
}

/// Sends `rate` records per second for `seconds`, whatever happens to those before, and prints how long after the moment
/// it was due a batch was answered: a stall is seen by every batch it holds up (no coordinated omission).
pub(crate) fn run_at(plan: &Plan<'_>, rate: f64, seconds: f64) -> Result<(), Box<dyn Error>> {
    let mut sender = Sender::open(plan)?;
    let mut receiver = sender.connection.receiver()?;
    let interval = f64::from(plan.batch_records) / rate;
    let requests = ((WARM_UP.as_secs_f64() + seconds) / interval).ceil() as u64;
    let started = Instant::now();
    let due = |request: u64| started + Duration::from_secs_f64(request as f64 * interval);
    let (mut took_ms, errors) = std::thread::scope(|scope| {
        let answers = scope.spawn(move || -> Result<(Vec<f64>, u64), String> {
            let (mut took_ms, mut errors) = (Vec::with_capacity(requests as usize), 0);
            for request in 0..requests {
                errors += failed(&mut receiver).map_err(|error| error.to_string())?;
                if due(request) >= started + WARM_UP {
                    took_ms.push((Instant::now() - due(request)).as_secs_f64() * 1e3);
                }
            }
            Ok((took_ms, errors))
        });
        for request in 0..requests {
            std::thread::sleep(due(request).saturating_duration_since(Instant::now()));
            sender.send(plan.batch_records)?;
        }
        match answers.join() {
            Ok(answers) => answers.map_err(Box::<dyn Error>::from),
            Err(_) => Err("the receiving thread has panicked".into()),
        }
    })?;
    took_ms.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (took_ms.len() as f64 * share) as usize;
        took_ms.get(index.min(took_ms.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    println!(
        "{{\"client\":\"probe\",\"rate\":{rate:.0},\"batches\":{},\"p50_ms\":{:.4},\"p99_ms\":{:.4},\"p999_ms\":{:.4},\
         \"errors\":{errors}}}",
        took_ms.len(),
        at(0.5),
        at(0.99),
        at(0.999)
    );
    ended(errors)
}

fn ended(errors: u64) -> Result<(), Box<dyn Error>> {
    match errors {
        0 => Ok(()),
        errors => Err(format!("{errors} requests failed").into()),
    }
}

fn failed(connection: &mut Connection) -> Result<u64, Box<dyn Error>> {
    let code = connection.receive_produced()?;
    if code != 0 {
        eprintln!("produce: error {code}");
    }
    Ok(u64::from(code != 0))
}
