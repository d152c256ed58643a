//! Which of the lanes high, normal and low goes next: weighted fair shares, with aging.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) over lanes, by bytes: each lane carries a
//! virtual time that advances by `bytes / weight` with what it sends, and the lane that is furthest
//! behind goes next. Weights are 16, 4 and 1.
//!
//! **Aging.** A lane whose oldest event has waited for one aging interval counts with the weight of the
//! next higher class, after two intervals with that of `high`. What a batch cost is charged when the
//! lane is next compared, at the weight it has then, so that a lane that has aged is not held up by
//! what it owed as a poor one.
//!
//! # The bound on waiting
//! An event admitted when its lane held `b` bytes, itself included, has left after at most
//!
//! `2 * aging_interval + (3 * b + 6 * B) / C`
//!
//! where `B` is the largest batch, both in charged bytes, and `C` the bytes per second that the sink
//! takes of the three lanes: from two intervals on, every lane has at least the weight of any other, so
//! a third of the capacity. [`wait_bound_ns`] computes it. Urgent traffic lessens `C`; a sink that is
//! away has no bound but the deadline, after which callers get their events back.

use crate::time::{Nanos, NS_PER_MS};

/// Lanes that share: high, normal, low.
pub const SHARED_LANES: usize = 3;

/// Weights of high, normal and low.
pub const WEIGHTS: [u64; SHARED_LANES] = [16, 4, 1];

/// Charged for each event besides its bytes: a small event costs the sink too.
pub const EVENT_OVERHEAD_BYTES: usize = 64;

/// The state of the choice.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    lanes: [Share; SHARED_LANES],
    /// Virtual time: the tag of the last lane chosen.
    clock: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Share {
    start: u64,
    owed_bytes: u64,
}

impl Shares {
    /// The lane to go next, among those that could: `oldest[lane]` is the admission of the oldest
    /// event of a lane that could send now.
    pub fn choose(
        &mut self,
        oldest: [Option<Nanos>; SHARED_LANES],
        aging_ms: u64,
        now: Nanos,
    ) -> Option<usize> {
        let mut best: Option<(u64, usize)> = None;
        for (index, (share, oldest)) in self.lanes.iter().zip(oldest).enumerate() {
            let Some(oldest) = oldest else { continue };
            let weight = WEIGHTS[effective_class(index, now.since_ms(oldest), aging_ms)];
            // Not before the clock: a lane that had nothing to send, or was poor until now, is not paid
            // for that time, which would hold up the others for a multiple of a batch.
            let owed = charge(share.owed_bytes, weight);
            let tag = share.start.saturating_add(owed).max(self.clock);
            if best.is_none_or(|(least, _)| tag < least) {
                best = Some((tag, index));
            }
        }
        let (tag, index) = best?;
        self.clock = self.clock.max(tag);
        self.lanes[index] = Share { start: tag, owed_bytes: 0 };
        Some(index)
    }

    /// Charges the lane for the batch it sends.
    pub fn charge(&mut self, lane: usize, events: usize, bytes: usize) {
        let cost = bytes + events * EVENT_OVERHEAD_BYTES;
        if let Some(share) = self.lanes.get_mut(lane) {
            share.owed_bytes += u64::try_from(cost).unwrap_or(u64::MAX);
        }
    }
}

fn charge(bytes: u64, weight: u64) -> u64 {
    bytes * (WEIGHTS[0] / weight)
}

/// The class whose weight a lane has: its own, less one for each aging interval its oldest event waited.
fn effective_class(class: usize, waited_ms: u64, aging_ms: u64) -> usize {
    let steps = usize::try_from(waited_ms / aging_ms.max(1)).unwrap_or(usize::MAX);
    class.saturating_sub(steps)
}

/// The bound on waiting, see the head of this module.
#[must_use]
pub fn wait_bound_ns(
    aging_ms: u64,
    lane_bytes: u64,
    batch_bytes_max: u64,
    bytes_per_second: u64,
) -> u64 {
    let bytes = u128::from(lane_bytes) * 3 + u128::from(batch_bytes_max) * 6;
    let send_ns = bytes * 1_000_000_000 / u128::from(bytes_per_second.max(1));
    let aging_ns = u128::from(aging_ms) * 2 * u128::from(NS_PER_MS);
    u64::try_from(aging_ns + send_ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const BATCH_BYTES: u64 = 10_000;

    #[test]
    fn shares_follow_the_weights_while_nothing_has_aged() {
        let mut shares = Shares::default();
        let mut sent = [0_u64; SHARED_LANES];
        for _ in 0..21_000 {
            let lane = shares.choose([Some(Nanos(0)); 3], 1_000, Nanos(0)).unwrap();
            sent[lane] += 1;
            shares.charge(lane, 0, 1_000);
        }
        for (sent, weight) in sent.iter().zip(WEIGHTS) {
            let expected = weight * 1_000;
            assert!(sent.abs_diff(expected) * 50 <= expected, "{sent} of {expected}");
        }
    }

    #[test]
    fn a_lane_that_paused_gains_no_credit() {
        let mut shares = Shares::default();
        for _ in 0..1_000 {
            let lane = shares.choose([Some(Nanos(0)), None, None], 1_000, Nanos(0)).unwrap();
            shares.charge(lane, 0, 1_000);
        }
        let mut low_in_a_row = 0;
        while shares.choose([Some(Nanos(0)), None, Some(Nanos(0))], 1_000, Nanos(0)) == Some(2) {
            shares.charge(2, 0, 1_000);
            low_in_a_row += 1;
        }
        assert!(low_in_a_row <= 1);
    }

    #[test]
    fn full_load_of_high_starves_nobody() {
        let mut shares = Shares::default();
        let (mut now, mut low_waited) = (Nanos(0), 0);
        let low_admitted = now;
        loop {
            let lane = shares.choose([Some(now), None, Some(low_admitted)], 1_000, now).unwrap();
            if lane == 2 {
                break;
            }
            shares.charge(lane, 0, 10_000);
            now = now.plus_ms(10);
            low_waited = now.since_ms(low_admitted);
        }
        assert!(low_waited <= 1_000, "{low_waited} ms");
    }

    /// A lane in the model: admission and bytes of each event.
    type Model = [VecDeque<(Nanos, u64, u64)>; SHARED_LANES];

    proptest! {
        /// Random arrivals on three lanes, one batch after another over a link of fixed speed: no
        /// event waits longer than the bound computed for it when it came.
        #[test]
        fn nobody_waits_longer_than_the_bound(
            arrivals in prop::collection::vec((0usize..3, 0u64..40, 1u64..4_000), 50..600),
            aging_ms in 1u64..200,
            bytes_per_second in 20_000u64..400_000,
        ) {
            let mut lanes: Model = Default::default();
            let mut shares = Shares::default();
            let (mut now, mut next_at) = (Nanos(0), Nanos(0));
            let mut arrivals = arrivals.into_iter().peekable();
            loop {
                while let Some((lane, gap_ms, bytes)) = arrivals.peek().copied() {
                    if next_at.plus_ms(gap_ms) > now && lanes.iter().any(|l| !l.is_empty()) {
                        break;
                    }
                    arrivals.next();
                    next_at = next_at.plus_ms(gap_ms);
                    now = now.max(next_at);
                    let before: u64 = lanes[lane].iter().map(|(_, bytes, _)| bytes).sum();
                    let bound = wait_bound_ns(aging_ms, before + bytes, BATCH_BYTES, bytes_per_second);
                    lanes[lane].push_back((next_at, bytes, bound));
                }
                let oldest = [0, 1, 2].map(|lane| lanes[lane].front().map(|(at, ..)| *at));
                let Some(lane) = shares.choose(oldest, aging_ms, now) else { break };
                let mut sent = 0;
                while let Some((at, bytes, bound)) = lanes[lane].front().copied() {
                    if sent > 0 && sent + bytes > BATCH_BYTES {
                        break;
                    }
                    lanes[lane].pop_front();
                    sent += bytes;
                    let left = now.plus_ns(sent * 1_000_000_000 / bytes_per_second);
                    prop_assert!(left.since_ns(at) <= bound, "lane {} waited {} of {}", lane, left.since_ns(at), bound);
                }
                shares.charge(lane, 0, usize::try_from(sent).unwrap());
                now = now.plus_ns(sent * 1_000_000_000 / bytes_per_second);
            }
        }
    }
}
