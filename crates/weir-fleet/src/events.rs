//! The events of a fleet as Rust types, each with its schema, from one declaration.
//!
//! [`validate`] is one serde pass over the bytes of `data`, borrowing every string without escapes.
//! Ranges are part of the types ([`Number`], [`Id`], [`Time`]), so a value that parsed is in range.
//! Fields beside the declared ones are allowed: devices may say more than weir reads.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weir_client::timestamp::{format_rfc3339, parse_rfc3339};
use weir_protocol::types::TimestampMs;

use crate::error::EventError;
use crate::schema::{self, Field, FieldType, Kind, Shape, ID_BYTES_MAX};

/// Declares event types: the struct, its table for the schema, and its arm in [`validate`].
macro_rules! events {
    ($(
        #[doc = $about:literal]
        $name:ident = $event_type:literal $(, any of [$($group:ident $(as $group_json:literal)?),+])* {
            $(
                #[doc = $field_about:literal]
                $field:ident $(as $json:literal)? : $ty:ty,
            )*
        }
    )*) => {
        $(
            #[doc = $about]
            #[doc = concat!("\n\nThe `data` of `", $event_type, "`.")]
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(bound(deserialize = "'de: 'a"))]
            pub struct $name<'a> {
                $(
                    #[doc = $field_about]
                    $(#[serde(rename = $json)])?
                    pub $field: $ty,
                )*
            }

            impl<'a> EventData<'a> for $name<'a> {
                const SHAPE: &'static Shape = &Shape {
                    event_type: $event_type,
                    about: $about.trim_ascii(),
                    fields: &[$(Field {
                        name: json_name!($field $($json)?),
                        kind: <$ty as FieldType>::KIND,
                        required: <$ty as FieldType>::REQUIRED,
                        about: $field_about.trim_ascii(),
                    },)*],
                    any_of: &[$(&[$(json_name!($group $($group_json)?)),+]),*],
                };

                fn missing_group(&self) -> Option<&'static [&'static str]> {
                    $(
                        if !($(self.$group.is_present())||+) {
                            return Some(&[$(json_name!($group $($group_json)?)),+]);
                        }
                    )*
                    None
                }
            }
        )*

        /// Every declared type's shape, in the order of declaration.
        pub(crate) static SHAPES: &[&Shape] = &[$(<$name<'static> as EventData<'static>>::SHAPE),*];

        /// An event's `data` that has been checked.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Checked<'a> {
            $(
                #[doc = $about]
                $name($name<'a>),
            )*
            /// A type that weir has no schema for; its data was not looked at.
            Untyped,
        }

        /// Checks `data`, the JSON object of an event of this type.
        ///
        /// A type without a schema passes as [`Checked::Untyped`]: whether its prefix has a topic
        /// is for the routing table to say.
        ///
        /// # Errors
        /// [`EventError`] names the first field that is missing, of another type, or out of range.
        pub fn validate<'a>(event_type: &str, data: &'a str) -> Result<Checked<'a>, EventError> {
            match event_type {
                $($event_type => parse::<$name<'a>>(data).map(Checked::$name),)*
                _ => Ok(Checked::Untyped),
            }
        }
    };
}

macro_rules! json_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $json:literal) => {
        $json
    };
}

events! {
    /// A drone went from one status to another.
    DroneStatusChanged = "drone.status.changed", any of [drone_id, device_id] {
        /// The drone.
        drone_id: Option<Id<'a>>,
        /// The device, for fleets that are not drones.
        device_id: Option<Id<'a>>,
        /// Where it comes from, e.g. idle.
        old_status: Text<'a>,
        /// What it is now, e.g. flying.
        new_status: Text<'a>,
        /// Where it is.
        location: Option<Location>,
        /// Charge left in percent.
        battery: Option<Percent>,
        /// Why.
        reason: Option<Text<'a>>,
    }

    /// A device reports where it is: one fix.
    DroneLocationUpdated = "drone.location.updated", any of [drone_id, device_id] {
        /// The drone.
        drone_id: Option<Id<'a>>,
        /// The device, e.g. an aircraft's 24-bit address in hex.
        device_id: Option<Id<'a>>,
        /// Where it is.
        location: Location,
        /// Degrees clockwise from true north.
        heading: Option<Heading>,
        /// Ground speed in m/s.
        speed: Option<Speed>,
        /// Charge left in percent.
        battery: Option<Percent>,
        /// What it is doing, e.g. flying.
        status: Option<Text<'a>>,
    }

    /// A device is alive.
    DroneHeartbeat = "drone.heartbeat", any of [drone_id, device_id] {
        /// The drone.
        drone_id: Option<Id<'a>>,
        /// The device, for fleets that are not drones.
        device_id: Option<Id<'a>>,
        /// What it is doing, e.g. idle.
        status: Option<Text<'a>>,
        /// Charge left in percent.
        battery: Option<Percent>,
    }

    /// A device comes down at once, where it is.
    EmergencyLanding = "emergency.landing", any of [drone_id, device_id] {
        /// The drone.
        drone_id: Option<Id<'a>>,
        /// The device, for fleets that are not drones.
        device_id: Option<Id<'a>>,
        /// Where it comes down.
        location: Option<Location>,
        /// Charge left in percent.
        battery: Option<Percent>,
        /// Why.
        reason: Option<Text<'a>>,
    }

    /// A device says itself that its battery is low.
    BatteryLow = "battery.low", any of [drone_id, device_id] {
        /// The drone.
        drone_id: Option<Id<'a>>,
        /// The device, for fleets that are not drones.
        device_id: Option<Id<'a>>,
        /// Charge left in percent.
        battery: Percent,
        /// The percent below which it says so.
        threshold: Option<Percent>,
    }

    /// A task was made and given to a drone.
    TaskCreated = "task.created" {
        /// The task.
        task_id: Id<'a>,
        /// Who does it.
        drone_id: Option<Id<'a>>,
        /// What people call it.
        name: Option<Text<'a>>,
        /// How many steps it has.
        steps: Option<Count>,
        /// When it should be done.
        estimated_completion: Option<Time>,
    }

    /// A task has come further.
    TaskProgress = "task.progress" {
        /// The task.
        task_id: Id<'a>,
        /// Who does it.
        drone_id: Id<'a>,
        /// How much is done, in percent.
        progress: Percent,
        /// What is being done, e.g. 巡检点位3.
        current_step: Option<Text<'a>>,
        /// When it should be done.
        estimated_completion: Option<Time>,
    }

    /// A task is over.
    TaskCompleted = "task.completed" {
        /// The task.
        task_id: Id<'a>,
        /// Who did it.
        drone_id: Option<Id<'a>>,
        /// How it ended: done, or aborted with a reason.
        result: Option<Text<'a>>,
    }

    /// A person signed in.
    UserLogin = "user.login" {
        /// The person.
        user_id: Id<'a>,
        /// Their name.
        name: Option<Text<'a>>,
        /// Where they sit.
        station: Option<Text<'a>>,
    }

    /// A person signed out.
    UserLogout = "user.logout" {
        /// The person.
        user_id: Id<'a>,
        /// Their name.
        name: Option<Text<'a>>,
        /// Where they sat.
        station: Option<Text<'a>>,
    }

    /// Something needs a person, or an automatic action.
    AlertCreated = "alert.created", any of [drone_id, device_id] {
        /// The alert; the same on every repeat.
        alert_id: Id<'a>,
        /// The rule that raised it, e.g. battery_low.
        kind as "type": Text<'a>,
        /// How bad it is.
        level: AlertLevel,
        /// What happened, for people.
        message: Text<'a>,
        /// The drone.
        drone_id: Option<Id<'a>>,
        /// The device, for fleets that are not drones.
        device_id: Option<Id<'a>>,
        /// What the device shall do by itself, e.g. return_to_base.
        auto_action: Option<Text<'a>>,
    }

    /// What an alert said is over.
    AlertCleared = "alert.cleared" {
        /// The alert.
        alert_id: Id<'a>,
        /// The rule that raised it.
        kind as "type": Option<Text<'a>>,
        /// The drone.
        drone_id: Option<Id<'a>>,
        /// The device, for fleets that are not drones.
        device_id: Option<Id<'a>>,
        /// Why it is over.
        reason: Option<Text<'a>>,
    }

    /// A service has started.
    SystemStarted = "system.started" {
        /// Which.
        service: Text<'a>,
        /// Its version.
        version: Option<Text<'a>>,
    }

    /// A service has stopped.
    SystemStopped = "system.stopped" {
        /// Which.
        service: Text<'a>,
        /// Why.
        reason: Option<Text<'a>>,
    }

    /// How a service is.
    SystemHealth = "system.health" {
        /// Which.
        service: Text<'a>,
        /// ok, degraded or down.
        status: Health,
        /// Since its start, in seconds.
        uptime_s: Option<Count>,
    }

    /// One value of one metric.
    MetricReported = "metric.reported" {
        /// Its name.
        name: Text<'a>,
        /// Its value.
        value: Real,
        /// Its unit.
        unit: Option<Text<'a>>,
        /// Who reports it.
        service: Option<Text<'a>>,
    }

    /// One line of a log.
    LogWritten = "log.written" {
        /// info, warn, error, or what the logger calls it.
        level: Text<'a>,
        /// The line.
        message: Text<'a>,
        /// Who wrote it.
        service: Option<Text<'a>>,
        /// The trace it belongs to.
        trace_id: Option<Text<'a>>,
    }

    /// A sensor measured something.
    SensorReading = "sensor.reading", any of [sensor, sensor_type, kind as "type"] {
        /// The sensor's device.
        device_id: Id<'a>,
        /// What it measures: temperature, humidity, pressure, switch, current, or another.
        sensor: Option<Text<'a>>,
        /// The same under another name.
        sensor_type: Option<Text<'a>>,
        /// The same under another name.
        kind as "type": Option<Text<'a>>,
        /// What it measured.
        value: Reading,
        /// In which unit.
        unit: Option<Text<'a>>,
        /// Where the device hangs.
        place: Option<Place<'a>>,
    }
}

/// Data of one event type: a type that knows its own shape.
pub trait EventData<'a>: Deserialize<'a> {
    /// Its table.
    const SHAPE: &'static Shape;
    /// The first group of fields of which none is there.
    fn missing_group(&self) -> Option<&'static [&'static str]>;
}

fn parse<'a, T: EventData<'a>>(data: &'a str) -> Result<T, EventError> {
    match serde_json::from_str::<T>(data) {
        Ok(value) => match value.missing_group() {
            None => Ok(value),
            Some(group) => Err(schema::missing_any(group)),
        },
        Err(error) => Err(schema::explain(T::SHAPE, data, &error)),
    }
}

impl<'a> Checked<'a> {
    /// The device this event is about, if it is about one.
    pub fn device(&self) -> Option<&Id<'a>> {
        let (device, drone) = match self {
            Self::DroneStatusChanged(e) => (&e.device_id, &e.drone_id),
            Self::DroneLocationUpdated(e) => (&e.device_id, &e.drone_id),
            Self::DroneHeartbeat(e) => (&e.device_id, &e.drone_id),
            Self::EmergencyLanding(e) => (&e.device_id, &e.drone_id),
            Self::BatteryLow(e) => (&e.device_id, &e.drone_id),
            Self::AlertCreated(e) => (&e.device_id, &e.drone_id),
            Self::AlertCleared(e) => (&e.device_id, &e.drone_id),
            Self::TaskCreated(e) => (&None, &e.drone_id),
            Self::TaskCompleted(e) => (&None, &e.drone_id),
            Self::TaskProgress(e) => return Some(&e.drone_id),
            Self::SensorReading(e) => return Some(&e.device_id),
            _ => (&None, &None),
        };
        // The order of the record key: device_id first.
        device.as_ref().or(drone.as_ref())
    }
}

/// An id: a number or a string. As text it is the record key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Id<'a> {
    /// An unsigned integer, as the specification writes drone ids.
    Number(u64),
    /// A string, e.g. an aircraft's address in hex.
    Text(Cow<'a, str>),
}

impl Id<'_> {
    /// As text, allocating only for a number.
    pub fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }

    /// The same id, owning its text.
    pub fn into_owned(self) -> Id<'static> {
        match self {
            Self::Number(number) => Id::Number(number),
            Self::Text(text) => Id::Text(Cow::Owned(text.into_owned())),
        }
    }
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl FieldType for Id<'_> {
    const KIND: Kind = Kind::Id;
}

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Id<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl<'de> Visitor<'de> for IdVisitor {
            type Value = Id<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an unsigned integer or a non-empty string")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Id<'de>, E> {
                Ok(Id::Number(value))
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Id<'de>, E> {
                id_length(text).map(|()| Id::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id<'de>, E> {
                id_length(text).map(|()| Id::Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

fn id_length<E: de::Error>(text: &str) -> Result<(), E> {
    if text.is_empty() || text.len() > ID_BYTES_MAX {
        return Err(E::invalid_length(text.len(), &"1 to 128 bytes"));
    }
    Ok(())
}

/// A string, borrowed from the JSON unless it has escapes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Text<'a>(pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl FieldType for Text<'_> {
    const KIND: Kind = Kind::Text;
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A point in time, written as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub TimestampMs);

impl FieldType for Time {
    const KIND: Kind = Kind::Time;
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_rfc3339(self.0))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;
        impl Visitor<'_> for TimeVisitor {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                parse_rfc3339(text)
                    .map(Time)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(TimeVisitor)
    }
}

/// A finite number from `MIN` to `MAX`; `i64::MIN` and `i64::MAX` mean no bound.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Number<const MIN: i64, const MAX: i64>(f64);

/// Degrees north.
pub type Latitude = Number<-90, 90>;
/// Degrees east.
pub type Longitude = Number<-180, 180>;
/// Metres; below any mine, and above any aircraft.
pub type Altitude = Number<-10_000, 100_000>;
/// Degrees clockwise from north.
pub type Heading = Number<0, 360>;
/// Metres per second.
pub type Speed = Number<0, 10_000>;
/// 0 to 100.
pub type Percent = Number<0, 100>;
/// A quantity that is not negative.
pub type Count = Number<0, { i64::MAX }>;
/// Any finite number.
pub type Real = Number<{ i64::MIN }, { i64::MAX }>;

impl<const MIN: i64, const MAX: i64> Number<MIN, MAX> {
    /// The number, if it is finite and in range.
    pub fn new(value: f64) -> Option<Self> {
        schema::in_range(value, MIN, MAX).then_some(Self(value))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl<const MIN: i64, const MAX: i64> FieldType for Number<MIN, MAX> {
    const KIND: Kind = Kind::Number { min: MIN, max: MAX };
}

impl<const MIN: i64, const MAX: i64> Serialize for Number<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        Self::new(value)
            .ok_or_else(|| de::Error::invalid_value(Unexpected::Float(value), &"a number in range"))
    }
}

/// A place on Earth (WGS 84).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Degrees north.
    pub latitude: Latitude,
    /// Degrees east.
    pub longitude: Longitude,
    /// Metres, if known.
    pub altitude: Option<Altitude>,
}

impl FieldType for Location {
    const KIND: Kind = Kind::Object(&[
        field::<Latitude>("latitude", "Degrees north."),
        field::<Longitude>("longitude", "Degrees east."),
        field::<Option<Altitude>>("altitude", "Metres."),
    ]);
}

/// Where a device hangs: building, floor, room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub struct Place<'a> {
    /// The building.
    pub building: Id<'a>,
    /// The floor.
    pub floor: Option<Id<'a>>,
    /// The room.
    pub room: Option<Id<'a>>,
}

impl FieldType for Place<'_> {
    const KIND: Kind = Kind::Object(&[
        field::<Id<'static>>("building", "The building."),
        field::<Option<Id<'static>>>("floor", "The floor."),
        field::<Option<Id<'static>>>("room", "The room."),
    ]);
}

const fn field<T: FieldType>(name: &'static str, about: &'static str) -> Field {
    Field { name, kind: T::KIND, required: T::REQUIRED, about }
}

/// What a sensor measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// A number.
    Number(f64),
    /// A switch: a boolean, or `ON` / `OFF`.
    Switch(bool),
}

impl Reading {
    /// As a number: a switch is 1 or 0.
    pub const fn as_f64(self) -> f64 {
        match self {
            Self::Number(value) => value,
            Self::Switch(true) => 1.0,
            Self::Switch(false) => 0.0,
        }
    }
}

impl FieldType for Reading {
    const KIND: Kind = Kind::Reading;
}

impl Serialize for Reading {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(value) => serializer.serialize_f64(*value),
            Self::Switch(on) => serializer.serialize_str(if *on { "ON" } else { "OFF" }),
        }
    }
}

impl<'de> Deserialize<'de> for Reading {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReadingVisitor;
        impl Visitor<'_> for ReadingVisitor {
            type Value = Reading;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a boolean, \"ON\" or \"OFF\"")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Reading, E> {
                Ok(Reading::Number(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Reading, E> {
                Ok(Reading::Number(value as f64))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Reading, E> {
                Ok(Reading::Number(value as f64))
            }
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Reading, E> {
                Ok(Reading::Switch(on))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Reading, E> {
                match text {
                    "ON" => Ok(Reading::Switch(true)),
                    "OFF" => Ok(Reading::Switch(false)),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(ReadingVisitor)
    }
}

/// Declares an enum of words.
macro_rules! words {
    ($(#[doc = $about:literal])* $name:ident { $(#[doc = $word_about:literal] $word:ident = $text:literal,)* }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $word_about] $word,)*
        }

        impl $name {
            /// The word in JSON.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                }
            }

            /// Reads the word as written in JSON.
            pub fn from_name(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$word),)*
                    _ => None,
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Text::deserialize(deserializer)?;
                Self::from_name(&text)
                    .ok_or_else(|| de::Error::unknown_variant(&text, &[$($text),*]))
            }
        }

        impl FieldType for $name {
            const KIND: Kind = Kind::OneOf(&[$($text),*]);
        }
    };
}

words! {
    /// How bad an alert is; `Ord`: the worst last.
    AlertLevel {
        /// To know.
        Info = "info",
        /// To watch.
        Warning = "warning",
        /// To mend.
        Error = "error",
        /// To act on now.
        Critical = "critical",
    }
}

words! {
    /// How a service is.
    Health {
        /// All well.
        Ok = "ok",
        /// It works, but not as it should.
        Degraded = "degraded",
        /// It does not work.
        Down = "down",
    }
}
