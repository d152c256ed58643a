//! The command line of the simulator.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Brokers, ConfigFile, DEFAULT_GATEWAY};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  weir sim --devices 10000\n  weir sim --rate 100000 --duration 1m --json\n  weir sim --scenario rush.yaml --speed 1000 --output rush.ndjson\n  weir sim verify"
)]
pub(crate) struct SimArgs {
    #[command(subcommand)]
    pub(crate) command: Option<SimCommand>,
    #[command(flatten)]
    pub(crate) fleet: SimFleetArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// The demonstration's drones and sensors, to a gateway
    Demo(SimDemoArgs),
    /// Read what was sent, and tell what was lost, twice or out of order
    Verify(SimVerifyArgs),
    /// Print distributions and alarms of the sensors, with what is measured
    Sensors(SimSensorsArgs),
    /// Print the JSON schema of a reading, or the Protobuf message
    Schema {
        /// json or protobuf
        #[arg(long, default_value = "json", hide_possible_values = true)]
        format: SimFormat,
    },
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SimFormat {
    /// Events, as the gateway takes them
    Json,
    /// SensorReading of `weir sim schema --format protobuf`
    Protobuf,
}

#[derive(Debug, Args)]
pub(crate) struct SimFleetArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    // The line end keeps it within 80 columns.
    #[arg(
        long,
        value_name = "LIST",
        help = "Kafka to send to, else that of weir.yaml\n",
        env = "KAFKA_BROKERS",
        hide_env_values = true
    )]
    pub(crate) brokers: Option<String>,
    #[arg(long, help = "Topic of the readings\n", env = "KAFKA_TOPIC", hide_env_values = true)]
    pub(crate) topic: Option<String>,
    /// Send to this gateway instead
    #[arg(long, value_name = "URL", conflicts_with = "output")]
    pub(crate) gateway: Option<String>,
    /// Write to this file instead; - is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Profiles, phases, outages, wrong data, in YAML
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// How many devices, 1 to 100000
    #[arg(long, value_name = "N")]
    pub(crate) devices: Option<String>,
    /// How often each reads its sensors, from 100ms
    #[arg(long, value_name = "TIME")]
    pub(crate) interval: Option<String>,
    /// Records per second of all, instead of intervals
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Same seed and start, same bytes
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Fleet's time at the start; default: now
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<String>,
    /// Times the clock's pace, or max
    #[arg(long, value_name = "X", default_value = "1")]
    pub(crate) speed: String,
    /// Stop after so much of the fleet's time
    #[arg(long, value_name = "TIME")]
    pub(crate) duration: Option<String>,
    /// Part of the fleet, of so many
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub(crate) shard: String,
    /// Threads; what is sent does not depend on it
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<String>,
    /// Chance that an anomaly begins, 0 to 0.1
    #[arg(long, value_name = "RATE")]
    pub(crate) anomaly_rate: Option<String>,
    /// json or protobuf
    #[arg(long, default_value = "json", hide_possible_values = true)]
    pub(crate) format: SimFormat,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC")]
    pub(crate) compression: Option<String>,
    /// -1 (all, on disk), 1 or 0
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) acks: Option<String>,
    /// Topic of the ground truth; else TOPIC-truth
    #[arg(long, value_name = "TOPIC", conflicts_with = "no_truth")]
    pub(crate) truth_topic: Option<String>,
    /// Send no ground truth
    #[arg(long)]
    pub(crate) no_truth: bool,
    /// Serve health, metrics and devices there
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Find the highest rate that is kept
    #[arg(long, conflicts_with_all = ["output", "speed", "duration", "listen"])]
    pub(crate) max_rate: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SimDemoArgs {
    /// Gateway to send to
    #[arg(long, value_name = "URL", default_value = DEFAULT_GATEWAY)]
    pub(crate) gateway: String,
    // The line end keeps it within 80 columns.
    #[arg(
        long,
        value_name = "LIST",
        help = "Kafka that tells of alerts, else weir.yaml's\n",
        env = "KAFKA_BROKERS",
        hide_env_values = true
    )]
    pub(crate) brokers: Option<String>,
    /// Topic of the sensors' readings
    #[arg(long, env = "KAFKA_TOPIC", hide_env_values = true)]
    pub(crate) topic: Option<String>,
    /// The same seed makes the same fleet
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Stop after so many seconds
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct SimVerifyArgs {
    #[command(flatten)]
    pub(crate) brokers: Brokers,
    #[arg(
        long,
        help = "Topic of the readings\n",
        env = "KAFKA_TOPIC",
        hide_env_values = true,
        default_value = "iot-sensor-data"
    )]
    pub(crate) topic: String,
    /// Topic of the ground truth; else TOPIC-truth
    #[arg(long, value_name = "TOPIC")]
    pub(crate) truth_topic: Option<String>,
    /// Go on so many seconds, and tell latencies
    #[arg(long, value_name = "SECONDS")]
    pub(crate) follow: Option<u64>,
    /// json or protobuf
    #[arg(long, default_value = "json", hide_possible_values = true)]
    pub(crate) format: SimFormat,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SimSensorsArgs {
    /// Readings of each sensor
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) readings: u64,
    /// Their seed
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// With anomalies at this rate, 0 to 0.1
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    pub(crate) anomaly_rate: f64,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
