//! What `weir up` prints when it is ready.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use weir_broker::{BrokerStats, Durability};

use crate::output::{bytes, grouped, Align, Table};
use crate::text::Language;

/// What there is to say.
#[derive(Debug)]
pub(crate) struct Banner {
    /// `None`: a real cluster is used.
    pub(crate) embedded: Option<SocketAddr>,
    /// Its listeners for others: address, and what holds there.
    pub(crate) network: Vec<(SocketAddr, &'static str)>,
    pub(crate) durability: Durability,
    pub(crate) brokers: String,
    pub(crate) gateway: Option<SocketAddr>,
    pub(crate) console: Option<SocketAddr>,
    /// Events per window in milliseconds, if there is a limit.
    pub(crate) max_rate: Option<(u64, u64)>,
    pub(crate) lane_events_max: usize,
    pub(crate) loopback_only: bool,
    pub(crate) ready_ms: u64,
    pub(crate) recovered_partitions: usize,
    pub(crate) records_cut: u64,
}

/// The first line, printed before anything slow happens.
pub(crate) fn headline(
    language: Language,
    embedded: bool,
    data_dir: &Path,
    kept: Option<u64>,
) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mode = match embedded {
        true => language.pick("embedded broker, one node", "内置单节点 broker"),
        false => language.pick("on a Kafka cluster", "使用 Kafka 集群"),
    };
    let data = language.pick("data", "数据");
    let kept = match kept {
        Some(size) => format!("{}, {}", language.pick("kept", "已保留"), bytes(size)),
        None => language.pick("new", "新建").to_owned(),
    };
    format!("weir {version} · {mode} · {data} {} ({kept})", data_dir.display())
}

/// When acks=all is answered, in a few words.
pub(crate) fn durability(language: Language, durability: Durability) -> &'static str {
    match durability {
        Durability::Strict => {
            language.pick("acks=all is on disk before the answer", "acks=all 先落盘再应答")
        }
        Durability::Relaxed => language.pick(
            "RELAXED: acks=all is answered before it is on disk",
            "持久化已放宽：acks=all 在落盘之前应答",
        ),
    }
}

/// What `weir broker` says when it is ready, after the headline.
pub(crate) fn broker(
    language: Language,
    address: SocketAddr,
    network: &[(SocketAddr, &'static str)],
    durability: Durability,
    since_start: Duration,
    stats: &BrokerStats,
) -> String {
    let banner = Banner {
        embedded: Some(address),
        network: network.to_vec(),
        durability,
        brokers: String::new(),
        gateway: None,
        console: None,
        max_rate: None,
        lane_events_max: 0,
        loopback_only: true,
        ready_ms: u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX),
        recovered_partitions: stats.partitions_recovered,
        records_cut: stats.records_cut,
    };
    let network: String = network
        .iter()
        .map(|(address, protocol)| format!("  Kafka  {address}  {protocol}\n"))
        .collect();
    format!(
        "\n  Kafka  {address}  {}\n{network}\n  {}\n\n{}kcat -b {address} -L\n{}",
        self::durability(language, durability),
        banner.ready(language),
        language.pick("Try   ", "试试  "),
        stop(language)
    )
}

fn stop(language: Language) -> &'static str {
    language.pick("Ctrl-C stops, twice forces.", "Ctrl-C 停止，再按一次强制退出。")
}

impl Banner {
    /// Everything after the headline.
    pub(crate) fn render(&self, language: Language) -> String {
        let mut table = Table::new(&[("", Align::Left), ("", Align::Left), ("", Align::Left)]);
        let durable = durability(language, self.durability);
        match self.embedded {
            Some(address) => table.row(vec!["Kafka".into(), address.to_string(), durable.into()]),
            None => table.row(vec!["Kafka".into(), self.brokers.clone(), String::new()]),
        }
        for (address, protocol) in &self.network {
            table.row(vec!["Kafka".into(), address.to_string(), (*protocol).into()]);
        }
        if let Some(gateway) = self.gateway {
            let paths = "POST /v1/events · /stats · /metrics".to_owned();
            table.row(vec!["Gateway".into(), format!("http://{gateway}"), paths]);
        }
        if let Some(console) = self.console {
            table.row(vec!["Console".into(), format!("http://{console}"), String::new()]);
        }
        let mut text = String::from("\n");
        for line in table.render(false).lines().skip(1) {
            let _ = writeln!(text, "  {line}");
        }
        // As wide as "Gateway", the longest name in the table.
        let label = language.pick("Limits ", "限制   ");
        let _ = writeln!(text, "  {label}  {}\n", self.limits(language));
        let _ = writeln!(text, "  {}", self.ready(language));
        if let Some(gateway) = self.gateway {
            text.push_str(&self.hints(language, gateway));
        }
        text
    }

    fn limits(&self, language: Language) -> String {
        let rate = match self.max_rate {
            Some((events, window_ms)) => {
                let unit = language.pick("events per", "条 /");
                format!("{} {unit} {window_ms} ms", grouped(events))
            }
            None => language.pick("no rate limit", "不限速").to_owned(),
        };
        let lanes = grouped(self.lane_events_max as u64);
        let lanes = match language {
            Language::English => format!("{lanes} events a lane"),
            Language::Chinese => format!("每个优先级队列 {lanes} 条"),
        };
        let open = match self.loopback_only {
            true => language.pick("open to this machine only", "仅本机可访问"),
            false => {
                language.pick("OPEN TO OTHER MACHINES, no authentication", "对其他机器开放，无认证")
            }
        };
        format!("{rate} · {lanes} · {open}")
    }

    fn ready(&self, language: Language) -> String {
        let (ms, partitions, cut) =
            (self.ready_ms, self.recovered_partitions, grouped(self.records_cut));
        match (language, self.embedded) {
            (Language::English, Some(_)) => {
                format!("ready in {ms} ms · recovered {partitions} partitions, {cut} records cut")
            }
            (Language::Chinese, Some(_)) => {
                format!("{ms} 毫秒就绪 · 恢复 {partitions} 个分区，截断 {cut} 条记录")
            }
            (Language::English, None) => format!("ready in {ms} ms"),
            (Language::Chinese, None) => format!("{ms} 毫秒就绪"),
        }
    }

    fn hints(&self, language: Language, gateway: SocketAddr) -> String {
        let event = r#"{"type":"drone.heartbeat","source":"me","data":{"drone_id":1}}"#;
        let brokers = match self.embedded {
            Some(address) => address.to_string(),
            None => self.brokers.clone(),
        };
        // A command names the broker only if it is not the default one.
        let flag = match brokers.as_str() {
            "127.0.0.1:9092" => String::new(),
            other => format!(" --brokers {other}"),
        };
        let label = language.pick("Try   ", "试试  ");
        let stop = stop(language);
        format!(
            "\n{label}curl -d '{event}' http://{gateway}/v1/events\n      weir tail drone-events{flag}\n      kcat -b {brokers} -L\n{stop}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner() -> Banner {
        Banner {
            embedded: Some("127.0.0.1:9092".parse().unwrap()),
            network: vec![("10.0.0.7:9093".parse().unwrap(), "SASL_SSL")],
            durability: Durability::Strict,
            brokers: String::new(),
            gateway: Some("127.0.0.1:8084".parse().unwrap()),
            console: Some("127.0.0.1:8090".parse().unwrap()),
            max_rate: None,
            lane_events_max: 10_000,
            loopback_only: true,
            ready_ms: 41,
            recovered_partitions: 3,
            records_cut: 0,
        }
    }

    #[test]
    fn ready_text_has_addresses_limits_and_three_commands() {
        let text = banner().render(Language::English);
        for part in [
            "  Kafka    127.0.0.1:9092         acks=all is on disk before the answer\n",
            "  Kafka    10.0.0.7:9093          SASL_SSL\n",
            "  Gateway  http://127.0.0.1:8084  POST /v1/events · /stats · /metrics\n",
            "  Console  http://127.0.0.1:8090\n",
            "  Limits   no rate limit · 10,000 events a lane · open to this machine only",
            "ready in 41 ms · recovered 3 partitions, 0 records cut",
            "kcat -b 127.0.0.1:9092 -L",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn relaxed_durability_is_said_aloud() {
        let banner = Banner { durability: Durability::Relaxed, ..banner() };
        let text = banner.render(Language::English);
        assert!(text.contains("RELAXED: acks=all is answered before it is on disk"), "{text}");
        assert!(!text.contains("acks=all is on disk before the answer"), "{text}");
        assert!(banner.render(Language::Chinese).contains("持久化已放宽"));
    }

    #[test]
    fn open_ports_are_said_aloud() {
        let banner = Banner { loopback_only: false, ..banner() };
        assert!(banner.render(Language::English).contains("OPEN TO OTHER MACHINES"));
        assert!(banner.render(Language::Chinese).contains("对其他机器开放"));
    }
}
