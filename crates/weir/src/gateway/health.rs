//! Whether Kafka can take events now: what `/ready` says, and what ends the wait of a traffic manager
//! for a Kafka that is back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weir_client::Client;
use weir_traffic::{BreakerState, TrafficHandle, TrafficStats};

/// How often Kafka is asked whether it is there.
const INTERVAL: Duration = Duration::from_millis(500);
/// A Kafka that takes longer for the smallest of requests is away.
const ANSWER: Duration = Duration::from_secs(2);

/// Why Kafka cannot take events, if it cannot.
pub(crate) type Problem = Option<Arc<str>>;

/// Asks Kafka until `stop` turns true. `storage` says why the embedded broker's log is out of use.
pub(crate) async fn watch_kafka(
    client: Arc<Client>,
    traffic: TrafficHandle,
    storage: impl Fn() -> Option<String> + Send,
    health: watch::Sender<Problem>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let answer = tokio::time::timeout(ANSWER, client.ping()).await;
        let known = health.borrow().clone();
        let unreachable = match answer {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("Kafka cannot be reached: {error}").into()),
            // While connects are held back between attempts, what the last one met says more.
            Err(_) => known.or(Some(format!("Kafka does not answer within {ANSWER:?}").into())),
        };
        let problem: Problem = storage().map(Arc::from).or(unreachable);
        let before = health.send_replace(problem.clone());
        match (&before, &problem) {
            (None, Some(why)) => tracing::warn!(%why, "not ready"),
            (Some(_), None) => {
                tracing::info!("Kafka is there again");
                traffic.sink_is_back();
            }
            _ => {}
        }
    }
}

/// Why events would not be taken now, as far as it is Kafka's doing.
///
/// A circuit breaker that is not closed counts also while it lets probes through. It finds its way
/// back without requests from outside: weir's own events are probes, every few seconds.
pub(super) fn problem(known: &Problem, stats: &TrafficStats) -> Option<String> {
    let said = known.as_deref().or(stats.sink.last_error.as_deref());
    let said = said.map(|why| format!(": {why}")).unwrap_or_default();
    match stats.breaker.state {
        BreakerState::Open => Some(format!("the circuit breaker is open{said}")),
        BreakerState::HalfOpen => Some(format!("the circuit breaker is half-open{said}")),
        BreakerState::Closed => known.as_deref().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use weir_broker::{BrokerConfig, BrokerServer};
    use weir_client::{ClientConfig, SystemClock};
    use weir_traffic::{Accepted, Outgoing, Sink, SinkError, TrafficConfig};

    use super::*;

    /// A sink nothing gets through.
    struct Away;

    impl Sink for Away {
        async fn send(&self, batch: &[&Outgoing]) -> Vec<Result<Accepted, SinkError>> {
            vec![Err(SinkError::NotSent("away".to_owned())); batch.len()]
        }
    }

    fn traffic() -> TrafficHandle {
        let config = TrafficConfig { max_failures: 1, wait_max_ms: 50, ..TrafficConfig::default() };
        TrafficHandle::start(config, Away).unwrap()
    }

    #[tokio::test]
    async fn an_offline_log_directory_and_a_stopped_broker_are_told_with_their_reason() {
        let directory = tempfile::tempdir().unwrap();
        let config = BrokerConfig {
            data_dir: directory.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..BrokerConfig::default()
        };
        let broker = BrokerServer::start(config, Arc::new(SystemClock)).await.unwrap();
        let address = broker.local_addr().to_string();
        let client = Client::connect_tcp(ClientConfig::new([address])).await.unwrap();
        let failure = Arc::new(Mutex::new(Some("the log directory is offline".to_owned())));
        let storage = {
            let failure = Arc::clone(&failure);
            move || failure.lock().unwrap().clone()
        };
        let (health, stop) = (watch::Sender::new(None), watch::Sender::new(false));
        let mut known = health.subscribe();
        let (traffic, stopped) = (traffic(), stop.subscribe());
        tokio::spawn(watch_kafka(client, traffic.clone(), storage, health, stopped));
        let mut told = async |word: &str| {
            let said = |known: &Problem| known.as_deref().unwrap_or("well").contains(word);
            let waited = tokio::time::timeout(Duration::from_secs(20), known.wait_for(said)).await;
            waited.expect("in time").unwrap().clone()
        };
        let offline = told("offline").await;
        let text = problem(&offline, &traffic.stats()).unwrap();
        assert_eq!(text, "the log directory is offline");
        *failure.lock().unwrap() = None;
        assert_eq!(problem(&told("well").await, &traffic.stats()), None);
        broker.shutdown().await.unwrap();
        told("Kafka").await;
    }

    #[tokio::test]
    async fn a_breaker_that_is_not_closed_is_a_problem_though_kafka_answers() {
        let traffic = traffic();
        traffic.publish(Outgoing::new("t", "event", 0)).await.unwrap_err();
        let text = problem(&None, &traffic.stats()).unwrap();
        assert!(text.starts_with("the circuit breaker is open"), "{text}");
    }
}
