//! The five sensor kinds of spec 004: distributions, ranges, alarms.
//!
//! | kind | distribution | range | alarm |
//! |---|---|---|---|
//! | temperature | normal, 25 °C, 5 | -10 to 60 | > 50 |
//! | humidity | normal, 60 %, 10 | 0 to 100 | < 20 |
//! | pressure | normal, 1013 hPa, 20 | 950 to 1050 | > 1040 |
//! | switch | Bernoulli, 0.8 | OFF, ON | [`TOGGLES_ALARM`] changes in 8 readings |
//! | current | normal, 2.5 A, 0.5 | 0 to 10 | > 8 |
//!
//! Readings are smooth and have the distribution above, cut to the range (docs/adr,
//! 2026-11-21-sensor-arithmetic). A sensor keeps a standard normal `z` and moves it as the specification
//! smooths, by 0.7 and 0.3, with innovations so large that its deviation stays 1; the reading is `z` mapped
//! to the kind's distribution. The first reading is already a draw from it. A switch keeps its state and
//! is drawn anew in one reading of twenty.

use crate::normal::Marginal;
use crate::random::Random;

/// How much of its last value a sensor keeps from reading to reading; the specification's.
pub const KEEP: f64 = 0.7;
/// What an innovation is worth: `sqrt(1 - KEEP²)`, so that the deviation stays what it is.
const INNOVATION: f64 = 0.714_142_842_854_285;
/// How often a switch is drawn anew.
const SWITCH_REDRAW: f64 = 0.05;
/// Changes within 8 readings at which a switch toggles too often.
pub const TOGGLES_ALARM: u32 = 4;

/// What a sensor measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SensorKind {
    /// Air temperature.
    Temperature,
    /// Relative humidity.
    Humidity,
    /// Air pressure.
    Pressure,
    /// A switch.
    Switch,
    /// Electric current.
    Current,
}

/// The parameters of a sensor with a normal distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normal {
    /// Centre.
    pub mean: f64,
    /// Standard deviation.
    pub sigma: f64,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
}

impl SensorKind {
    /// All five, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Temperature, Self::Humidity, Self::Pressure, Self::Switch, Self::Current];

    /// The `sensor` of its readings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Pressure => "pressure",
            Self::Switch => "switch",
            Self::Current => "current",
        }
    }

    /// That of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The unit of its values; a switch has none.
    pub const fn unit(self) -> Option<&'static str> {
        match self {
            Self::Temperature => Some("°C"),
            Self::Humidity => Some("%"),
            Self::Pressure => Some("hPa"),
            Self::Switch => None,
            Self::Current => Some("A"),
        }
    }

    /// Its distribution; `None` for the switch.
    pub const fn normal(self) -> Option<Normal> {
        match self {
            Self::Temperature => Some(Normal { mean: 25.0, sigma: 5.0, min: -10.0, max: 60.0 }),
            Self::Humidity => Some(Normal { mean: 60.0, sigma: 10.0, min: 0.0, max: 100.0 }),
            Self::Pressure => Some(Normal { mean: 1013.0, sigma: 20.0, min: 950.0, max: 1050.0 }),
            Self::Switch => None,
            Self::Current => Some(Normal { mean: 2.5, sigma: 0.5, min: 0.0, max: 10.0 }),
        }
    }

    /// Probability that a switch is on.
    pub const SWITCH_ON: f64 = 0.8;

    /// Whether this value is one to be told about. No value of a switch is: see [`TOGGLES_ALARM`].
    pub fn is_alarm(self, value: f64) -> bool {
        match self {
            Self::Temperature => value > 50.0,
            Self::Humidity => value < 20.0,
            Self::Pressure => value > 1040.0,
            Self::Switch => false,
            Self::Current => value > 8.0,
        }
    }

    /// The share of readings that are alarms without anomalies and trends, by the distribution; `None` for
    /// the switch, whose alarm is of its history.
    pub fn alarm_share(self) -> Option<f64> {
        let normal = self.normal()?;
        Some(match self {
            Self::Temperature => normal.above(50.0),
            Self::Humidity => 1.0 - normal.above(20.0),
            Self::Pressure => normal.above(1040.0),
            Self::Switch => return None,
            Self::Current => normal.above(8.0),
        })
    }
}

/// What acts on a sensor beside its own chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Influence {
    /// How much of the deviation is the sensor's own, 0 to 1.
    pub own: f64,
    /// What the trend adds, in deviations.
    pub shift: f64,
}

impl Influence {
    /// Nothing: all of the deviation is the sensor's own.
    pub const NONE: Self = Self { own: 1.0, shift: 0.0 };
}

/// One sensor and its last state. It knows no anomalies: those are laid over its readings
/// ([`crate::channel`]) and leave it as it is.
#[derive(Debug, Clone)]
pub struct Sensor {
    random: Random,
    /// A standard normal; of a switch 1 or 0.
    state: f64,
    kind: SensorKind,
}

impl Sensor {
    /// A sensor whose first reading already has the stationary distribution.
    pub fn new(kind: SensorKind, mut random: Random) -> Self {
        let state = match kind {
            SensorKind::Switch => on_or_off(random.chance(SensorKind::SWITCH_ON)),
            _ => random.gaussian(),
        };
        Self { random, state, kind }
    }

    /// What it measures.
    pub const fn kind(&self) -> SensorKind {
        self.kind
    }

    /// Measures; a switch gives 1 or 0.
    pub fn read(&mut self) -> f64 {
        self.read_under(Influence::NONE)
    }

    /// Measures under an influence. The value never leaves the kind's range.
    #[inline]
    pub fn read_under(&mut self, influence: Influence) -> f64 {
        let Some(marginal) = Marginal::of(self.kind) else {
            return self.read_switch(influence);
        };
        self.state = KEEP * self.state + INNOVATION * self.random.gaussian();
        marginal.value(influence.own * self.state + influence.shift)
    }

    /// A trend of one deviation either way moves the probability of ON by 0.14, which leaves it in 0 to 1
    /// and its mean over a whole period at 0.8.
    fn read_switch(&mut self, influence: Influence) -> f64 {
        if self.random.chance(SWITCH_REDRAW * influence.own.max(influence.shift.abs()).min(1.0)) {
            let shift = influence.shift * 0.2 * std::f64::consts::FRAC_1_SQRT_2;
            self.state = on_or_off(self.random.chance(SensorKind::SWITCH_ON + shift));
        }
        self.state
    }
}

fn on_or_off(on: bool) -> f64 {
    f64::from(u8::from(on))
}

#[cfg(test)]
mod tests;
