//! What happens to readings on their way: outages, lateness, repeats, disorder, wrong clocks.
//!
//! Each decision is drawn from a number of its own, made of seed, device and sequence, so it does not
//! depend on which others are made or when.

use std::time::Duration;

use crate::random::{mix, Random};
use crate::scenario::{After, ClockSkew, Duplicates, Late, OutOfOrder, Outage, Scenario};

const LATE: u64 = 1;
const TWICE: u64 = 2;
const OVERTAKEN: u64 = 3;
const OUT: u64 = 4;
const SKEWED: u64 = 1 << 20;

/// The disturbances of a fleet.
#[derive(Debug, Clone)]
pub(crate) struct Disturbances {
    seed: u64,
    outages: Vec<Outage>,
    late: Option<Late>,
    duplicates: Option<Duplicates>,
    out_of_order: Option<OutOfOrder>,
    clock_skew: Option<ClockSkew>,
}

/// What becomes of one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) sent: Sent,
    /// A second copy follows, so long after the first.
    pub(crate) again_after_ns: Option<u64>,
}

/// When a reading is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// When it is made.
    AtOnce,
    /// It is not even made.
    Never,
    /// Then, in nanoseconds since the start, for this reason.
    At(u64, Reason),
}

/// Why a reading is sent later than it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Late,
    OutOfOrder,
    Outage,
}

impl Reason {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::OutOfOrder => "out_of_order",
            Self::Outage => "outage",
        }
    }
}

/// A device's wrong clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Skew {
    pub(crate) offset_ms: i64,
    pub(crate) drift: f64,
}

impl Disturbances {
    /// `None` if the scenario has none, which costs nothing then.
    pub(crate) fn new(seed: u64, scenario: &Scenario) -> Option<Self> {
        let Scenario { late, duplicates, out_of_order, clock_skew, .. } = *scenario;
        let outages = scenario.outages.clone();
        let any = late.is_some()
            || duplicates.is_some()
            || out_of_order.is_some()
            || clock_skew.is_some()
            || !outages.is_empty();
        any.then_some(Self { seed, outages, late, duplicates, out_of_order, clock_skew })
    }

    fn draw(&self, device: u32, purpose: u64, seq: u64) -> Random {
        let device = mix(u64::from(device) ^ purpose << 40);
        Random::new(self.seed ^ device, seq)
    }

    /// The fate of a reading made at `at_ns`, of a device that reads every `interval_ns`.
    pub(crate) fn fate(&self, device: u32, seq: u64, at_ns: u64, interval_ns: u64) -> Fate {
        let sent =
            self.outage(device, at_ns).or_else(|| self.delay(device, seq, at_ns, interval_ns));
        let again_after_ns = self.duplicates.and_then(|duplicates| {
            let mut random = self.draw(device, TWICE, seq);
            let delay_ns = nanos(duplicates.delay.unwrap_or_default()) as f64;
            random.chance(duplicates.share).then(|| random.between(0.0, delay_ns) as u64)
        });
        Fate { sent: sent.unwrap_or(Sent::AtOnce), again_after_ns }
    }

    fn outage(&self, device: u32, at_ns: u64) -> Option<Sent> {
        let (number, outage) = self.outages.iter().enumerate().find(|(number, outage)| {
            let hit = (nanos(outage.at)..nanos(outage.at + outage.duration)).contains(&at_ns);
            hit && self.draw(device, OUT + *number as u64, 0).chance(outage.share)
        })?;
        Some(match outage.after {
            After::Silent => Sent::Never,
            After::Resend => {
                // Not all at the same moment, but each device's in order.
                let mut random = self.draw(device, OUT + number as u64, 1);
                let over_ns = nanos(outage.at + outage.duration);
                Sent::At(over_ns + random.below(1_000_000_000) as u64, Reason::Outage)
            }
        })
    }

    fn delay(&self, device: u32, seq: u64, at_ns: u64, interval_ns: u64) -> Option<Sent> {
        let late = self.late.and_then(|late| {
            let mut random = self.draw(device, LATE, seq);
            let least = nanos(late.delay) as f64;
            let most = nanos(late.delay_max.unwrap_or(late.delay)) as f64;
            let late_by = |random: &mut Random| random.between(least, most) as u64;
            random.chance(late.share).then(|| Sent::At(at_ns + late_by(&mut random), Reason::Late))
        });
        late.or_else(|| {
            let mut random = self.draw(device, OVERTAKEN, seq);
            let share = self.out_of_order?.share;
            let held_ns =
                |random: &mut Random| (interval_ns as f64 * random.between(1.1, 3.0)) as u64;
            random.chance(share).then(|| Sent::At(at_ns + held_ns(&mut random), Reason::OutOfOrder))
        })
    }

    /// The wrong clock of a device, if it has one.
    pub(crate) fn skew(&self, device: u32) -> Option<Skew> {
        let skew = self.clock_skew?;
        let mut random = self.draw(device, SKEWED, 0);
        let offset_max_ms = skew.offset_max.as_millis() as f64;
        random.chance(skew.share).then(|| Skew {
            offset_ms: random.between(-offset_max_ms, offset_max_ms) as i64,
            drift: random.between(-skew.drift_ppm, skew.drift_ppm) * 1e-6,
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn of(yaml: &str) -> Disturbances {
        Disturbances::new(1, &Scenario::from_yaml(yaml).unwrap()).unwrap()
    }

    #[test]
    fn shares_are_kept() {
        let all = of("late: {share: 0.02, delay: 5s, delay_max: 60s}\nduplicates: {share: 0.03}\nout_of_order: {share: 0.05}\nclock_skew: {share: 0.2, offset_max: 5m}");
        let (mut late, mut disorder, mut twice) = (0, 0, 0);
        for seq in 0..100_000 {
            let fate = all.fate(7, seq, seq * SECOND, SECOND);
            match fate.sent {
                Sent::At(at_ns, Reason::Late) => {
                    late += 1;
                    assert!((5..=60).contains(&((at_ns - seq * SECOND) / SECOND)));
                }
                Sent::At(at_ns, _) => {
                    disorder += 1;
                    assert!(at_ns > (seq + 1) * SECOND && at_ns <= (seq + 3) * SECOND);
                }
                _ => {}
            }
            twice += u32::from(fate.again_after_ns.is_some());
        }
        // Five deviations of a binomial; what is late is not out of order as well.
        assert!((1_780..2_220).contains(&late), "{late}");
        assert!((4_560..5_240).contains(&disorder), "{disorder}");
        assert!((2_730..3_270).contains(&twice), "{twice}");
        let skewed = (0..10_000).filter(|device| all.skew(*device).is_some()).count();
        assert!((1_800..2_200).contains(&skewed), "{skewed}");
    }

    #[test]
    fn an_outage_takes_its_share_of_devices_for_its_time() {
        let out = of("outages: [{at: 10s, duration: 5s, share: 0.3}, {at: 20s, duration: 5s, share: 1, after: resend}]");
        let at = |device, second: u64| out.fate(device, second, second * SECOND, SECOND).sent;
        let hit: Vec<u32> = (0..10_000).filter(|device| at(*device, 12) == Sent::Never).collect();
        assert!((2_770..3_230).contains(&hit.len()), "{}", hit.len());
        for device in &hit {
            assert_eq!((at(*device, 9), at(*device, 15)), (Sent::AtOnce, Sent::AtOnce));
            assert_eq!(at(*device, 14), Sent::Never);
        }
        let Sent::At(at_ns, Reason::Outage) = at(3, 21) else { panic!("resent") };
        assert!((25 * SECOND..26 * SECOND).contains(&at_ns));
        assert_eq!(at(3, 21), at(3, 24), "in order of their seq, together");
        assert!(Disturbances::new(1, &Scenario::default()).is_none());
    }
}
