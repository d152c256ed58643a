//! `weir sim`: a fleet of simulated devices, and what becomes of what they send.

mod demo;
mod drive;
mod fleet;
mod http;
mod kafka_target;
mod other_targets;
mod plan;
mod sensors;
mod summary;
mod verify;

use crate::cli::{SimArgs, SimCommand, SimFormat};
use crate::error::Outcome;

const JSON_SCHEMA: &str = include_str!("../../../weir-sim/assets/sensor-reading.schema.json");
const PROTOBUF: &str = include_str!("../../../weir-sim/assets/weir-sim.proto");

pub(crate) fn run(args: &SimArgs) -> Outcome {
    match &args.command {
        None => fleet::run(&args.fleet),
        Some(SimCommand::Demo(args)) => demo::run(args),
        Some(SimCommand::Verify(args)) => verify::run(args),
        Some(SimCommand::Sensors(args)) => sensors::run(args),
        Some(SimCommand::Schema { format }) => {
            match format {
                SimFormat::Json => out!("{JSON_SCHEMA}"),
                SimFormat::Protobuf => out!("{PROTOBUF}"),
            }
            Ok(())
        }
    }
}

/// The topic of the ground truth about readings in `topic`, unless it has a name of its own.
fn truth_topic(topic: &str, named: Option<&str>) -> String {
    named.map_or_else(|| format!("{topic}-truth"), str::to_owned)
}

const fn format_of(format: SimFormat) -> weir_sim::Format {
    match format {
        SimFormat::Json => weir_sim::Format::Json,
        SimFormat::Protobuf => weir_sim::Format::Protobuf,
    }
}
