use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};
use weir_fleet::{AutoAction, Order};
use weir_protocol::clock::Clock;
use weir_protocol::types::TimestampMs;
use weir_sim::{run, DemoFleet, EventSink, RunReport, SimError, SimEvent};

/// Each look at the clock takes half a second, so the run is a matter of steps, not of time.
#[derive(Debug)]
struct Hasty(AtomicI64);

impl Clock for Hasty {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.0.fetch_add(500, Ordering::Relaxed))
    }
}

type Seen = Arc<Mutex<Vec<SimEvent>>>;

/// Takes batches, refuses every fifth, and stops after some.
struct Sink {
    seen: Seen,
    batches: usize,
    batches_max: usize,
}

impl EventSink for Sink {
    async fn send(&mut self, events: Vec<SimEvent>) -> Result<(), SimError> {
        self.batches += 1;
        if self.batches > self.batches_max {
            return Err(SimError::SinkClosed);
        }
        if matches!(self.batches % 5, 0) {
            // One of the step is refused, the others are taken.
            self.seen.lock().unwrap().extend(events.into_iter().skip(1));
            let reason = "busy".to_owned();
            return Err(SimError::SinkRefused { events: 1, reason });
        }
        self.seen.lock().unwrap().extend(events);
        Ok(())
    }
}

async fn drive(batches_max: usize, stop: oneshot::Receiver<()>) -> (RunReport, Vec<SimEvent>) {
    let seen = Seen::default();
    let sink = Sink { seen: Arc::clone(&seen), batches: 0, batches_max };
    let (orders, receiver) = mpsc::channel(4);
    let order = Order {
        alert_id: "a".to_owned(),
        device: "7".to_owned(),
        action: AutoAction::ReturnToBase,
    };
    orders.send(order.clone()).await.unwrap();
    orders.send(order).await.unwrap();
    drop(orders);
    let fleet = DemoFleet::new(1, TimestampMs(0));
    let stop = async {
        let _ = stop.await;
    };
    let report = run(fleet, Arc::new(Hasty(AtomicI64::new(0))), sink, receiver, stop).await;
    let seen = seen.lock().unwrap().clone();
    (report, seen)
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_after_a_refusal_and_ends_with_its_sink() {
    let (_keep, stop) = oneshot::channel();
    let (report, seen) = drive(20, stop).await;
    assert_eq!(report.events_sent, seen.len() as u64);
    assert_eq!(report.events_refused, 4, "one of every fifth of 20 steps");
    assert_eq!(report.orders_obeyed, 1, "the same order twice is obeyed once");
    assert!(seen.iter().any(|event| event.json.contains(r#""new_status":"returning""#)));
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_when_it_is_told_to() {
    let (sender, stop) = oneshot::channel();
    let stopper = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        sender.send(()).unwrap();
    };
    let ((report, _), ()) = tokio::join!(drive(usize::MAX, stop), stopper);
    assert!(report.events_sent > 0);
}
