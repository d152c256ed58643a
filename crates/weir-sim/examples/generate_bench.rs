//! What a record of the simulator costs, from the sensor's random numbers to a finished record batch.
//!
//! usage: generate_bench [DEVICES] [RECORDS] [json|protobuf]
//!
//! One thread, 12 partitions by FNV-1a, batches of 1 MB with their CRC, as the producer builds them; nothing
//! is sent. Trends on, anomalies at 0.001. Seven runs; prints the median as one JSON line, and of one run
//! what its parts cost.
// A bench measures with the machine's clock and prints.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use weir_client::partitioner::fnv1a_partition;
use weir_client::Codec;
use weir_protocol::batch::BatchBuilder;
use weir_protocol::types::TimestampMs;
use weir_sim::{Draft, FleetSpec, Format, Generator, Part, RecordSink};

const PARTITIONS: i32 = 12;
const BATCH_BYTES: usize = 1_000_000;

struct Batches {
    open: Vec<BatchBuilder>,
    partition_of: Vec<usize>,
    bytes: u64,
    built: u64,
}

impl RecordSink for Batches {
    #[inline]
    fn take(&mut self, draft: &Draft<'_>) -> bool {
        let batch = &mut self.open[self.partition_of[draft.device()]];
        let at = TimestampMs((draft.due_ns() / 1_000_000) as i64);
        batch.append_with(at, Some(draft.key()), &[], |out| draft.write(out));
        if batch.size_bytes() > BATCH_BYTES {
            self.bytes += batch.build().len() as u64;
            self.built += 1;
        }
        true
    }
}

/// Makes records and leaves them where they are.
struct Nowhere;

impl RecordSink for Nowhere {
    #[inline]
    fn take(&mut self, draft: &Draft<'_>) -> bool {
        black_box(draft.due_ns());
        true
    }
}

/// Writes them, one over the other.
struct Scratch(Vec<u8>);

impl RecordSink for Scratch {
    #[inline]
    fn take(&mut self, draft: &Draft<'_>) -> bool {
        self.0.clear();
        draft.write(&mut self.0);
        black_box(self.0.len());
        true
    }
}

fn timed(generator: &mut Generator, records: usize, sink: &mut impl RecordSink) -> f64 {
    let started = Instant::now();
    let filled = generator.fill(u64::MAX, records, sink);
    assert_eq!(filled.records, records);
    started.elapsed().as_secs_f64()
}

fn main() -> Result<(), std::num::ParseIntError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, default: usize| args.get(at).map_or(Ok(default), |text| text.parse::<usize>());
    let (devices, records) = (number(0, 10_000)?, number(1, 10_000_000)?);
    let format = match args.get(2).map(String::as_str) {
        Some("protobuf") => Format::Protobuf,
        _ => Format::Json,
    };
    let spec = FleetSpec {
        start: TimestampMs(1_754_217_000_000),
        devices: devices as u32,
        interval: Duration::from_secs(5),
        rate: Some(1_000_000.0),
        anomaly_rate: 0.001,
        format,
        ..FleetSpec::default()
    };
    let mut generator = Generator::new(&spec, Part::WHOLE);
    let partition_of =
        generator.device_ids().map(|id| fnv1a_partition(id, PARTITIONS) as usize).collect();
    let open = (0..PARTITIONS).map(|_| BatchBuilder::new(Codec::None)).collect();
    let mut batches = Batches { open, partition_of, bytes: 0, built: 0 };
    timed(&mut generator, records / 10, &mut batches);
    batches.bytes = 0;
    let mut seconds: Vec<f64> =
        (0..7).map(|_| timed(&mut generator, records, &mut batches)).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[3];
    let ns = |seconds: f64| seconds * 1e9 / records as f64;
    let made = timed(&mut generator, records, &mut Nowhere);
    let written = timed(&mut generator, records, &mut Scratch(Vec::with_capacity(1_024)));
    eprintln!(
        "{} devices, {} bytes a record; a reading {:.1} ns, with its text {:.1} ns, in a batch {:.1} ns ({:.1} to {:.1})",
        devices,
        batches.bytes / (7 * records as u64).max(1),
        ns(made),
        ns(written),
        ns(median),
        ns(seconds[0]),
        ns(seconds[6]),
    );
    println!(
        r#"{{"bench":"weir-sim into batches","devices":{devices},"records":{records},"records_per_second":{:.0},"ns_per_record":{:.1},"bytes_per_record":{},"batches":{}}}"#,
        records as f64 / median,
        ns(median),
        batches.bytes / (7 * records as u64).max(1),
        batches.built,
    );
    Ok(())
}
