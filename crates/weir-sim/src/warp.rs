//! How fast a fleet sends, by scenario: phases with easing, and bursts.
//!
//! A device is due at nominal times, an interval apart. The rate of a scenario at each moment says how fast
//! nominal time passes: at 2, devices are due twice as often. So phases and bursts move all devices alike,
//! and when a device is due follows from its number and the scenario alone.

use std::time::Duration;

/// Steps in which a rate is summed up.
const STEP_NS: u64 = 100_000_000;
/// The longest scenario there may be; after its end its last rate goes on.
pub const SCENARIO_MAX: Duration = Duration::from_secs(48 * 3_600);

/// How a phase goes from one rate to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Easing {
    /// At once.
    Step,
    /// Evenly.
    #[default]
    Linear,
    /// Slowly at first.
    EaseIn,
    /// Slowly at last.
    EaseOut,
    /// Slowly at both ends.
    EaseInOut,
    /// Hardly until the end.
    SpikeIn,
    /// Nearly all at the beginning.
    SpikeOut,
    /// Nearly all in the middle.
    SpikeInOut,
}

impl Easing {
    /// All eight.
    pub const ALL: [Self; 8] = [
        Self::Step,
        Self::Linear,
        Self::EaseIn,
        Self::EaseOut,
        Self::EaseInOut,
        Self::SpikeIn,
        Self::SpikeOut,
        Self::SpikeInOut,
    ];

    /// The part of the way at this part of the time, both 0 to 1.
    pub fn at(self, part: f64) -> f64 {
        let power = |power: i32| part.powi(power);
        let from_end = |power: i32| 1.0 - (1.0 - part).powi(power);
        let both = |power: i32| match part < 0.5 {
            true => 0.5 * (2.0 * part).powi(power),
            false => 1.0 - 0.5 * (2.0 - 2.0 * part).powi(power),
        };
        match self {
            Self::Step => 1.0,
            Self::Linear => part,
            Self::EaseIn => power(2),
            Self::EaseOut => from_end(2),
            Self::EaseInOut => both(2),
            Self::SpikeIn => power(8),
            Self::SpikeOut => from_end(8),
            Self::SpikeInOut => both(8),
        }
    }
}

/// A stretch of a scenario.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// How long it takes.
    pub duration: Duration,
    /// The rate it begins with; `None`: that of the one before, 1 for the first.
    pub from: Option<f64>,
    /// The rate it ends with: 1 is as the intervals say, 0 is silence.
    pub rate: f64,
    /// How it gets there.
    pub easing: Easing,
}

/// A time at which all send faster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// From the start of the scenario.
    pub at: Duration,
    /// How long.
    pub duration: Duration,
    /// How much faster.
    pub factor: f64,
}

/// From nominal time to time. See the module's head.
#[derive(Debug, Clone)]
pub struct Warp {
    /// Nominal nanoseconds passed by the end of each step; empty: time is nominal time.
    passed: Vec<f64>,
    /// The rate after the last step.
    rate_after: f64,
    /// Where the last question was answered: they come in order.
    cursor: usize,
}

impl Warp {
    /// Time as it is.
    pub const fn none() -> Self {
        Self { passed: Vec::new(), rate_after: 1.0, cursor: 0 }
    }

    /// That of a scenario, which lasts [`SCENARIO_MAX`] at most; what is beyond is cut.
    pub fn new(phases: &[Phase], bursts: &[Burst]) -> Self {
        let end = |burst: &Burst| burst.at + burst.duration;
        let phases_ns: u64 = phases.iter().map(|phase| ns(phase.duration)).sum();
        let bursts_ns = bursts.iter().map(|burst| ns(end(burst))).max().unwrap_or(0);
        let steps = phases_ns.max(bursts_ns).min(ns(SCENARIO_MAX)).div_ceil(STEP_NS);
        let mut total = 0.0;
        let passed = (0..steps).map(|step| {
            // The rate in the middle of a step stands for all of it.
            total += rate_at(phases, bursts, step * STEP_NS + STEP_NS / 2) * STEP_NS as f64;
            total
        });
        let passed = passed.collect();
        let rate_after = phases.last().map_or(1.0, |phase| phase.rate);
        Self { passed, rate_after, cursor: 0 }
    }

    /// When nominal time `nominal_ns` is, in nanoseconds since the start; `None`: never, for the rate stays 0.
    #[inline]
    pub fn actual_ns(&mut self, nominal_ns: u64) -> Option<u64> {
        if self.passed.is_empty() {
            return Some(nominal_ns);
        }
        self.within(nominal_ns as f64)
    }

    fn within(&mut self, nominal: f64) -> Option<u64> {
        let before = |step: usize| if step == 0 { 0.0 } else { self.passed[step - 1] };
        if self.cursor > 0 && before(self.cursor) > nominal {
            self.cursor = self.passed.partition_point(|passed| *passed <= nominal);
        }
        while self.passed.get(self.cursor).is_some_and(|passed| *passed <= nominal) {
            self.cursor += 1;
        }
        let begun = before(self.cursor);
        let into = nominal - begun;
        let step_start = self.cursor as f64 * STEP_NS as f64;
        let rate = match self.passed.get(self.cursor) {
            Some(passed) => (passed - begun) / STEP_NS as f64,
            None => self.rate_after,
        };
        match rate > 0.0 {
            true => Some((step_start + into / rate) as u64),
            false => None,
        }
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

fn rate_at(phases: &[Phase], bursts: &[Burst], at_ns: u64) -> f64 {
    let mut begun_ns = 0;
    let mut rate = 1.0;
    for phase in phases {
        let from = phase.from.unwrap_or(rate);
        let long_ns = ns(phase.duration);
        if at_ns < begun_ns + long_ns {
            let part = (at_ns - begun_ns) as f64 / long_ns as f64;
            rate = from + (phase.rate - from) * phase.easing.at(part);
            break;
        }
        begun_ns += long_ns;
        rate = phase.rate;
    }
    let on = |burst: &&Burst| (ns(burst.at)..ns(burst.at + burst.duration)).contains(&at_ns);
    rate * bursts.iter().filter(on).map(|burst| burst.factor).product::<f64>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn phase(seconds: u64, rate: f64, easing: Easing) -> Phase {
        Phase { duration: Duration::from_secs(seconds), from: None, rate, easing }
    }

    #[test]
    fn without_a_scenario_time_is_nominal() {
        assert_eq!(Warp::none().actual_ns(123), Some(123));
        assert_eq!(Warp::new(&[], &[]).actual_ns(123), Some(123));
    }

    #[test]
    fn a_burst_brings_what_is_due_forward_and_the_rest_keeps_its_pace() {
        let seconds = Duration::from_secs;
        let burst = Burst { at: seconds(10), duration: seconds(2), factor: 10.0 };
        let mut warp = Warp::new(&[], &[burst]);
        let at = |warp: &mut Warp, s: u64| warp.actual_ns(s * SECOND).unwrap() as f64 / 1e9;
        assert!((at(&mut warp, 5) - 5.0).abs() < 1e-6);
        assert!((at(&mut warp, 20) - 11.0).abs() < 1e-6);
        assert!((at(&mut warp, 30) - 12.0).abs() < 1e-6);
        assert!((at(&mut warp, 40) - 22.0).abs() < 1e-6);
        assert!((at(&mut warp, 20) - 11.0).abs() < 1e-6, "asked again, backwards");
    }

    #[test]
    fn silence_at_the_end_is_for_ever_and_in_the_middle_is_waited_for() {
        let phases = [phase(10, 1.0, Easing::Step), phase(10, 0.0, Easing::Step)];
        let mut warp = Warp::new(&phases, &[]);
        assert!(warp.actual_ns(9 * SECOND).is_some());
        assert_eq!(warp.actual_ns(11 * SECOND), None);
        let mut phases = phases.to_vec();
        phases.push(phase(1, 1.0, Easing::Step));
        let mut warp = Warp::new(&phases, &[]);
        assert_eq!(warp.actual_ns(10 * SECOND + SECOND / 2), Some(20 * SECOND + SECOND / 2));
    }

    #[test]
    fn easings_go_from_zero_to_one_and_linear_is_the_mean_of_its_ends() {
        for easing in Easing::ALL {
            assert!((easing.at(1.0) - 1.0).abs() < 1e-12, "{easing:?}");
            let start = if easing == Easing::Step { 1.0 } else { 0.0 };
            assert!((easing.at(0.0) - start).abs() < 1e-12, "{easing:?}");
            let steps: Vec<f64> = (0..=100).map(|n| easing.at(f64::from(n) / 100.0)).collect();
            assert!(steps.windows(2).all(|pair| pair[0] <= pair[1]), "{easing:?}");
        }
        // From 1 to 3 in 10 s: 20 nominal seconds.
        let mut warp = Warp::new(&[phase(10, 3.0, Easing::Linear)], &[]);
        let end = warp.actual_ns(20 * SECOND).unwrap() as f64;
        assert!((end / 1e10 - 1.0).abs() < 1e-6, "{end}");
    }

    proptest! {
        #[test]
        fn later_is_never_earlier(
            rates in proptest::collection::vec((1_u64..20, 0.0_f64..5.0), 1..6), step in 1_u64..4_000_000_000,
        ) {
            let phases: Vec<Phase> =
                rates.iter().enumerate().map(|(n, (s, rate))| phase(*s, *rate, Easing::ALL[n])).collect();
            let mut warp = Warp::new(&phases, &[]);
            let mut last = 0;
            for n in 0..200 {
                let Some(at) = warp.actual_ns(n * step) else { break };
                prop_assert!(at >= last);
                last = at;
            }
        }
    }
}
