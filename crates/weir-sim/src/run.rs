//! The shell: drives a [`DemoFleet`] by the clock into a sink.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use weir_fleet::Order;
use weir_protocol::clock::Clock;

use crate::demo::{DemoFleet, SimEvent};
use crate::error::SimError;

/// How often events that are due are sent: small batches, so that a map moves smoothly.
const STEP_MS: u64 = 100;

/// Where simulated events go: the gateway in this process, or one over HTTP.
pub trait EventSink: Send {
    /// Sends these events, in order.
    ///
    /// # Errors
    /// [`SimError::SinkRefused`] with how many of them are lost, [`SimError::SinkClosed`] to stop.
    fn send(&mut self, events: Vec<SimEvent>) -> impl Future<Output = Result<(), SimError>> + Send;
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunReport {
    /// Events that the sink took.
    pub events_sent: u64,
    /// Events that the sink refused.
    pub events_refused: u64,
    /// Orders that turned a drone home.
    pub orders_obeyed: u64,
}

/// Runs the fleet until `stop` is ready or the sink is closed. Orders are obeyed as they come; when
/// their channel closes the fleet flies on without.
pub async fn run<S: EventSink>(
    mut fleet: DemoFleet,
    clock: Arc<dyn Clock>,
    mut sink: S,
    mut orders: mpsc::Receiver<Order>,
    stop: impl Future<Output = ()> + Send,
) -> RunReport {
    let mut report = RunReport::default();
    let mut stop = pin!(stop);
    let mut orders_open = true;
    let mut ticks = tokio::time::interval(Duration::from_millis(STEP_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stop => return report,
            order = orders.recv(), if orders_open => match order {
                Some(order) => {
                    let obeyed = fleet.obey(&order);
                    tracing::info!(alert_id = order.alert_id, device = order.device, ?obeyed, "order");
                    report.orders_obeyed += u64::from(obeyed == crate::Obeyed::Turning);
                }
                None => orders_open = false,
            },
            _ = ticks.tick() => {
                let events = fleet.step(clock.now());
                if events.is_empty() {
                    continue;
                }
                let count = events.len() as u64;
                match sink.send(events).await {
                    Ok(()) => report.events_sent += count,
                    Err(SimError::SinkClosed) => return report,
                    Err(error) => {
                        let refused = match &error {
                            SimError::SinkRefused { events, .. } => (*events as u64).min(count),
                            SimError::SinkClosed => count,
                        };
                        report.events_refused += refused;
                        report.events_sent += count - refused;
                        tracing::warn!(%error, code = error.code(), "simulated events not sent");
                    }
                }
            }
        }
    }
}
