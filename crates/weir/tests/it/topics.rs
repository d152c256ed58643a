//! Topics that are there when weir starts.

use std::fs;
use std::path::Path;

use weir_client::admin::{ConfigChange, ConfigResource};
use weir_client::{Admin, Client, ClientConfig};

use crate::fleet_store::log;
use crate::process::{cluster, Weir};

fn block_on<T>(call: impl std::future::Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(call)
}

async fn admin(brokers: &str) -> Admin {
    Admin::new(Client::connect_tcp(ClientConfig::new(brokers.split(','))).await.unwrap())
}

fn retention_of(brokers: &str, topic: &str) -> String {
    block_on(async {
        let configs = admin(brokers).await.describe_topic_configs(topic).await.unwrap();
        let found = configs.into_iter().find(|entry| &*entry.name == "retention.ms").unwrap();
        found.value.unwrap().to_string()
    })
}

fn set_retention(brokers: &str, topic: &str, ms: &str) {
    block_on(async {
        let resource = ConfigResource::Topic(topic.to_owned());
        let change = [("retention.ms", ConfigChange::Set(ms.to_owned()))];
        admin(brokers).await.alter_configs(&resource, &change).await.unwrap();
    });
}

fn up_with(dir: &Path, yaml: &str) -> Weir {
    let config = dir.join("weir.yaml");
    fs::write(&config, yaml).unwrap();
    Weir::up(dir, &["--config", config.to_str().unwrap()])
}

#[test]
fn a_start_sets_the_retention_that_weir_yaml_names_on_topics_that_are_there_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    // Names of its own, as a cluster may be shared.
    let own = |what: &str| format!("{what}{}", dir.path().file_name().unwrap().to_string_lossy());
    let (named, other, spread) = (own("named"), own("other"), own("spread"));
    let topics = |named_is: &str, spread_is: u32| {
        format!(
            "topics:\n  {named}: {{retention: {named_is}}}\n  {other}: {{partitions: 1}}\n  {spread}: {{partitions: {spread_is}}}\n"
        )
    };
    let weir = up_with(dir.path(), &topics("3h", 2));
    assert_eq!(retention_of(&weir.kafka, &named), "10800000");
    set_retention(&weir.kafka, &other, "7000000");
    weir.terminate();

    let weir = up_with(dir.path(), &topics("2h", 5));
    assert_eq!(retention_of(&weir.kafka, &named), "7200000");
    assert_eq!(retention_of(&weir.kafka, &other), "7000000", "set by somebody else");
    let said = log(dir.path());
    let change = said.lines().find(|line| line.contains(&named)).unwrap_or_default();
    assert!(change.contains("10800000") && change.contains("7200000"), "{said}");
    let warned = said.lines().find(|line| line.contains(&spread)).unwrap_or_default();
    assert!(warned.contains("has 2 partitions") && warned.contains("--partitions 5"), "{said}");
    weir.terminate();

    // What is as it should be is not said, and one of weir's own defaults is nobody's wish.
    if cluster().is_none() {
        let weir = Weir::up(dir.path(), &[]);
        set_retention(&weir.kafka, "monitoring-data", "99000000");
        weir.terminate();
        let weir = up_with(dir.path(), &topics("2h", 2));
        assert_eq!(retention_of(&weir.kafka, "monitoring-data"), "99000000");
        assert!(!log(dir.path()).contains(&named), "{}", log(dir.path()));
        weir.terminate();
        let weir = up_with(dir.path(), "topics: {monitoring-data: {retention: 30d}}");
        assert_eq!(retention_of(&weir.kafka, "monitoring-data"), "2592000000");
        weir.terminate();
    }
}
