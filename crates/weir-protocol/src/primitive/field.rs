//! [`Field`]: how each Rust type of a message field is written and read.

use bytes::Bytes;

use super::{Decoder, Encoder, Wire};
use crate::error::{DecodeError, EncodeError};
use crate::types::{Str, Uuid};

/// What the form of a field depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// The version of the message.
    pub(crate) version: i16,
    /// Whether this version is flexible (KIP-482).
    pub(crate) flexible: bool,
    /// Whether this version has null here.
    pub(crate) nullable: bool,
}

impl Layout {
    /// The form of an array's elements, which are never null.
    fn of_elements(self) -> Self {
        Self { nullable: false, ..self }
    }

    fn null<T>(self) -> Result<Option<T>, DecodeError> {
        if self.nullable {
            Ok(None)
        } else {
            Err(DecodeError::Null { version: self.version })
        }
    }

    fn check_null(self, is_null: bool, encoder: &mut Encoder) {
        if is_null && !self.nullable {
            encoder.fail(EncodeError::Null { version: self.version });
        }
    }
}

/// A type that a message field can have.
pub(crate) trait Field: Sized {
    /// Bytes that a value takes on the wire at least; for bounding counts.
    const WIRE_BYTES_MIN: usize = 1;

    /// Kafka's default of a field that names none: zero, empty; for nullable ones too, not null.
    fn default_value() -> Self;

    fn put(&self, encoder: &mut Encoder, layout: Layout);

    fn take(decoder: &mut Decoder, layout: Layout) -> Result<Self, DecodeError>;
}

macro_rules! fixed_size_fields {
    ($($type:ty, $method:ident;)+) => {$(
        impl Field for $type {
            const WIRE_BYTES_MIN: usize = size_of::<$type>();

            fn default_value() -> Self {
                Self::default()
            }

            fn put(&self, encoder: &mut Encoder, _: Layout) {
                encoder.$method(*self);
            }

            fn take(decoder: &mut Decoder, _: Layout) -> Result<Self, DecodeError> {
                decoder.$method()
            }
        }
    )+};
}

fixed_size_fields! {
    bool, bool;
    i8, i8;
    i16, i16;
    u16, u16;
    i32, i32;
    i64, i64;
    f64, f64;
    Uuid, uuid;
}

impl Field for Str {
    fn default_value() -> Self {
        Self::new()
    }

    fn put(&self, encoder: &mut Encoder, layout: Layout) {
        encoder.nullable_string(Some(self), layout.flexible);
    }

    fn take(decoder: &mut Decoder, layout: Layout) -> Result<Self, DecodeError> {
        decoder
            .nullable_string(layout.flexible)?
            .ok_or(DecodeError::Null { version: layout.version })
    }
}

impl Field for Option<Str> {
    fn default_value() -> Self {
        Some(Str::new())
    }

    fn put(&self, encoder: &mut Encoder, layout: Layout) {
        layout.check_null(self.is_none(), encoder);
        encoder.nullable_string(self.as_deref(), layout.flexible);
    }

    fn take(decoder: &mut Decoder, layout: Layout) -> Result<Self, DecodeError> {
        decoder
            .nullable_string(layout.flexible)?
            .map_or_else(|| layout.null(), |text| Ok(Some(text)))
    }
}

impl Field for Bytes {
    fn default_value() -> Self {
        Self::new()
    }

    fn put(&self, encoder: &mut Encoder, layout: Layout) {
        encoder.nullable_bytes(Some(self), layout.flexible);
    }

    fn take(decoder: &mut Decoder, layout: Layout) -> Result<Self, DecodeError> {
        decoder
            .nullable_bytes(layout.flexible)?
            .ok_or(DecodeError::Null { version: layout.version })
    }
}

impl Field for Option<Bytes> {
    fn default_value() -> Self {
        Some(Bytes::new())
    }

    fn put(&self, encoder: &mut Encoder, layout: Layout) {
        layout.check_null(self.is_none(), encoder);
        encoder.nullable_bytes(self.as_ref(), layout.flexible);
    }

    fn take(decoder: &mut Decoder, layout: Layout) -> Result<Self, DecodeError> {
        decoder
            .nullable_bytes(layout.flexible)?
            .map_or_else(|| layout.null(), |bytes| Ok(Some(bytes)))
    }
}

/// A struct of a message. What it is made of says how it is read and written ([`Wire`]).
pub(crate) trait Struct: Wire + Default {}

impl<T: Struct> Field for T {
    fn default_value() -> Self {
        Self::default()
    }

    fn put(&self, encoder: &mut Encoder, layout: Layout) {
        self.encode(encoder, layout.version);
    }

    fn take(decoder: &mut Decoder, layout: Layout) -> Result<Self, DecodeError> {
        Self::decode(decoder, layout.version)
    }
}

/// A nullable struct has a byte in front: −1 for null, 1 for what follows.
impl<T: Struct> Field for Option<T> {
    fn default_value() -> Self {
        Some(T::default())
    }

    fn put(&self, encoder: &mut Encoder, layout: Layout) {
        layout.check_null(self.is_none(), encoder);
        match self {
            None => encoder.i8(-1),
            Some(value) => {
                encoder.i8(1);
                value.encode(encoder, layout.version);
            }
        }
    }

    fn take(decoder: &mut Decoder, layout: Layout) -> Result<Self, DecodeError> {
        if decoder.i8()? < 0 {
            return layout.null();
        }
        T::decode(decoder, layout.version).map(Some)
    }
}

impl<T: Field> Field for Vec<T> {
    fn default_value() -> Self {
        Self::new()
    }

    fn put(&self, encoder: &mut Encoder, layout: Layout) {
        encoder.len32(Some(self.len()), layout.flexible);
        for element in self {
            element.put(encoder, layout.of_elements());
        }
    }

    fn take(decoder: &mut Decoder, layout: Layout) -> Result<Self, DecodeError> {
        let count =
            decoder.len32(layout.flexible)?.ok_or(DecodeError::Null { version: layout.version })?;
        take_elements(decoder, layout, count)
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn default_value() -> Self {
        Some(Vec::new())
    }

    fn put(&self, encoder: &mut Encoder, layout: Layout) {
        match self {
            Some(elements) => elements.put(encoder, layout),
            None => {
                layout.check_null(true, encoder);
                encoder.len32(None, layout.flexible);
            }
        }
    }

    fn take(decoder: &mut Decoder, layout: Layout) -> Result<Self, DecodeError> {
        match decoder.len32(layout.flexible)? {
            Some(count) => take_elements(decoder, layout, count).map(Some),
            None => layout.null(),
        }
    }
}

fn take_elements<T: Field>(
    decoder: &mut Decoder,
    layout: Layout,
    count: usize,
) -> Result<Vec<T>, DecodeError> {
    let mut elements = decoder.vec(count, T::WIRE_BYTES_MIN)?;
    for _ in 0..count {
        elements.push(T::take(decoder, layout.of_elements())?);
    }
    Ok(elements)
}
