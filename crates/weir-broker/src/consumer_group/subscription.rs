//! What the members read: names, patterns, and whether the topics behind them have changed.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use weir_protocol::api::consumer_group_records::ConsumerGroupRegularExpressionValue;
use weir_protocol::{ErrorCode, Str, TimestampMs, Uuid};

use super::assignor::AssignedMember;
use super::changes::Change;
use super::{ConsumerGroup, Heartbeat, Refusal};
use crate::re2;

/// Different patterns of one group. Each is compiled again when topics have changed.
const REGEXES_MAX: usize = 100;

/// The topics, as far as groups need to know them.
pub trait TopicLookup {
    /// Grows with each change of names and partitions, in this run.
    fn version(&self) -> u64;

    /// Id and number of partitions.
    fn find(&self, name: &str) -> Option<(Uuid, i32)>;

    /// The name of the topic with this id.
    fn name_of(&self, id: Uuid) -> Option<Str>;

    /// Calls `then` with each name, in order.
    fn for_each_name(&self, then: &mut dyn FnMut(&Str));
}

impl ConsumerGroup {
    /// The pattern of a heartbeat, compiled if it is new to the group. Those that it has were checked.
    pub(super) fn check_regex(&self, beat: &Heartbeat) -> Result<Option<(Str, Regex)>, Refusal> {
        let regex = beat.regex.as_ref().filter(|regex| !regex.is_empty());
        let Some(pattern) = regex.filter(|regex| !self.regexes.contains_key(*regex)) else {
            return Ok(None);
        };
        if self.regexes.len() >= REGEXES_MAX {
            let words = format!("The members of the group have {REGEXES_MAX} patterns already.");
            return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, words));
        }
        match re2::whole_match(pattern) {
            Ok(regex) => Ok(Some((pattern.clone(), regex))),
            Err(why) => {
                let words = format!(
                    "SubscribedTopicRegex `{pattern}` is not a valid regular expression: {why}."
                );
                Err(Refusal::new(ErrorCode::InvalidRegularExpression, words))
            }
        }
    }

    /// Whether a member reads this topic.
    #[must_use]
    pub fn subscribes_to(&self, topic: &str) -> bool {
        let means = |regex: &Str| {
            self.regexes.get(regex).is_some_and(|resolved| resolved.topics.contains(topic))
        };
        self.members
            .values()
            .any(|member| member.topics.contains(topic) || member.regex.as_ref().is_some_and(means))
    }

    /// Looks the patterns up again where topics have changed, that of `compiled` if it is new, and begins a new epoch if `bump`, or if the topics that are
    /// read have changed.
    pub(super) fn refresh(
        &mut self,
        bump: bool,
        compiled: Option<(Str, Regex)>,
        topics: &dyn TopicLookup,
        now: TimestampMs,
        out: &mut Vec<Change>,
    ) {
        let version = topics.version();
        let topics_changed = self.seen_topics != Some(version);
        if !bump && !topics_changed {
            return;
        }
        self.resolve(topics_changed, compiled, topics, now, out);
        self.seen_topics = Some(version);
        let hash = self.subscription_hash(topics);
        if bump || hash != self.metadata_hash {
            self.bump(hash, now, out);
        }
    }

    /// Looks up the patterns that are new, all of them if topics have changed, and drops those that nobody has any more.
    fn resolve(
        &mut self,
        topics_changed: bool,
        mut compiled: Option<(Str, Regex)>,
        topics: &dyn TopicLookup,
        now: TimestampMs,
        out: &mut Vec<Change>,
    ) {
        let used: BTreeSet<Str> =
            self.members.values().filter_map(|member| member.regex.clone()).collect();
        let unused: Vec<Str> =
            self.regexes.keys().filter(|regex| !used.contains(*regex)).cloned().collect();
        for regex in unused {
            self.emit(Change::Regex(regex, None), now, out);
        }
        for pattern in used {
            let before = self.regexes.get(&pattern);
            if before.is_some() && !topics_changed {
                continue;
            }
            let mut found = Vec::new();
            // Checked when it came; one in the log may be of a version with another syntax, and then means nothing.
            let regex = match compiled.take_if(|(of, _)| *of == pattern) {
                Some((_, regex)) => Ok(regex),
                None => re2::whole_match(&pattern),
            };
            if let Ok(regex) = regex {
                topics.for_each_name(&mut |name| {
                    if regex.is_match(name) {
                        found.push(name.clone());
                    }
                });
            }
            if before.is_some_and(|before| before.topics.iter().eq(&found)) {
                continue;
            }
            let version = i64::try_from(topics.version()).unwrap_or(i64::MAX);
            let value = ConsumerGroupRegularExpressionValue {
                topics: found,
                version,
                timestamp: now.get(),
            };
            self.emit(Change::Regex(pattern, Some(value)), now, out);
        }
    }

    /// The topics of all members that there are.
    pub(super) fn subscribed_topics(&self, topics: &dyn TopicLookup) -> BTreeMap<Str, (Uuid, i32)> {
        let mut found = BTreeMap::new();
        let named = self.members.values().flat_map(|member| &member.topics);
        let meant = self.regexes.values().flat_map(|resolved| &resolved.topics);
        for name in named.chain(meant) {
            if let Some(place) = topics.find(name) {
                found.insert(name.clone(), place);
            }
        }
        found
    }

    /// FNV-1a over names, ids and sizes of the topics that are read: another number means another epoch, the same one
    /// across restarts does not. Kafka only compares it with its own.
    fn subscription_hash(&self, topics: &dyn TopicLookup) -> i64 {
        let subscribed = self.subscribed_topics(topics);
        if subscribed.is_empty() {
            return 0;
        }
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (name, (id, partitions)) in subscribed {
            add(name.as_bytes());
            add(&[0]);
            add(&id.0);
            add(&partitions.to_be_bytes());
        }
        hash as i64
    }

    /// What an assignor looks at.
    pub(super) fn members_for_assignor(&self, topics: &dyn TopicLookup) -> Vec<AssignedMember> {
        let places = self.subscribed_topics(topics);
        let of_member = |member: &super::Member| {
            let meant = member.regex.as_ref().and_then(|regex| self.regexes.get(regex));
            let meant = meant.into_iter().flat_map(|resolved| &resolved.topics);
            member.topics.iter().chain(meant).filter_map(|name| places.get(name).copied()).collect()
        };
        self.members
            .values()
            .map(|member| AssignedMember {
                id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                topics: of_member(member),
                target: self.target.get(&member.id).cloned().unwrap_or_default(),
            })
            .collect()
    }
}
