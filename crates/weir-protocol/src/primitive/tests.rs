//! Edges of lengths, varints, nulls, tagged fields and the heap budget.

use bytes::Bytes;

use super::field::{Field, Layout};
use super::*;
use crate::types::Str;

const CLASSIC: Layout = Layout { version: 0, flexible: false, nullable: false };
const COMPACT: Layout = Layout { version: 0, flexible: true, nullable: false };

fn nullable(layout: Layout) -> Layout {
    Layout { nullable: true, ..layout }
}

fn read<T: Field>(bytes: &[u8], layout: Layout) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(Bytes::copy_from_slice(bytes));
    let value = T::take(&mut decoder, layout)?;
    decoder.finish()?;
    Ok(value)
}

fn written<T: Field>(value: &T, layout: Layout) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder::new();
    value.put(&mut encoder, layout);
    encoder.finish().map(|bytes| bytes.to_vec())
}

#[test]
fn a_value_is_the_bytes_kafka_says_both_ways() {
    fn check<T: Field + PartialEq + std::fmt::Debug>(value: T, layout: Layout, bytes: &[u8]) {
        assert_eq!(written(&value, layout).unwrap(), bytes, "{value:?}");
        assert_eq!(read::<T>(bytes, layout).unwrap(), value);
    }
    check(true, CLASSIC, &[1]);
    check(-2_i16, CLASSIC, &[0xff, 0xfe]);
    check(0.5_f64, CLASSIC, &[0x3f, 0xe0, 0, 0, 0, 0, 0, 0]);
    check(Str::from("ab"), CLASSIC, &[0, 2, b'a', b'b']);
    check(Str::from("ab"), COMPACT, &[3, b'a', b'b']);
    check(None::<Str>, nullable(CLASSIC), &[0xff, 0xff]);
    check(None::<Str>, nullable(COMPACT), &[0]);
    check(Some(Str::new()), nullable(COMPACT), &[1]);
    check(Bytes::from_static(b"x"), CLASSIC, &[0, 0, 0, 1, b'x']);
    check(None::<Bytes>, nullable(CLASSIC), &[0xff; 4]);
    check(vec![1_i32, 2], CLASSIC, &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
    check(vec![7_i8], COMPACT, &[2, 7]);
    check(None::<Vec<i32>>, nullable(COMPACT), &[0]);
}

#[test]
fn null_is_an_error_where_the_version_has_none() {
    let null = DecodeError::Null { version: 0 };
    assert_eq!(read::<Str>(&[0xff, 0xff], CLASSIC), Err(null.clone()));
    assert_eq!(read::<Option<Str>>(&[0xff, 0xff], CLASSIC), Err(null.clone()));
    assert_eq!(read::<Option<Bytes>>(&[0], COMPACT), Err(null.clone()));
    assert_eq!(read::<Vec<i32>>(&[0], COMPACT), Err(null.clone()));
    assert_eq!(read::<Option<Vec<i32>>>(&[0], COMPACT), Err(null));

    let null = EncodeError::Null { version: 0 };
    assert_eq!(written(&None::<Str>, CLASSIC), Err(null.clone()));
    assert_eq!(written(&None::<Bytes>, COMPACT), Err(null.clone()));
    assert_eq!(written(&None::<Vec<i32>>, COMPACT), Err(null));
}

#[test]
fn lengths_that_cannot_be_are_errors() {
    let length = |length, left_bytes| Some(DecodeError::Length { length, left_bytes });
    assert_eq!(
        read::<Bytes>(&[0x7f, 0xff, 0xff, 0xff, 1], CLASSIC).err(),
        length(2_147_483_647, 1)
    );
    assert_eq!(read::<Bytes>(&[0xff, 0xff, 0xff, 0xfe], CLASSIC).err(), length(-2, 0));
    assert_eq!(read::<Str>(&[0x80, 0], CLASSIC).err(), length(-32_768, 0));
    // Six bytes are left, which would do for six structs, but not for two i32.
    let two_and_a_half = [0, 0, 0, 2, 0, 0, 0, 1, 0, 0];
    assert_eq!(read::<Vec<i32>>(&two_and_a_half, CLASSIC).err(), length(2, 6));
    assert_eq!(read::<Str>(&[3, 0xff, 0xfe], COMPACT).err(), Some(DecodeError::Utf8));
}

#[test]
fn a_string_too_long_for_its_prefix_is_not_written() {
    let long = Str::from("x".repeat(32_768));
    assert_eq!(
        written(&long, CLASSIC),
        Err(EncodeError::TooLong { length: 32_768, length_max: 32_767 })
    );
    assert_eq!(written(&long, COMPACT).unwrap().len(), 32_768 + 3);
}

#[test]
fn varints_end_at_32_bits() {
    for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX >> 4, u32::MAX] {
        let mut encoder = Encoder::new();
        encoder.uvarint(value);
        let bytes = encoder.finish().unwrap().freeze();
        let mut decoder = Decoder::new(bytes);
        assert_eq!(decoder.uvarint(), Ok(value));
        assert_eq!(decoder.finish(), Ok(()));
    }
    for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x1f][..], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]] {
        let mut decoder = Decoder::new(Bytes::copy_from_slice(bytes));
        assert_eq!(decoder.uvarint(), Err(DecodeError::Varint { bytes_max: 5 }));
    }
}

#[test]
fn strings_and_bytes_are_slices_of_the_message() {
    let message = Bytes::from(vec![0, 1, b'a', 0, 0, 0, 2, b'b', b'c']);
    let mut decoder = Decoder::new(message.clone());
    let text = Str::take(&mut decoder, CLASSIC).unwrap();
    let bytes = Bytes::take(&mut decoder, CLASSIC).unwrap();
    assert_eq!(text.as_ptr(), message[2..].as_ptr());
    assert_eq!(bytes.as_ptr(), message[7..].as_ptr());
}

#[test]
fn arrays_are_charged_to_the_budget_before_they_are_made() {
    let bytes = Bytes::from([&[101_u8][..], &[1; 100]].concat());
    let needed_bytes = 100 * size_of::<Str>();
    let mut enough = Decoder::with_heap_bytes_max(bytes.clone(), needed_bytes);
    assert_eq!(Vec::<Str>::take(&mut enough, COMPACT).unwrap().len(), 100);
    assert_eq!(enough.heap_bytes_left(), 0);
    let left_bytes = needed_bytes - 1;
    let mut short = Decoder::with_heap_bytes_max(bytes, left_bytes);
    assert_eq!(
        Vec::<Str>::take(&mut short, COMPACT),
        Err(DecodeError::HeapBudget { needed_bytes, left_bytes })
    );
}

#[test]
fn unknown_tagged_fields_are_passed_over_and_known_ones_must_fit() {
    let read = |bytes: &'static [u8]| {
        let mut decoder = Decoder::new(Bytes::from_static(bytes));
        let mut found = None;
        decoder.tagged_fields(|field, tag| {
            if tag == 5 {
                found = Some(field.i16()?);
            }
            Ok(tag == 5)
        })?;
        decoder.finish()?;
        Ok(found)
    };
    assert_eq!(read(&[0]), Ok(None));
    assert_eq!(read(&[2, 3, 1, 0xaa, 5, 2, 0, 9]), Ok(Some(9)));
    assert_eq!(read(&[1, 5, 3, 0, 9, 0]), Err(DecodeError::TaggedField { tag: 5, left_bytes: 1 }));
    // Too short for the field, though the message goes on.
    let end = DecodeError::EndOfInput { needed_bytes: 2, left_bytes: 1 };
    assert_eq!(read(&[1, 5, 1, 0, 9, 0]), Err(end));
    let end = DecodeError::EndOfInput { needed_bytes: 1, left_bytes: 0 };
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f, 9, 0]), Err(end));
}

#[test]
fn long_byte_fields_become_segments_without_being_copied() {
    let records = Bytes::from(vec![7; SEGMENT_BYTES_MIN]);
    let write = || {
        let mut encoder = Encoder::new();
        encoder.i16(1);
        encoder.nullable_bytes(Some(&records), false);
        encoder.nullable_bytes(Some(&records), false);
        encoder.shared(&records);
        encoder.nullable_bytes(Some(&records.slice(1..)), false);
        encoder
    };
    let segments = write().finish_segments().unwrap();
    let lens: Vec<usize> = segments.iter().map(Bytes::len).collect();
    assert_eq!(lens, [6, 1024, 4, 1024, 1024, 4 + 1023]);
    assert_eq!(segments[1].as_ptr(), records.as_ptr());
    assert_eq!(segments[4].as_ptr(), records.as_ptr());
    let whole = write().finish().unwrap();
    assert_eq!(whole, segments.concat());
    assert_eq!(whole.capacity(), whole.len(), "one allocation of the right size");
}
