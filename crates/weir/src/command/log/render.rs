//! Batches and records as a person or a program reads them.

use bytes::Bytes;
use serde_json::{json, Map, Value};
use weir_broker::consumer_group::Change;
use weir_broker::offset_records::{CommittedOffset, ConsumerKey, GroupMetadataValue, OffsetKey};
use weir_protocol::api::consumer_group_records::TopicPartitions;
use weir_protocol::batch::{BatchView, Record, TimestampType};
use weir_protocol::compression::Codec;
use weir_protocol::Str;

/// Bytes of a key, value or header that are shown to a person, and to a program.
const TEXT_BYTES_MAX: usize = 200;
const JSON_BYTES_MAX: usize = 64 << 10;
/// Headers of one record that are shown.
const HEADERS_MAX: usize = 100;

pub(super) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The codec of a batch by name; a number that nobody has defined as it is.
pub(super) fn codec(batch: &BatchView<'_>) -> String {
    match batch.codec() {
        Ok(codec) => Codec::name(codec).to_owned(),
        Err(_) => format!("codec {}", batch.attributes() & 7),
    }
}

pub(super) fn timestamp_type(batch: &BatchView<'_>) -> &'static str {
    match batch.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

/// The fields of a batch.
pub(super) fn batch_json(
    position: u64,
    size_bytes: u64,
    batch: &BatchView<'_>,
) -> Map<String, Value> {
    let fields = json!({
        "base_offset": batch.base_offset().get(),
        "last_offset": batch.last_offset().get(),
        "position": position,
        "size_bytes": size_bytes,
        "magic": 2,
        "leader_epoch": batch.partition_leader_epoch().get(),
        "records": batch.record_count(),
        "codec": codec(batch),
        "timestamp_type": timestamp_type(batch),
        "base_timestamp_ms": batch.base_timestamp().get(),
        "max_timestamp_ms": batch.max_timestamp().get(),
        "producer_id": batch.producer_id().get(),
        "producer_epoch": batch.producer_epoch().get(),
        "base_sequence": batch.base_sequence().get(),
        "last_sequence": batch.last_sequence().get(),
        "transactional": batch.is_transactional(),
        "control": batch.is_control(),
        "delete_horizon_ms": batch.delete_horizon().map(|at| at.get()),
        "crc": batch.crc(),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The fields of a record. Keys and values that are not text come as hex; long ones are cut.
pub(super) fn record_json(topic: &str, is_control: bool, record: &Record) -> Map<String, Value> {
    let bytes = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|b| clip(b, JSON_BYTES_MAX));
    let headers: Vec<Value> = record
        .headers
        .iter()
        .take(HEADERS_MAX)
        .map(|(name, value)| json!([&*name, value.map(|value| clip(&value, JSON_BYTES_MAX))]))
        .collect();
    let mut fields = Map::from_iter([
        ("offset".to_owned(), json!(record.offset.get())),
        ("timestamp_ms".to_owned(), json!(record.timestamp.get())),
        ("key".to_owned(), json!(bytes(&record.key))),
        ("value".to_owned(), json!(bytes(&record.value))),
        ("key_bytes".to_owned(), json!(record.key.as_ref().map(|key| key.len()))),
        ("value_bytes".to_owned(), json!(record.value.as_ref().map(|value| value.len()))),
        ("headers".to_owned(), json!(headers)),
    ]);
    if let Some(decoded) = decoded(topic, is_control, record) {
        fields.insert("decoded".to_owned(), decoded);
    }
    fields
}

/// A record in one line.
pub(super) fn record_text(topic: &str, is_control: bool, record: &Record) -> String {
    let (offset, timestamp) = (record.offset, record.timestamp);
    if let Some(decoded) = decoded(topic, is_control, record) {
        return format!("{offset}  {timestamp}  {decoded}");
    }
    let show = |bytes: &Option<bytes::Bytes>| match bytes {
        Some(bytes) => clip(bytes, TEXT_BYTES_MAX),
        None => "null".to_owned(),
    };
    let mut line = format!("{offset}  {timestamp}  {}  {}", show(&record.key), show(&record.value));
    for (name, value) in record.headers.iter().take(HEADERS_MAX) {
        let value = show(&value);
        line.push_str(&format!("  {}={value}", escaped(&name)));
    }
    line
}

/// What the record says, where its form is known: markers, and the records of `__consumer_offsets`.
fn decoded(topic: &str, is_control: bool, record: &Record) -> Option<Value> {
    let key = record.key.clone()?;
    if is_control {
        let kind = i16::from_be_bytes([*key.get(2)?, *key.get(3)?]);
        let epoch = record.value.as_ref().and_then(|value| value.get(2..6)?.first_chunk().copied());
        let name = match kind {
            0 => "abort",
            1 => "commit",
            _ => return Some(json!({"control": kind})),
        };
        return Some(json!({"marker": name, "coordinator_epoch": epoch.map(i32::from_be_bytes)}));
    }
    if topic != OFFSETS_TOPIC {
        return None;
    }
    Some(match OffsetKey::decode(key).ok()? {
        OffsetKey::Commit { group, topic, partition } => {
            let committed = record.value.clone().map(CommittedOffset::decode);
            let value = match committed {
                None => Value::Null,
                Some(Ok(at)) => json!({"offset": at.offset, "leader_epoch": at.leader_epoch,
                    "metadata": &*at.metadata, "commit_timestamp_ms": at.commit_timestamp_ms}),
                Some(Err(error)) => json!({"error": error.to_string()}),
            };
            json!({"offset_commit": {"group": &*group, "topic": &*topic, "partition": partition},
                   "value": value})
        }
        OffsetKey::Group { group } => {
            let value = match record.value.clone().map(GroupMetadataValue::decode) {
                None => Value::Null,
                Some(Ok(one)) => json!({
                    "protocol_type": &*one.protocol_type, "generation": one.generation,
                    "protocol": one.protocol.as_deref(), "leader": one.leader.as_deref(),
                    "members": one.members.iter().map(|member| json!({
                        "member_id": &*member.member_id, "client_id": &*member.client_id,
                        "client_host": &*member.client_host,
                    })).collect::<Vec<_>>(),
                }),
                Some(Err(error)) => json!({"error": error.to_string()}),
            };
            json!({"group": &*group, "value": value})
        }
        OffsetKey::Consumer { group, key } => {
            consumer_group_part(&group, key, record.value.clone())
        }
        OffsetKey::Other(kind) => json!({"record_type": kind}),
    })
}

/// A record of a consumer group (KIP-848).
fn consumer_group_part(group: &str, key: ConsumerKey, value: Option<Bytes>) -> Value {
    let is_tombstone = value.is_none();
    let change = match Change::decode(key, value) {
        Ok(Some(change)) => change,
        Ok(None) => return json!({"consumer_group": group, "part": "partition_metadata"}),
        Err(error) => return json!({"consumer_group": group, "error": error.to_string()}),
    };
    let assigned = |topics: &[TopicPartitions]| -> Value {
        let named =
            topics.iter().map(|topic| (topic.topic_id.to_string(), json!(topic.partitions)));
        Value::Object(named.collect())
    };
    let texts = |all: &[Str]| all.iter().map(|one| Value::from(&**one)).collect::<Vec<_>>();
    let (part, of, value) = match &change {
        Change::Group(value) => {
            ("group", None, value.as_ref().map(|of| json!({"epoch": of.epoch})))
        }
        Change::TargetEpoch(value) => {
            let value = value.as_ref().map(|of| json!({"assignment_epoch": of.assignment_epoch}));
            ("target_epoch", None, value)
        }
        Change::Member(id, value) => {
            let value = value.as_ref().map(|of| {
                json!({"instance_id": of.instance_id.as_deref(), "client_id": &*of.client_id,
                    "client_host": &*of.client_host, "topics": texts(&of.subscribed_topic_names),
                    "regex": of.subscribed_topic_regex.as_deref(),
                    "assignor": of.server_assignor.as_deref(),
                    "classic": of.classic_member_metadata.is_some()})
            });
            ("member", Some(id), value)
        }
        Change::Target(id, value) => {
            ("target", Some(id), value.as_ref().map(|of| assigned(&of.topic_partitions)))
        }
        Change::Current(id, value) => {
            let value = value.as_ref().map(|of| {
                json!({"epoch": of.member_epoch, "previous_epoch": of.previous_member_epoch,
                    "state": of.state, "assigned": assigned(&of.assigned_partitions),
                    "pending_revocation": assigned(&of.partitions_pending_revocation)})
            });
            ("current", Some(id), value)
        }
        Change::Regex(regex, value) => {
            ("regex", Some(regex), value.as_ref().map(|of| json!({"topics": texts(&of.topics)})))
        }
    };
    debug_assert_eq!(is_tombstone, value.is_none());
    json!({"consumer_group": group, "part": part, "of": of.map(|of| &**of), "value": value})
}

/// At most `bytes_max` of it: text with control characters escaped, else hex.
fn clip(bytes: &[u8], bytes_max: usize) -> String {
    let mut shown = bytes.get(..bytes_max).unwrap_or(bytes);
    let rest = bytes.len() - shown.len();
    if rest > 0 {
        // Not in the middle of a character.
        if let Err(error) = std::str::from_utf8(shown) {
            if error.error_len().is_none() {
                shown = shown.get(..error.valid_up_to()).unwrap_or(shown);
            }
        }
    }
    let text = match std::str::from_utf8(shown) {
        Ok(text) => escaped(text),
        Err(_) => shown.iter().fold("0x".to_owned(), |mut hex, byte| {
            hex.push_str(&format!("{byte:02x}"));
            hex
        }),
    };
    match bytes.len() - shown.len() {
        0 => text,
        more => format!("{text}… ({more} bytes more)"),
    }
}

/// A terminal must not obey what stands in a record.
fn escaped(text: &str) -> String {
    let is_tame = |c: char| !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c);
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match is_tame(c) {
            true => out.push(c),
            false => out.extend(c.escape_default()),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_long_values_are_cut_between_characters() {
        assert_eq!(clip(b"a\x1b[2Jb\n", 100), "a\\u{1b}[2Jb\\n");
        assert_eq!(clip(&[0xff, 0x00], 100), "0xff00");
        assert_eq!(clip("无人机".as_bytes(), 4), "无… (6 bytes more)");
        assert_eq!(clip(b"", 4), "");
    }
}
