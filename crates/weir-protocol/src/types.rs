//! The vocabulary: numbers that must not be swapped for one another, [`Uuid`], and the shared
//! string [`Str`].
//!
//! Messages in [`crate::api`] carry plain integers, as Kafka's schema does; whoever takes a value
//! out of a message gives it its type here.

mod string;
mod uuid;

use std::fmt;

pub use string::Str;
pub use uuid::{ParseUuidError, Uuid};

/// Declares a newtype over one integer.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The plain number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number! {
    /// The place of a record in its partition. Counts records, from 0, without reuse.
    Offset(i64)
}
number! {
    /// A partition of a topic.
    PartitionId(i32)
}
number! {
    /// An idempotent producer. −1 means "none".
    ProducerId(i64)
}
number! {
    /// The incarnation of a producer id; a higher one fences the lower. −1 means "none".
    ProducerEpoch(i16)
}
number! {
    /// The number of a record among those of one producer in one partition. −1 means "none".
    Sequence(i32)
}
number! {
    /// The reign of one leader of a partition (KIP-101). −1 means "not known".
    LeaderEpoch(i32)
}
number! {
    /// Milliseconds since 1970-01-01T00:00Z. −1 means "none" in record batches.
    TimestampMs(i64)
}
number! {
    /// The round of a consumer group; each rebalance begins a new one.
    GenerationId(i32)
}
number! {
    /// A broker of the cluster.
    NodeId(i32)
}

impl Offset {
    /// The offset after this one. Saturates, as no log gets there.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// `count` records further on (or back, if negative). Saturates.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl ProducerId {
    /// Not an idempotent producer.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// Not an idempotent producer.
    pub const NONE: Self = Self(-1);
}

impl LeaderEpoch {
    /// Not known. Kafka never sends 0 for that (KIP-320).
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// Not an idempotent producer.
    pub const NONE: Self = Self(-1);

    /// The sequence `count` records later: 0 follows 2^31−1, as in Kafka's
    /// `DefaultRecordBatch.incrementSequence`.
    ///
    /// A negative `self` ("none") counts as 0, and a negative `count` as 0.
    #[must_use]
    pub const fn plus(self, count: i32) -> Self {
        let from = if self.0 < 0 { 0 } else { self.0 as i64 };
        let step = if count < 0 { 0 } else { count as i64 };
        Self(((from + step) % (i32::MAX as i64 + 1)) as i32)
    }
}

impl TimestampMs {
    /// `ms` later (or earlier, if negative). Saturates.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; negative if `earlier` is later. Saturates.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_follows_the_largest_sequence() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(1), Sequence(i32::MAX));
        assert_eq!(Sequence(i32::MAX).plus(i32::MAX), Sequence(i32::MAX - 1));
        assert_eq!(Sequence(7).plus(0), Sequence(7));
    }

    #[test]
    fn timestamps_saturate() {
        assert_eq!(TimestampMs(i64::MAX).plus_ms(1), TimestampMs(i64::MAX));
        assert_eq!(TimestampMs(i64::MIN).since(TimestampMs(1)), i64::MIN);
        assert_eq!(TimestampMs(5).since(TimestampMs(9)), -4);
    }
}
