//! What runs: Kafka with its topics and groups, the gateway, the console.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use weir_client::admin::{OffsetSpec, TopicDescription};
use weir_client::{Admin, ClientError};
use weir_protocol::ApiKey;

use super::Check;
use crate::command::kafka::{block_on, connect, offsets};
use crate::config::Settings;
use crate::error::Outcome;
use crate::output::grouped;
use crate::up::instance::Holder;

/// How long each question may take: a person waits.
const ANSWER: Duration = Duration::from_secs(5);
/// As the alert of the specification: a group further behind than this is worth a look.
const LAG_MAX: u64 = 10_000;
/// What weir itself asks of a broker, with the version it needs at least.
const NEEDED: [(ApiKey, i16); 13] = [
    (ApiKey::Produce, 3),
    (ApiKey::Fetch, 4),
    (ApiKey::ListOffsets, 1),
    (ApiKey::Metadata, 1),
    (ApiKey::OffsetCommit, 2),
    (ApiKey::OffsetFetch, 1),
    (ApiKey::FindCoordinator, 0),
    (ApiKey::JoinGroup, 0),
    (ApiKey::Heartbeat, 0),
    (ApiKey::LeaveGroup, 0),
    (ApiKey::SyncGroup, 0),
    (ApiKey::CreateTopics, 0),
    (ApiKey::InitProducerId, 0),
];

pub(super) fn checks(
    settings: &Settings,
    running: Option<&Holder>,
    is_asked_for: bool,
) -> Vec<Check> {
    let of_running = running.and_then(|holder| holder.kafka.clone());
    let brokers = match (settings.brokers.is_empty(), of_running) {
        (false, _) => Some(settings.brokers.join(",")),
        (true, told) => told,
    };
    let mut checks = match brokers {
        Some(brokers) => kafka(settings, &brokers),
        None => vec![Check::warning("kafka", "weir is not running", "weir up starts it")],
    };
    if is_asked_for && running.is_none() {
        return checks;
    }
    let Some(running) = running else { return checks };
    let urls = [("gateway", &running.gateway, "/health"), ("console", &running.console, "/")];
    for (name, url, path) in urls {
        checks.extend(url.as_ref().map(|url| http(name, url, path)));
    }
    checks
}

fn http(name: &'static str, url: &str, path: &str) -> Check {
    let agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER)).build().new_agent();
    match agent.get(format!("{url}{path}")).call() {
        Ok(_) => Check::ok(name, format!("{url} answers")),
        Err(error) => {
            Check::problem(name, format!("{url} does not answer: {error}"), "look into its log")
        }
    }
}

fn kafka(settings: &Settings, brokers: &str) -> Vec<Check> {
    let asked = block_on(async {
        let client = match tokio::time::timeout(ANSWER, connect(Some(brokers))).await {
            Ok(client) => client?,
            Err(_) => return Ok(vec![unreachable(brokers, "no answer in time")]),
        };
        let admin = Admin::new(client);
        let mut checks = vec![broker(&admin, brokers).await];
        match in_time(admin.list_topics()).await {
            Err(error) => {
                checks.push(Check::problem("topics", error, "look into the broker's log"))
            }
            Ok(found) => checks.extend(topics(settings, &found)),
        }
        checks.push(groups(&admin, settings).await);
        Ok(checks)
    });
    asked.unwrap_or_else(|error| {
        vec![unreachable(brokers, error.why.as_deref().unwrap_or(&error.what))]
    })
}

fn unreachable(brokers: &str, why: &str) -> Check {
    Check::problem(
        "kafka",
        format!("{brokers} does not answer: {why}"),
        "check the address and that it runs; weir without --brokers has its own",
    )
}

async fn in_time<T>(asked: impl Future<Output = Result<T, ClientError>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
    }
}

async fn broker(admin: &Admin, brokers: &str) -> Check {
    let name = "kafka";
    let versions = match in_time(admin.api_versions()).await {
        Ok(versions) => versions,
        Err(error) => return unreachable(brokers, &error),
    };
    let newest: HashMap<i16, i16> =
        versions.iter().map(|range| (range.api_key, range.version_max)).collect();
    let lacks = NEEDED
        .iter()
        .find(|(key, version)| newest.get(&key.get()).is_none_or(|newest| newest < version));
    match lacks {
        None => Check::ok(name, format!("{brokers} answers and serves {} APIs", versions.len())),
        Some((key, version)) => Check::problem(
            name,
            format!("{brokers} does not serve {key:?} version {version}"),
            "use Apache Kafka 2.1 or newer",
        ),
    }
}

/// Topics that the configuration wants, and what is wrong with those that are there.
fn topics(settings: &Settings, found: &[TopicDescription]) -> Vec<Check> {
    let name = "topics";
    let mut checks = Vec::new();
    for wanted in &settings.topics {
        let count = wanted.partitions as usize;
        match found.iter().find(|topic| *topic.name == *wanted.name) {
            None => checks.push(Check::warning(
                name,
                format!("{} is missing", wanted.name),
                "the next start of weir makes it",
            )),
            Some(topic) if topic.partitions.len() != count => {
                let found = topic.partitions.len();
                let what =
                    format!("{} has {found} partitions, {count} are configured", wanted.name);
                let help = match found < count {
                    true => "add partitions (keys move to others then), or correct topics.* in weir.yaml",
                    false => "partitions cannot be taken away: correct topics.* in weir.yaml",
                };
                checks.push(Check::warning(name, what, help));
            }
            Some(_) => {}
        }
    }
    let partitions =
        || found.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
    let leaderless = partitions().filter(|(_, partition)| partition.leader.is_none()).count();
    if leaderless > 0 {
        let what = format!("{leaderless} partitions have no leader");
        checks.push(Check::problem(name, what, "start the brokers that are down"));
    }
    let behind = partitions()
        .filter(|(_, partition)| partition.in_sync.len() < partition.replicas.len())
        .count();
    if behind > 0 {
        let what = format!("{behind} partitions have fewer copies in sync than replicas");
        checks.push(Check::warning(name, what, "start the brokers that are down"));
    }
    if checks.is_empty() {
        checks.push(Check::ok(name, format!("{} topics, all with leaders", found.len())));
    }
    checks
}

/// The lag of weir's own groups.
async fn groups(admin: &Admin, settings: &Settings) -> Check {
    let name = "groups";
    let lag = async {
        let listed = in_time(admin.list_groups()).await?;
        let own = listed.iter().filter(|group| group.group_id.starts_with(&*settings.group_prefix));
        let mut worst: Option<(u64, String)> = None;
        for group in own {
            let committed = in_time(admin.group_offsets(&group.group_id)).await?;
            let places: Vec<_> = committed.iter().map(|at| at.partition.clone()).collect();
            let ends: Outcome<Vec<_>> = offsets(admin, &places, OffsetSpec::Latest).await;
            let ends = ends.map_err(|error| error.what)?;
            let lag = committed
                .iter()
                .zip(ends)
                .map(|(at, end)| u64::try_from(end.get() - at.offset.get()).unwrap_or(0))
                .sum();
            worst = worst.max(Some((lag, group.group_id.to_string())));
        }
        Ok::<_, String>(worst)
    };
    match lag.await {
        Err(error) => Check::problem(name, error, "look into the broker's log"),
        Ok(None) => Check::ok(name, "weir has none yet"),
        Ok(Some((lag, group))) => {
            let what = format!("the slowest, {group}, is {} records behind", grouped(lag));
            match lag {
                lag if lag > LAG_MAX => {
                    let help = "weir ops check-groups shows where; is its worker running?";
                    Check::warning(name, what, help)
                }
                _ => Check::ok(name, what),
            }
        }
    }
}
