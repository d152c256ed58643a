//! What can be wrong with bytes that come in, and with values that should go out.

use crate::api_key::ApiKey;

/// Bytes that are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message ends inside a value.
    #[error("message ends early: {needed_bytes} bytes needed, {left_bytes} left")]
    EndOfInput {
        /// Bytes the value takes.
        needed_bytes: usize,
        /// Bytes that are left.
        left_bytes: usize,
    },
    /// A length or count that cannot be: below −1, or more than the bytes left can hold.
    #[error("length {length} is impossible with {left_bytes} bytes left")]
    Length {
        /// What the message says.
        length: i64,
        /// Bytes that are left.
        left_bytes: usize,
    },
    /// A null where this version of the message has none.
    #[error("null where version {version} allows none")]
    Null {
        /// The version of the message.
        version: i16,
    },
    /// A varint longer than its type.
    #[error("varint is longer than {bytes_max} bytes")]
    Varint {
        /// Bytes the longest varint of this type takes.
        bytes_max: usize,
    },
    /// A string that is not UTF-8.
    #[error("string is not UTF-8")]
    Utf8,
    /// A tagged field whose contents end before or after its size.
    #[error("tagged field {tag} does not fill its size: {left_bytes} bytes left over")]
    TaggedField {
        /// The tag.
        tag: u32,
        /// Bytes left of its size.
        left_bytes: usize,
    },
    /// Bytes after the last field.
    #[error("{left_bytes} bytes after the end of the message")]
    TrailingBytes {
        /// How many.
        left_bytes: usize,
    },
    /// The decoded arrays would take more memory than the budget allows.
    #[error(
        "message would take {needed_bytes} bytes of memory, {left_bytes} are left of its budget"
    )]
    HeapBudget {
        /// Memory the next array takes.
        needed_bytes: usize,
        /// Memory left of the budget.
        left_bytes: usize,
    },
    /// A length prefix that no frame may have. Most often this is not Kafka's protocol at all: HTTP
    /// or TLS.
    #[error(
        "frame length {length} is not between 1 and {frame_bytes_max}: {}",
        what_begins_so(*length)
    )]
    FrameLength {
        /// What the four bytes say.
        length: i32,
        /// The longest frame that is taken.
        frame_bytes_max: usize,
    },
    /// A key that no Kafka knows.
    #[error("unknown api key {0}")]
    UnknownApiKey(i16),
    /// A version that is not decoded here.
    #[error("version {version} of {api_key} is not supported")]
    UnsupportedVersion {
        /// The API.
        api_key: ApiKey,
        /// The version asked for.
        version: i16,
    },
}

impl DecodeError {
    /// The code of the page that explains it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::FrameLength { .. } => "WEIR-0101",
            Self::UnknownApiKey(_) | Self::UnsupportedVersion { .. } => "WEIR-0102",
            Self::HeapBudget { .. } => "WEIR-0104",
            _ => "WEIR-0103",
        }
    }
}

/// A value that cannot be written in this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A `None` where this version of the message has no null.
    #[error("null where version {version} allows none")]
    Null {
        /// The version of the message.
        version: i16,
    },
    /// A string, array or byte field longer than its length prefix can say.
    #[error("length {length} is over {length_max}, which the format can hold")]
    TooLong {
        /// Its length.
        length: usize,
        /// The longest.
        length_max: usize,
    },
    /// A version that is not written here.
    #[error("version {version} of {api_key} is not supported")]
    UnsupportedVersion {
        /// The API.
        api_key: ApiKey,
        /// The version asked for.
        version: i16,
    },
}

impl EncodeError {
    /// The code of the page that explains it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnsupportedVersion { .. } => "WEIR-0102",
            Self::Null { .. } | Self::TooLong { .. } => "WEIR-0105",
        }
    }
}

/// What four bytes may be that are no length of a frame.
fn what_begins_so(length: i32) -> &'static str {
    match length.to_be_bytes() {
        // An alert, a handshake (RFC 8446, 5.1).
        [0x15 | 0x16, 3, ..] => "this is TLS",
        [b'H', b'T', b'T', b'P'] | [b'G', b'E', b'T', b' '] | [b'P', b'O', b'S', b'T'] => {
            "this is HTTP"
        }
        _ => "not Kafka's protocol, or a request too large",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_known_by_their_first_bytes() {
        for (first, said) in [
            ([0x15, 3, 3, 0], "this is TLS"),
            ([0x16, 3, 1, 2], "this is TLS"),
            (*b"HTTP", "this is HTTP"),
            ([0x7f, 0, 0, 0], "too large"),
        ] {
            let error =
                DecodeError::FrameLength { length: i32::from_be_bytes(first), frame_bytes_max: 1 };
            assert!(error.to_string().ends_with(said), "{error}");
        }
    }
}
