//! [`Pacer`]: how fast connections may come, all together and from one address (KIP-612).
//!
//! A connection costs most before it is of use: a task, a login, TLS. Without a limit a flood of them takes the processors
//! from those who are served. Each limit is GCRA: one point in time, no timer.
//!
//! As in Kafka, whoever comes too fast for the limit of all waits, in the queue of the system behind the one that was
//! accepted last; whoever comes too fast for its address is closed, a little later, so that it does not come back at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// What may come at once after a pause, as time at the full rate. Kafka measures over 11 windows of 1 s, the last of which
/// is not over (`quota.window.num`, `quota.window.size.seconds`).
const BURST: Duration = Duration::from_secs(10);
/// The longest wait of one connection, as in Kafka a window.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Addresses that are remembered. Beyond it others have the limit of all alone.
const ADDRESSES_MAX: usize = 10_000;

/// Connections per second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    /// All together.
    pub(super) all: Option<f64>,
    /// From the address that comes now.
    pub(super) address: Option<f64>,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is served.
    Now,
    /// It is served after so long, and others not before it.
    After(Duration),
    /// It is closed after so long.
    Never(Duration),
}

/// When connections have come.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    all: Pace,
    addresses: HashMap<IpAddr, Pace>,
    swept: Duration,
}

impl Pacer {
    /// A connection has come. `now` is the time of a clock that nobody sets, since any point.
    pub(super) fn turn(&mut self, address: IpAddr, rates: Rates, now: Duration) -> Turn {
        if let Some(rate) = rates.address {
            if let Some(wait) = self.address_wait(address, rate, now) {
                return Turn::Never(wait);
            }
        }
        let Some(rate) = rates.all else { return Turn::Now };
        let wait = self.all.wait(rate, now);
        self.all.pass(rate, now);
        match wait {
            Duration::ZERO => Turn::Now,
            wait => Turn::After(wait),
        }
    }

    /// How long until one more may come from `address`; `None`: it may now.
    fn address_wait(&mut self, address: IpAddr, rate: f64, now: Duration) -> Option<Duration> {
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&address) {
            if now.saturating_sub(self.swept) < WAIT_MAX {
                return None;
            }
            self.swept = now;
            self.addresses.retain(|_, pace| pace.due > now);
            if self.addresses.len() >= ADDRESSES_MAX {
                return None;
            }
        }
        let pace = self.addresses.entry(address).or_default();
        match pace.wait(rate, now) {
            Duration::ZERO => {
                pace.pass(rate, now);
                None
            }
            wait => Some(wait),
        }
    }
}

/// GCRA: when the next would be due if they came evenly.
#[derive(Debug, Default)]
struct Pace {
    due: Duration,
}

impl Pace {
    fn wait(&self, rate: f64, now: Duration) -> Duration {
        let after = self.due.max(now).saturating_add(interval(rate));
        after.saturating_sub(now.saturating_add(BURST)).min(WAIT_MAX)
    }

    /// Never further ahead than what has to wait: a flood that was refused is not paid for later.
    fn pass(&mut self, rate: f64, now: Duration) {
        let ahead_max = now.saturating_add(BURST).saturating_add(WAIT_MAX);
        self.due = self.due.max(now).saturating_add(interval(rate)).min(ahead_max);
    }
}

/// Between two that come evenly.
fn interval(rate: f64) -> Duration {
    Duration::try_from_secs_f64(1.0 / rate).unwrap_or(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const START: Duration = Duration::from_secs(1_000);

    fn all(rate: f64) -> Rates {
        Rates { all: Some(rate), address: None }
    }

    #[test]
    fn what_came_in_ten_seconds_may_come_at_once_then_each_waits_its_turn() {
        let mut pacer = Pacer::default();
        for n in 0..40 {
            assert_eq!(pacer.turn(PEER, all(4.0), START), Turn::Now, "{n}");
        }
        let mut now = START;
        for n in 0..20 {
            let Turn::After(wait) = pacer.turn(PEER, all(4.0), now) else {
                panic!("{n} has no wait")
            };
            now += wait;
        }
        assert_eq!(now - START, Duration::from_secs(5), "four a second");
        assert_eq!(pacer.turn(PEER, Rates::default(), now), Turn::Now, "no limit any more");
        now += Duration::from_secs(1_000);
        for _ in 0..40 {
            assert_eq!(pacer.turn(PEER, all(4.0), now), Turn::Now);
        }
        assert_ne!(pacer.turn(PEER, all(4.0), now), Turn::Now, "a pause saves up no more");
    }

    #[test]
    fn an_address_that_comes_too_fast_is_closed_and_takes_nothing_from_others() {
        let mut pacer = Pacer::default();
        let rates = Rates { all: Some(2.0), address: Some(1.0) };
        for _ in 0..10 {
            assert_eq!(pacer.turn(PEER, rates, START), Turn::Now);
        }
        for _ in 0..1_000 {
            assert!(
                matches!(pacer.turn(PEER, rates, START), Turn::Never(wait) if wait <= WAIT_MAX)
            );
        }
        let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
        for n in 0..10 {
            assert_eq!(
                pacer.turn(other, rates, START),
                Turn::Now,
                "{n}: the refused are not counted"
            );
        }
        let later = START + Duration::from_secs(1);
        assert_eq!(pacer.turn(PEER, rates, later), Turn::Now, "its next is due");
    }

    #[test]
    fn addresses_take_bounded_memory() {
        let mut pacer = Pacer::default();
        let rates = Rates { all: None, address: Some(1.0) };
        for n in 0..2 * ADDRESSES_MAX as u32 {
            assert_eq!(pacer.turn(IpAddr::V4(Ipv4Addr::from(n)), rates, START), Turn::Now);
        }
        assert_eq!(pacer.addresses.len(), ADDRESSES_MAX);
        let later = START + Duration::from_secs(20);
        assert_eq!(pacer.turn(IpAddr::V4(Ipv4Addr::from(u32::MAX)), rates, later), Turn::Now);
        assert_eq!(pacer.addresses.len(), 1, "those that are due again are forgotten");
    }
}
