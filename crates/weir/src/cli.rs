//! The command line, declared.

mod care;
mod sim;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use care::*;
pub(crate) use sim::*;

/// The event backbone for device fleets on Apache Kafka.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, long_about = None, disable_help_subcommand = true)]
#[command(
    after_help = "Examples:\n  weir up --demo\n  weir tail drone-events\n  weir ingest events.ndjson --rate 1000\n\nExit code: 0 done, 1 it failed, 2 it was asked wrongly, 130 stopped by force"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything in one process: broker, gateway, worker, console
    Up(UpArgs),
    /// Start the embedded Kafka broker alone
    Broker(BrokerArgs),
    /// Simulate a fleet of devices, against any Kafka, a gateway or a file
    Sim(Box<SimArgs>),
    /// Post events (NDJSON) to a gateway, obeying 429 and Retry-After
    Ingest(IngestArgs),
    /// Write records to a topic, one per line of standard input
    Produce(ProduceArgs),
    /// Print records of a topic as they arrive
    Tail(TailArgs),
    /// List topics, or create or delete one
    Topics(TopicsArgs),
    /// List consumer groups with their lag
    Groups(GroupsArgs),
    /// Look at the files of a log directory: dump, verify, repair
    Log(LogArgs),
    /// Operations: check-groups, reset-offset, monitor-size, cleanup
    Ops(OpsArgs),
    /// Check this machine and this weir for what goes wrong
    Doctor(DoctorArgs),
    /// Show or check the configuration
    Config(ConfigArgs),
    /// Explain an error code
    Explain {
        /// For example WEIR-0801
        code: Option<String>,
    },
}

/// Where the configuration is read from.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// Configuration file; ./weir.yaml if it is there
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Add a simulated fleet that fills every page
    #[arg(long)]
    pub(crate) demo: bool,
    /// Kafka cluster to use instead of the embedded broker
    #[arg(long, value_name = "LIST")]
    pub(crate) brokers: Option<String>,
    /// Where data is kept
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Port of the embedded broker (0: any free one)
    #[arg(long, value_name = "PORT")]
    pub(crate) kafka_port: Option<u16>,
    /// Port of the gateway (0: any free one)
    #[arg(long, value_name = "PORT")]
    pub(crate) gateway_port: Option<u16>,
    /// Port of the console (0: any free one)
    #[arg(long, value_name = "PORT")]
    pub(crate) console_port: Option<u16>,
    /// Listen beyond loopback, without authentication
    #[arg(long)]
    pub(crate) insecure_listen: bool,
    /// Write the log there instead of stderr
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Where data is kept
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Port to listen on (0: any free one)
    #[arg(long, value_name = "PORT")]
    pub(crate) kafka_port: Option<u16>,
    /// Listen beyond loopback, without authentication
    #[arg(long)]
    pub(crate) insecure_listen: bool,
    /// Write the log there instead of stderr
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// File with one event per line; - is standard input
    pub(crate) file: PathBuf,
    /// Gateway to send to
    #[arg(long, value_name = "URL", default_value = DEFAULT_GATEWAY)]
    pub(crate) gateway: String,
    /// Events per second at most
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Events in one request at most
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The Kafka that a command talks to.
#[derive(Debug, Args)]
pub(crate) struct Brokers {
    // The line end keeps it within 80 columns.
    #[arg(
        long,
        value_name = "LIST",
        help = "Kafka (host:port,...), else that of weir.yaml\n",
        env = "KAFKA_BROKERS",
        hide_env_values = true
    )]
    pub(crate) brokers: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// Topic to write to
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) brokers: Brokers,
    /// What stands between key and value of a line
    #[arg(long, value_name = "TEXT")]
    pub(crate) key_separator: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Topic to read
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) brokers: Brokers,
    /// Start with the oldest record instead of the next one
    #[arg(long)]
    pub(crate) from_beginning: bool,
    /// Stop after so many records
    #[arg(long, short = 'n')]
    pub(crate) count: Option<u64>,
    /// Stop at the end of the topic instead of waiting for more
    #[arg(long)]
    pub(crate) exit: bool,
    /// One JSON object per record
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TopicsArgs {
    #[command(flatten)]
    pub(crate) brokers: Brokers,
    /// Create this topic
    #[arg(long, value_name = "NAME", conflicts_with = "delete")]
    pub(crate) create: Option<String>,
    /// Partitions of the topic to create
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: i32,
    /// Delete this topic; only says so without --yes
    #[arg(long, value_name = "NAME")]
    pub(crate) delete: Option<String>,
    /// Really delete
    #[arg(long)]
    pub(crate) yes: bool,
    /// Internal topics too
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GroupsArgs {
    #[command(flatten)]
    pub(crate) brokers: Brokers,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every key with its value; takes the flags of `weir up`
    Show(ConfigShowArgs),
    /// Check the configuration; takes the flags of `weir up`
    Check(UpArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigShowArgs {
    #[command(flatten)]
    pub(crate) up: UpArgs,
    /// Say where each value comes from
    #[arg(long)]
    pub(crate) origin: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const DEFAULT_GATEWAY: &str = "http://127.0.0.1:8084";

#[cfg(test)]
mod documents;
