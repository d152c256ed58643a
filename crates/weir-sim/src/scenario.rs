//! Profiles and scenarios, as a YAML file writes them.
//!
//! ```yaml
//! site: {buildings: 4, floors: 5, rooms: 20}
//! profiles:
//!   - {name: climate, devices: 600, interval: 5s, sensors: [temperature, humidity]}
//!   - {name: machines, devices: 400, interval: 500ms, sensors: [current, switch], anomaly_rate: 0.01}
//!   - {name: patrol, devices: 20, interval: 1s, drones: true}
//! phases:
//!   - {duration: 1m, rate: 3, easing: ease-in-out}
//!   - {duration: 5m, rate: 3, easing: step}
//!   - {duration: 1m, rate: 1, easing: linear}
//! bursts: [{at: 2m, duration: 10s, factor: 10}]
//! outages: [{at: 3m, duration: 30s, share: 0.2, after: resend}]
//! late: {share: 0.01, delay: 5s, delay_max: 60s}
//! duplicates: {share: 0.01, delay: 1s}
//! out_of_order: {share: 0.05}
//! clock_skew: {share: 0.1, offset_max: 5m, drift_ppm: 50}
//! ```
//!
//! Every section may be left out. Shares are of readings, but of devices for outages and clock skew.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::Deserialize;

use crate::place::Site;
use crate::sensor::SensorKind;
use crate::warp::{Burst, Easing, Phase, Warp, SCENARIO_MAX};

/// Most devices of a fleet.
pub const DEVICES_MAX: u32 = 100_000;
/// Shortest interval between two readings of a device.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Greatest chance of a healthy reading that an anomaly begins with it.
pub const ANOMALY_RATE_MAX: f64 = 0.1;
/// Longest that a record may be held back.
const DELAY_MAX: Duration = Duration::from_secs(3_600);

/// What is wrong with a scenario file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScenarioError(String);

impl ScenarioError {
    /// The page of `weir explain` about it.
    pub const fn code(&self) -> &'static str {
        "WEIR-0703"
    }
}

/// A scenario file.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Buildings, floors, rooms; by the number of devices if it is left out.
    pub site: Option<SiteSpec>,
    /// Kinds of devices; one of each sensor in turn if there is none.
    #[serde(default)]
    pub profiles: Vec<Profile>,
    /// How the rate goes, one after the other.
    #[serde(default)]
    pub phases: Vec<PhaseSpec>,
    /// Times at which all send faster.
    #[serde(default)]
    pub bursts: Vec<BurstSpec>,
    /// Times at which some devices are not heard.
    #[serde(default)]
    pub outages: Vec<Outage>,
    /// Readings that are sent long after they were made.
    pub late: Option<Late>,
    /// Readings that are sent twice.
    pub duplicates: Option<Duplicates>,
    /// Readings that are overtaken by the next ones.
    pub out_of_order: Option<OutOfOrder>,
    /// Devices whose clock is wrong.
    pub clock_skew: Option<ClockSkew>,
}

/// How large a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteSpec {
    /// Buildings.
    pub buildings: u32,
    /// Floors of each.
    pub floors: u32,
    /// Rooms of each floor.
    pub rooms: u32,
}

/// Devices of one kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What people call it.
    pub name: String,
    /// How many.
    pub devices: u32,
    /// How often each reads all of its sensors; the fleet's if it is left out.
    #[serde(default, deserialize_with = "some_duration")]
    pub interval: Option<Duration>,
    /// What each of them measures.
    #[serde(default, deserialize_with = "sensors")]
    pub sensors: Vec<SensorKind>,
    /// They are drones: positions and batteries instead of sensors.
    #[serde(default)]
    pub drones: bool,
    /// Their own anomaly rate.
    pub anomaly_rate: Option<f64>,
}

/// One of `phases`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseSpec {
    #[serde(deserialize_with = "duration")]
    duration: Duration,
    rate: f64,
    from: Option<f64>,
    #[serde(default)]
    easing: Easing,
}

/// One of `bursts`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BurstSpec {
    #[serde(deserialize_with = "duration")]
    at: Duration,
    #[serde(deserialize_with = "duration")]
    duration: Duration,
    factor: f64,
}

/// What becomes of readings made in an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum After {
    /// There are none: the devices are off.
    #[default]
    Silent,
    /// They are sent, in order, when it is over.
    Resend,
}

/// Some devices are not heard for a time.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// From the start.
    #[serde(deserialize_with = "duration")]
    pub at: Duration,
    /// How long.
    #[serde(deserialize_with = "duration")]
    pub duration: Duration,
    /// Which part of the devices.
    pub share: f64,
    /// What becomes of their readings.
    #[serde(default)]
    pub after: After,
}

/// Readings that come late.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Late {
    /// Which part of the readings.
    pub share: f64,
    /// By how much at least.
    #[serde(deserialize_with = "duration")]
    pub delay: Duration,
    /// By how much at most; as `delay` if it is left out.
    #[serde(default, deserialize_with = "some_duration")]
    pub delay_max: Option<Duration>,
}

/// Readings that come twice.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duplicates {
    /// Which part of the readings.
    pub share: f64,
    /// How long after the first, at most.
    #[serde(default, deserialize_with = "some_duration")]
    pub delay: Option<Duration>,
}

/// Readings that are overtaken: held back for one to three intervals.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutOfOrder {
    /// Which part of the readings.
    pub share: f64,
}

/// Devices whose clock is wrong: their timestamps, not when they send.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockSkew {
    /// Which part of the devices.
    pub share: f64,
    /// Off by so much at most, either way.
    #[serde(deserialize_with = "duration")]
    pub offset_max: Duration,
    /// And drifting by so many millionths at most, either way.
    #[serde(default)]
    pub drift_ppm: f64,
}

impl Scenario {
    /// Reads and checks a file's text.
    ///
    /// # Errors
    /// [`ScenarioError`] names the key that is wrong and what it takes, or the line that is no such YAML.
    pub fn from_yaml(text: &str) -> Result<Self, ScenarioError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let scenario: Self =
            serde_yaml_ng::from_str(text).map_err(|error| ScenarioError(error.to_string()))?;
        match scenario.fault() {
            Some(fault) => Err(ScenarioError(fault)),
            None => Ok(scenario),
        }
    }

    /// How time goes in it.
    pub fn warp(&self) -> Warp {
        let phases: Vec<Phase> = self.phases.iter().map(PhaseSpec::phase).collect();
        let bursts: Vec<Burst> = self.bursts.iter().map(BurstSpec::burst).collect();
        Warp::new(&phases, &bursts)
    }

    /// The site for so many devices.
    pub fn site(&self, devices: u32) -> Site {
        match self.site {
            Some(SiteSpec { buildings, floors, rooms }) => Site { buildings, floors, rooms },
            None => Site::for_devices(devices),
        }
    }

    /// The first thing that is wrong, with its key.
    fn fault(&self) -> Option<String> {
        let site = self.site.filter(|site| {
            let rooms = self.site(1).rooms_total();
            !(1..=1_000_000).contains(&rooms) || site.buildings > 10_000
        });
        if site.is_some() {
            return Some("site: has 1 to 1,000,000 rooms in at most 10,000 buildings".to_owned());
        }
        let devices = self.profiles.iter().map(|profile| u64::from(profile.devices)).sum::<u64>();
        if devices > u64::from(DEVICES_MAX) {
            return Some(format!(
                "profiles: {devices} devices together are more than {DEVICES_MAX}"
            ));
        }
        let profiles = self.profiles.iter().enumerate();
        profiles
            .filter_map(|(n, profile)| Some(format!("profiles[{n}].{}", profile.fault()?)))
            .next()
            .or_else(|| self.fault_of_rates())
            .or_else(|| self.fault_of_records())
    }

    fn fault_of_rates(&self) -> Option<String> {
        let rate_is_wrong = |rate: f64| !(0.0..=1_000.0).contains(&rate);
        for (n, phase) in self.phases.iter().enumerate() {
            if rate_is_wrong(phase.rate) || phase.from.is_some_and(rate_is_wrong) {
                return Some(format!("phases[{n}].rate: is a number from 0 to 1000, 1 is normal"));
            }
        }
        for (n, burst) in self.bursts.iter().enumerate() {
            if rate_is_wrong(burst.factor) || burst.factor < 1.0 {
                return Some(format!("bursts[{n}].factor: is a number from 1 to 1000"));
            }
        }
        let phases = self.phases.iter().map(|phase| phase.duration).sum::<Duration>();
        let last = self.bursts.iter().map(|burst| burst.at + burst.duration).max();
        (phases.max(last.unwrap_or_default()) > SCENARIO_MAX)
            .then(|| "phases: the scenario is longer than 48h".to_owned())
    }

    fn fault_of_records(&self) -> Option<String> {
        let shares = [
            ("late.share", self.late.map(|late| late.share)),
            ("duplicates.share", self.duplicates.map(|duplicates| duplicates.share)),
            ("out_of_order.share", self.out_of_order.map(|out| out.share)),
            ("clock_skew.share", self.clock_skew.map(|skew| skew.share)),
        ];
        let shares = shares.into_iter().filter_map(|(key, share)| Some((key.to_owned(), share?)));
        let outages = self.outages.iter().enumerate();
        let outages = outages.map(|(n, outage)| (format!("outages[{n}].share"), outage.share));
        for (key, share) in shares.chain(outages) {
            if !(0.0..=1.0).contains(&share) {
                return Some(format!("{key}: {share} is not a number from 0 to 1"));
            }
        }
        let longest = [
            ("late.delay", self.late.map(|late| late.delay)),
            ("late.delay_max", self.late.and_then(|late| late.delay_max)),
            ("duplicates.delay", self.duplicates.and_then(|duplicates| duplicates.delay)),
        ];
        for (key, delay) in longest {
            if delay.is_some_and(|delay| delay > DELAY_MAX) {
                return Some(format!("{key}: a reading is held back for 1h at most"));
            }
        }
        if self.late.is_some_and(|late| late.delay_max.is_some_and(|max| max < late.delay)) {
            return Some("late.delay_max: is less than late.delay".to_owned());
        }
        if self.outages.iter().any(|outage| outage.duration > 24 * DELAY_MAX) {
            return Some("outages: one lasts for 24h at most".to_owned());
        }
        let ppm = self.clock_skew.map_or(0.0, |skew| skew.drift_ppm);
        (!(0.0..=10_000.0).contains(&ppm))
            .then(|| format!("clock_skew.drift_ppm: {ppm} is not a number from 0 to 10000"))
    }
}

impl Profile {
    fn fault(&self) -> Option<String> {
        if self.devices == 0 {
            return Some("devices: is a whole number of at least 1".to_owned());
        }
        if self.interval.is_some_and(|interval| interval < INTERVAL_MIN) {
            return Some("interval: is at least 100ms".to_owned());
        }
        if self.drones != self.sensors.is_empty() {
            return Some("sensors: name at least one, or say drones: true and none".to_owned());
        }
        if self.sensors.len() > 16 {
            return Some("sensors: a device has 16 at most".to_owned());
        }
        let rate = self.anomaly_rate.unwrap_or(0.0);
        (!(0.0..=ANOMALY_RATE_MAX).contains(&rate))
            .then(|| format!("anomaly_rate: {rate} is not a number from 0 to {ANOMALY_RATE_MAX}"))
    }
}

impl PhaseSpec {
    fn phase(&self) -> Phase {
        let Self { duration, rate, from, easing } = *self;
        Phase { duration, from, rate, easing }
    }
}

impl BurstSpec {
    fn burst(&self) -> Burst {
        let Self { at, duration, factor } = *self;
        Burst { at, duration, factor }
    }
}

/// A duration as people write it: `100ms`, `5s`, `1.5m`, `2h`, `1d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    // To the microsecond, so that 0.1s is 100ms and not a little less.
    let micros = (number * seconds * 1e6).round();
    (0.0..=3.2e13).contains(&micros).then(|| Duration::from_micros(micros as u64))
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 100ms, 5s, 1m or 2h")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Text)
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn sensors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SensorKind>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let kind = |name: &String| {
        SensorKind::of_name(name).ok_or_else(|| {
            let known = SensorKind::ALL.map(SensorKind::name).join(", ");
            de::Error::custom(format!("sensors: \"{name}\" is none of {known}"))
        })
    };
    names.iter().map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation_is_a_scenario() {
        let source = include_str!("scenario.rs");
        let doc = source.lines().take_while(|line| line.starts_with("//!"));
        let doc: Vec<&str> =
            doc.map(|line| line.trim_start_matches("//!").trim_start_matches(' ')).collect();
        let text = doc.join("\n");
        // Indentation matters to YAML: one space after the mark, the rest is the file's.
        let text = text.replace("- {", "  - {");
        let yaml = text.split("```yaml").nth(1).unwrap().split("```").next().unwrap();
        let scenario = Scenario::from_yaml(yaml).unwrap();
        assert_eq!(scenario.profiles.len(), 3);
        assert_eq!(scenario.profiles[1].interval, Some(Duration::from_millis(500)));
        assert_eq!(scenario.outages[0].after, After::Resend);
        assert_eq!(scenario.phases[0].easing, Easing::EaseInOut);
        assert!(Scenario::from_yaml("").is_ok());
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        let check = |yaml: &str, words: &[&str]| {
            let error = Scenario::from_yaml(yaml).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{yaml}: {error}");
            }
        };
        check("profils: []", &["unknown field", "profils", "profiles"]);
        check("profiles: [{name: a, devices: 0, sensors: [current]}]", &["profiles[0].devices"]);
        check(
            "profiles: [{name: a, devices: 5, interval: 50ms, sensors: [current]}]",
            &["profiles[0].interval", "100ms"],
        );
        check(
            "profiles: [{name: a, devices: 5, interval: soon, sensors: [current]}]",
            &["interval", "duration"],
        );
        check("profiles: [{name: a, devices: 5}]", &["profiles[0].sensors"]);
        check("profiles: [{name: a, devices: 5, sensors: [smell]}]", &["smell", "temperature"]);
        check(
            "profiles: [{name: a, devices: 5, sensors: [current], anomaly_rate: 0.2}]",
            &["profiles[0].anomaly_rate", "0.1"],
        );
        check("profiles: [{name: a, devices: 100001, sensors: [current]}]", &["100000"]);
        check("phases: [{duration: 1m, rate: -1}]", &["phases[0].rate"]);
        check("phases: [{duration: 1m, rate: 1, easing: slowly}]", &["slowly"]);
        check("phases: [{duration: 49h, rate: 1}]", &["48h"]);
        check("bursts: [{at: 1s, duration: 1s, factor: 0.5}]", &["bursts[0].factor"]);
        check("outages: [{at: 1s, duration: 1s, share: 2}]", &["outages[0].share"]);
        check("late: {share: 0.1, delay: 2h}", &["late.delay", "1h"]);
        check("late: {share: 0.1, delay: 2s, delay_max: 1s}", &["late.delay_max"]);
        check("clock_skew: {share: 1, offset_max: 1s, drift_ppm: -4}", &["clock_skew.drift_ppm"]);
        check("site: {buildings: 0, floors: 1, rooms: 1}", &["site"]);
    }

    #[test]
    fn durations_are_read_to_the_microsecond() {
        let read = |text| parse_duration(text).map(|duration| duration.as_micros());
        assert_eq!(read("0.1s"), Some(100_000));
        assert_eq!(read("1.5m"), Some(90_000_000));
        for wrong in ["5", "s", "-1s", "1 fortnight", "", "1e9d"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
