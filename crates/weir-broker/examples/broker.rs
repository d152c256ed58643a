//! A bare broker: `cargo run --release -p weir-broker --example broker -- PORT DATA_DIR`. Ends with Ctrl-C.
#![allow(clippy::print_stdout, clippy::disallowed_methods)] // A main function: it talks to a person and has the clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use weir_broker::{BrokerConfig, BrokerServer};
use weir_protocol::{Clock, TimestampMs};

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> TimestampMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let started = std::time::Instant::now();
    let mut args = std::env::args().skip(1);
    let port = args.next().unwrap_or_else(|| "9092".to_owned()).parse()?;
    let mut config = BrokerConfig::default();
    config.listen.set_port(port);
    config.data_dir = PathBuf::from(args.next().unwrap_or_else(|| "weir-data".to_owned()));
    let server = BrokerServer::start(config, Arc::new(SystemClock)).await?;
    println!("listening on {} after {:?}", server.local_addr(), started.elapsed());
    tokio::signal::ctrl_c().await?;
    let stopping = std::time::Instant::now();
    server.shutdown().await?;
    println!("stopped in {:?}", stopping.elapsed());
    Ok(())
}
