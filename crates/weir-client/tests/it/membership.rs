//! Members of groups on a real coordinator: both protocols, what they keep and what they hand on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_client::assignor::Assignor;
use weir_client::{
    ClientError, Consumer, DoneBy, GroupConfig, GroupProtocol, PartitionOffset, RebalanceHook,
    TopicPartition,
};
use weir_protocol::types::{Offset, PartitionId};

use crate::cluster::{deadline, unique, Cluster, POLL};

const PARTITIONS: i32 = 6;

/// What a hook was told, in order.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Vec<(&'static str, usize)>>);

impl Told {
    fn note(&self, what: &'static str, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push((what, partitions.len()));
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        let told = self.0.lock().unwrap();
        told.iter().filter(|(told, _)| *told == what).map(|(_, partitions)| partitions).sum()
    }
}

impl RebalanceHook for Told {
    fn revoked(&self, partitions: &[TopicPartition]) -> Vec<PartitionOffset> {
        self.note("revoked", partitions);
        Vec::new()
    }

    fn assigned(&self, partitions: &[TopicPartition]) {
        self.note("assigned", partitions);
    }

    fn lost(&self, partitions: &[TopicPartition]) {
        self.note("lost", partitions);
    }
}

fn cooperative(group: &str) -> GroupConfig {
    let mut config = GroupConfig::new(group).with_auto_commit(1_000);
    config.assignors = vec![Assignor::CooperativeSticky];
    config.session_timeout_ms = 10_000;
    config.heartbeat_interval_ms = 300;
    config
}

fn consumer_protocol(group: &str) -> GroupConfig {
    let mut config = GroupConfig::new(group).with_auto_commit(1_000);
    config.protocol = GroupProtocol::Consumer;
    config
}

/// Records by partition, in the order in which members were given them.
#[derive(Debug, Default)]
struct Seen(BTreeMap<i32, Vec<i64>>);

impl Seen {
    async fn poll(&mut self, consumer: &Consumer) {
        for record in consumer.poll(POLL).await.unwrap() {
            self.0.entry(record.partition.get()).or_default().push(record.offset.get());
        }
    }

    fn total(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

/// Polls all until it is so.
async fn poll_until(members: &[&Consumer], seen: &mut Seen, is_so: impl Fn(&Seen) -> bool) {
    let until = deadline();
    while !is_so(seen) {
        let held: Vec<usize> = members.iter().map(|member| member.assignment().len()).collect();
        assert!(tokio::time::Instant::now() < until, "it never came: {held:?}");
        for member in members {
            seen.poll(member).await;
        }
    }
}

fn shares(members: &[&Consumer]) -> Vec<usize> {
    members.iter().map(|member| member.assignment().len()).collect()
}

/// A second member joins and leaves while the first reads; every record comes once, in order, and the
/// first never gives up what it keeps.
async fn two_share(config: GroupConfig, first_keeps: bool) {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("share", PARTITIONS).await;
    cluster.fill(&topic, PARTITIONS, 0, 50).await;
    let told = Arc::new(Told::default());
    let mut hooked = config.clone();
    hooked.hook = Some(Arc::clone(&told) as Arc<dyn RebalanceHook>);
    let first = cluster.member(hooked, &topic).await;
    let mut seen = Seen::default();
    poll_until(&[&first], &mut seen, |seen| seen.total() == 300).await;

    let second = cluster.member(config, &topic).await;
    let both = [&first, &second];
    poll_until(&both, &mut seen, |_| shares(&both) == [3, 3]).await;
    cluster.fill(&topic, PARTITIONS, 50, 50).await;
    poll_until(&both, &mut seen, |seen| seen.total() >= 600).await;
    let owned: BTreeSet<TopicPartition> =
        both.iter().flat_map(|member| member.assignment()).collect();
    assert_eq!(owned.len(), 6, "nothing has two owners");

    second.close().await.unwrap();
    poll_until(&[&first], &mut seen, |_| first.assignment().len() == 6).await;
    cluster.fill(&topic, PARTITIONS, 100, 10).await;
    poll_until(&[&first], &mut seen, |seen| seen.total() >= 660).await;
    first.close().await.unwrap();
    for partition in 0..PARTITIONS {
        assert_eq!(seen.0[&partition], (0..110).collect::<Vec<i64>>(), "partition {partition}");
    }
    assert_eq!(told.count("lost"), 0);
    if first_keeps {
        // Three went to the second, and all six at the end.
        assert_eq!(told.count("revoked"), 3 + 6, "{told:?}");
        assert_eq!(told.count("assigned"), 6 + 3, "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn eager_members_share_and_no_record_comes_twice() {
    let mut config = cooperative(&unique("eager"));
    config.assignors = vec![Assignor::Range, Assignor::CooperativeSticky];
    two_share(config, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cooperative_members_hand_on_only_what_moves() {
    two_share(cooperative(&unique("cooperative")), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_the_consumer_protocol_hand_on_only_what_moves() {
    two_share(consumer_protocol(&unique("consumer")), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_takes_topics_in_as_they_are_made() {
    let cluster = Cluster::start().await;
    let prefix = unique("pattern");
    cluster.make_topic(&format!("{prefix}.a"), 2).await;
    let member = cluster.consumer(Some(consumer_protocol(&unique("g")))).await;
    member.subscribe_pattern(&format!("{prefix}\\..*")).unwrap();
    let mut seen = Seen::default();
    poll_until(&[&member], &mut seen, |_| member.assignment().len() == 2).await;
    cluster.make_topic(&format!("{prefix}.b"), 3).await;
    poll_until(&[&member], &mut seen, |_| member.assignment().len() == 5).await;
    cluster.fill(&format!("{prefix}.b"), 3, 0, 2).await;
    poll_until(&[&member], &mut seen, |seen| seen.total() == 6).await;
    // Back to a name: the pattern is taken back.
    member.subscribe(&[&format!("{prefix}.a")]).unwrap();
    poll_until(&[&member], &mut seen, |_| member.assignment().len() == 2).await;
    member.close().await.unwrap();

    let classic = cluster.consumer(Some(cooperative(&unique("g")))).await;
    assert_eq!(classic.subscribe_pattern("x.*").unwrap_err().code(), "WEIR-0423");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignor_that_the_coordinator_does_not_have_is_told() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("assignor", 1).await;
    let mut config = consumer_protocol(&unique("g"));
    config.server_assignor = Some("nobody-has-this".to_owned());
    let member = cluster.member(config, &topic).await;
    let until = deadline();
    let error = loop {
        assert!(tokio::time::Instant::now() < until);
        if let Err(error) = member.poll(POLL).await {
            break error;
        }
    };
    let code = error.broker_code().map(weir_protocol::error_code::ErrorCode::name);
    assert_eq!(code, Some("UNSUPPORTED_ASSIGNOR"), "{error}");
    member.close().await.unwrap();
}

/// A static member that comes back within its session gets what it had, and others notice nothing.
async fn static_member_returns(config: GroupConfig) {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("static", 4).await;
    let told = Arc::new(Told::default());
    let mut hooked = config.clone();
    hooked.hook = Some(Arc::clone(&told) as Arc<dyn RebalanceHook>);
    let with_id = |id: &str, config: &GroupConfig| {
        let mut config = config.clone();
        config.instance_id = Some(id.to_owned());
        config
    };
    let stays = cluster.member(with_id("one", &hooked), &topic).await;
    let goes = cluster.member(with_id("two", &config), &topic).await;
    let mut seen = Seen::default();
    poll_until(&[&stays, &goes], &mut seen, |_| shares(&[&stays, &goes]) == [2, 2]).await;
    let had = goes.assignment();
    goes.close().await.unwrap();
    let moved = || ["assigned", "revoked", "lost"].map(|what| told.count(what));
    let before = moved();
    let back = cluster.member(with_id("two", &config), &topic).await;
    poll_until(&[&stays, &back], &mut seen, |_| back.assignment().len() == 2).await;
    assert_eq!(back.assignment(), had);
    assert_eq!(moved(), before, "{told:?}");
    stays.close().await.unwrap();
    back.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_of_a_classic_group_returns_to_what_it_had() {
    static_member_returns(cooperative(&unique("static"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_of_a_consumer_group_returns_to_what_it_had() {
    static_member_returns(consumer_protocol(&unique("static"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_leader_that_is_back_deals_the_partitions_added_while_it_was_away() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("leader", 4).await;
    let told = Arc::new(Told::default());
    let mut config = cooperative(&unique("leader"));
    // Eager: every rebalance is told to every member.
    config.assignors = vec![Assignor::Range];
    // Nobody who is away is given up.
    config.session_timeout_ms = 60_000;
    let mut leads = config.clone();
    leads.instance_id = Some("leads".to_owned());
    config.instance_id = Some("follows".to_owned());
    config.hook = Some(Arc::clone(&told) as Arc<dyn RebalanceHook>);
    let mut seen = Seen::default();
    let leader = cluster.member(leads.clone(), &topic).await;
    poll_until(&[&leader], &mut seen, |_| leader.assignment().len() == 4).await;
    let follower = cluster.member(config, &topic).await;
    let both = [&leader, &follower];
    poll_until(&both, &mut seen, |_| shares(&both) == [2, 2]).await;
    let moved = || ["revoked", "assigned", "lost"].map(|what| told.count(what));
    let [revoked, assigned, lost] = moved();

    leader.close().await.unwrap();
    let leader = cluster.member(leads.clone(), &topic).await;
    let both = [&leader, &follower];
    cluster.fill(&topic, 4, 0, 10).await;
    poll_until(&both, &mut seen, |seen| seen.total() == 40).await;
    assert_eq!(moved(), [revoked, assigned, lost], "it came back to what it had dealt");

    leader.close().await.unwrap();
    cluster.admin().await.create_partitions(&topic, 6).await.unwrap();
    let leader = cluster.member(leads, &topic).await;
    let both = [&leader, &follower];
    poll_until(&both, &mut seen, |_| shares(&both) == [3, 3]).await;
    assert_eq!(moved(), [revoked + 2, assigned + 3, lost], "by one rebalance");
    cluster.fill(&topic, 6, 10, 10).await;
    poll_until(&both, &mut seen, |seen| seen.total() >= 100).await;
    leader.close().await.unwrap();
    follower.close().await.unwrap();
}

async fn unpolled_member_leaves(mut config: GroupConfig) {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("unpolled", 2).await;
    config.poll_interval_ms_max = 1_500;
    let idle = cluster.member(config.clone(), &topic).await;
    let mut seen = Seen::default();
    poll_until(&[&idle], &mut seen, |_| idle.assignment().len() == 2).await;
    config.poll_interval_ms_max = 60_000;
    let other = cluster.member(config, &topic).await;
    poll_until(&[&other], &mut seen, |_| other.assignment().len() == 2).await;
    let told = idle.poll(POLL).await;
    assert!(matches!(told, Err(ClientError::PollTooLate { interval_ms: 1_500 })), "{told:?}");
    assert_eq!(idle.assignment(), []);
    // It polls again, so it is a member again.
    poll_until(&[&idle, &other], &mut seen, |_| shares(&[&idle, &other]) == [1, 1]).await;
    idle.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_a_classic_group_that_does_not_poll_leaves_and_says_so() {
    unpolled_member_leaves(cooperative(&unique("unpolled"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_a_consumer_group_that_does_not_poll_leaves_and_says_so() {
    unpolled_member_leaves(consumer_protocol(&unique("unpolled"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_by_count_stop_before_the_lowest_record_that_is_not_done() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("done", 1).await;
    cluster.fill(&topic, 1, 0, 20).await;
    let group = unique("done");
    let mut config = GroupConfig::new(group.as_str());
    config.auto_commit_records = Some(5);
    config.done_by = DoneBy::Record;
    config.commit_on_revoke = true;
    let member = cluster.member(config, &topic).await;
    let mut seen = Seen::default();
    poll_until(&[&member], &mut seen, |seen| seen.total() == 20).await;
    let partition = TopicPartition::new(&topic, PartitionId(0));
    for offset in [0, 1, 2, 4, 5, 19] {
        assert!(member.done(&partition, Offset(offset)), "{offset}");
    }
    let admin = cluster.admin().await;
    let until = deadline();
    loop {
        // What was returned before counts at the next poll.
        member.poll(POLL).await.unwrap();
        let committed = admin.group_offsets(&group).await.unwrap();
        let last = committed.first().map(|entry| entry.offset.get());
        if last == Some(3) {
            break;
        }
        assert!(last.is_none_or(|last| last == 0), "{committed:?}");
        assert!(tokio::time::Instant::now() < until, "never committed");
        cluster.fill(&topic, 1, 100, 5).await;
        for record in member.poll(Duration::from_secs(5)).await.unwrap() {
            member.done(&partition, record.offset);
        }
    }
    member.done(&partition, Offset(3));
    member.close().await.unwrap();
    let committed = admin.group_offsets(&group).await.unwrap();
    assert_eq!(committed[0].offset, Offset(6), "on close too");
}
