//! Batches, one partition after the other, with a window of requests in flight.

use std::error::Error;

use bench_load::{Measurement, Outcome, Readings};

use crate::batch::{self, Producer};
use crate::wire::Connection;

/// Requests sent and not yet answered, over all partitions.
const IN_FLIGHT_MAX: u64 = 8;

/// What to send where.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) address: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partitions: u32,
    pub(crate) records: u64,
    pub(crate) batch_records: u32,
}

pub(crate) fn run(plan: &Plan<'_>) -> Result<(), Box<dyn Error>> {
    let mut connection = Connection::open(plan.address)?;
    let (id, epoch) = connection.init_producer_id()?;
    let mut sequences = vec![0_i32; plan.partitions.max(1) as usize];
    let (mut readings, mut value, mut request) = (Readings::default(), Vec::new(), Vec::new());
    let (mut sent, mut requests, mut answers) = (0, 0, 0);
    let mut outcome = Outcome::default();
    let measurement = Measurement::start();
    while sent < plan.records {
        let count = u64::from(plan.batch_records).min(plan.records - sent) as u32;
        let partition = (requests % sequences.len() as u64) as usize;
        let sequence = sequences[partition];
        let records_at = connection.begin_produce(&mut request, plan.topic, partition as i32);
        let producer = Producer { id, epoch, sequence };
        batch::push(&mut request, count, producer, &mut readings, &mut value);
        connection.send_produce(&mut request, records_at)?;
        sequences[partition] = sequence + count as i32;
        sent += u64::from(count);
        requests += 1;
        if requests - answers == IN_FLIGHT_MAX {
            answers += 1;
            outcome.errors += failed(&mut connection)?;
        }
    }
    while answers < requests {
        answers += 1;
        outcome.errors += failed(&mut connection)?;
    }
    outcome.records = sent;
    measurement.print("probe", outcome);
    match outcome.errors {
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
