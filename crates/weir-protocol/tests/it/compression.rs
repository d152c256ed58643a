//! The codecs: there and back, in the framings of others, and against input that lies.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use weir_protocol::batch::{BatchBuilder, BatchError, BatchView};
use weir_protocol::compression::{compress, decompress, Codec, CompressionError, Compressor};
use weir_protocol::types::TimestampMs;

const MIB: usize = 1 << 20;

fn compressed_codecs() -> impl Iterator<Item = Codec> {
    Codec::ALL.into_iter().filter(|codec| *codec != Codec::None)
}

/// A length that takes one block of each codec, or several.
fn any_input() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 0..200), 0..400_usize).prop_map(|(unit, times)| unit.repeat(times))
}

proptest! {
    #[test]
    fn every_codec_gives_back_what_it_took(input in any_input()) {
        let mut compressor = Compressor::default();
        for codec in Codec::ALL {
            let mut output = b"before".to_vec();
            compressor.compress(codec, &input, &mut output).unwrap();
            prop_assert!(output.starts_with(b"before"));
            let output = &output[6..];
            prop_assert_eq!(decompress(codec, output, input.len()).unwrap(), &input[..]);
            if let Some(less) = input.len().checked_sub(1) {
                let too_large = CompressionError::TooLarge { codec, inflate_bytes_max: less };
                prop_assert_eq!(decompress(codec, output, less), Err(too_large));
            }
        }
    }

    #[test]
    fn damaged_input_stays_within_its_cap(
        input in any_input(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        for codec in compressed_codecs() {
            let mut damaged = compress(codec, &input).unwrap();
            for (place, byte) in &edits {
                let place = place.index(damaged.len());
                damaged[place] = *byte;
            }
            if let Ok(output) = decompress(codec, &damaged, MIB) {
                prop_assert!(output.len() <= MIB);
            }
        }
    }

    /// Between two blocks of snappy or LZ4 a cut looks like the end; there the record count of the
    /// batch finds it. Gzip and zstd find each cut themselves.
    #[test]
    fn cut_input_gives_no_more_than_its_front(cut in any::<prop::sample::Index>()) {
        let input = b"some sensor reading, ".repeat(5_000);
        for codec in compressed_codecs() {
            let whole = compress(codec, &input).unwrap();
            let cut = &whole[..cut.index(whole.len())];
            if let Ok(output) = decompress(codec, cut, MIB) {
                prop_assert!(input.starts_with(&output), "{codec}");
                let unmarked = matches!(codec, Codec::Snappy | Codec::Lz4);
                prop_assert!(unmarked || cut.is_empty(), "{codec}");
            }
        }
    }
}

/// A frame that would be one GiB of zeros in 32 KiB, of blocks of type RLE (RFC 8878, 3.1.1.2), but for
/// a damaged block after 16 MiB: whoever gets there did not stop at the cap.
fn zstd_bomb() -> Vec<u8> {
    const BLOCK_BYTES: u32 = 128 << 10;
    const BLOCKS: u32 = (1 << 30) / BLOCK_BYTES;
    const RLE: u32 = 1;
    const RESERVED: u32 = 3;
    // Magic; no content size, no checksum; a window of 2^27, the largest that is read.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3];
    for block in 1..=BLOCKS {
        let last = u32::from(block == BLOCKS);
        let kind = if block == (16 << 20) / BLOCK_BYTES { RESERVED } else { RLE };
        let header = (BLOCK_BYTES << 3) | (kind << 1) | last;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn a_zstd_bomb_stops_at_the_cap() {
    let bomb = zstd_bomb();
    assert!(bomb.len() < 33 << 10);
    let codec = Codec::Zstd;
    for inflate_bytes_max in [0, MIB] {
        let too_large = CompressionError::TooLarge { codec, inflate_bytes_max };
        assert_eq!(decompress(codec, &bomb, inflate_bytes_max), Err(too_large));
    }
    let beyond = decompress(codec, &bomb, 64 * MIB);
    assert!(matches!(beyond, Err(CompressionError::Damaged { .. })), "{beyond:?}");
}

/// The second half is missing, which is found only by those who do not stop before.
#[test]
fn bombs_of_all_codecs_stop_at_the_cap() {
    let zeros = vec![0; 32 * MIB];
    for codec in compressed_codecs() {
        let bomb = compress(codec, &zeros).unwrap();
        assert!(bomb.len() < 2 * MIB, "{codec} {}", bomb.len());
        let half = &bomb[..bomb.len() / 2];
        let too_large = CompressionError::TooLarge { codec, inflate_bytes_max: MIB };
        assert_eq!(decompress(codec, half, MIB), Err(too_large));
        let beyond = decompress(codec, half, 64 * MIB);
        assert!(matches!(beyond, Err(CompressionError::Damaged { .. })), "{codec}");
    }
}

#[test]
fn a_batch_is_not_inflated_beyond_the_callers_cap() {
    for codec in compressed_codecs() {
        let mut builder = BatchBuilder::new(codec);
        builder.append(TimestampMs(0), None, Some(&[0; 100_000]), &[]);
        let batch = builder.build();
        let view = BatchView::parse_shared(&batch).unwrap();
        let too_large = CompressionError::TooLarge { codec, inflate_bytes_max: 50_000 };
        let error = BatchError::Inflate(too_large);
        assert_eq!(view.records(50_000).unwrap_err(), error);
        assert_eq!(view.check_records(50_000).unwrap_err(), error);
        assert_eq!(view.records(200_000).unwrap().count(), 1);
    }
}

#[test]
fn a_size_that_the_input_cannot_hold_is_a_lie() {
    // A raw block that says it is 1 GiB.
    let claim = [0x80, 0x80, 0x80, 0x80, 0x04, 0];
    let damaged = |result: Result<Vec<u8>, CompressionError>| {
        matches!(result, Err(CompressionError::Damaged { .. }))
    };
    assert!(damaged(decompress(Codec::Snappy, &claim, usize::MAX)));
    // A xerial block whose length is negative, and one that is cut.
    let framed = |length: i32| {
        let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        framed.extend_from_slice(&length.to_be_bytes());
        framed
    };
    assert!(damaged(decompress(Codec::Snappy, &framed(-1), MIB)));
    assert!(damaged(decompress(Codec::Snappy, &framed(i32::MAX), MIB)));
    assert!(damaged(decompress(Codec::Snappy, &framed(0)[..18], MIB)));
    // LZ4's legacy format, which Kafka does not read.
    assert!(damaged(decompress(Codec::Lz4, &[0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0], MIB)));
}

#[test]
fn snappy_is_read_raw_and_in_frames() {
    let input = b"some sensor reading, ".repeat(5_000);
    let raw = snap::raw::Encoder::new().compress_vec(&input).unwrap();
    assert_eq!(decompress(Codec::Snappy, &raw, MIB).unwrap(), input);
    let framed = compress(Codec::Snappy, &input).unwrap();
    assert!(framed.starts_with(b"\x82SNAPPY\0"));
    // Streams of Java may stand one behind the other, each with its header.
    let twice = [framed.clone(), framed].concat();
    assert_eq!(decompress(Codec::Snappy, &twice, MIB).unwrap(), input.repeat(2));
    let nothing = compress(Codec::Snappy, b"").unwrap();
    assert_eq!(decompress(Codec::Snappy, &nothing, 0).unwrap(), b"");
}

#[test]
fn gzip_members_in_a_row_are_one_stream() {
    let one = compress(Codec::Gzip, b"one ").unwrap();
    let two = compress(Codec::Gzip, b"two").unwrap();
    assert_eq!(decompress(Codec::Gzip, &[one, two].concat(), 7).unwrap(), b"one two");
}

#[test]
fn codecs_are_named_and_numbered_as_kafka_does() {
    let names = Codec::ALL.map(|codec| (codec.id(), codec.name()));
    assert_eq!(names, [(0, "none"), (1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")]);
    for codec in Codec::ALL {
        assert_eq!(Codec::from_id(codec.id()), Some(codec));
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
    }
    assert_eq!(Codec::from_id(5), None);
    assert_eq!(Codec::from_name("lzma"), None);
}

/// Inflated records share one buffer.
#[test]
fn inflated_records_are_slices_of_one_buffer() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    for _ in 0..2 {
        builder.append(TimestampMs(0), None, Some(&[b'x'; 1_000]), &[]);
    }
    let batch = builder.build();
    let records = BatchView::parse_shared(&batch).unwrap().records(MIB).unwrap();
    let values: Vec<Bytes> = records.map(|record| record.unwrap().value.unwrap()).collect();
    let distance = values[1].as_ptr() as usize - values[0].as_ptr() as usize;
    assert_eq!(distance, 1_000 + 9, "the record between them, and nothing else");
}

#[test]
fn a_higher_level_is_smaller_and_reads_the_same() {
    // Text with some order in it, so that levels differ.
    let input: Vec<u8> = (0..40_000_u32)
        .flat_map(|n| {
            format!("{{\"device\":{},\"v\":{}}}", n % 97, n.wrapping_mul(2_654_435_761) % 9_973)
                .into_bytes()
        })
        .collect();
    for codec in [Codec::Gzip, Codec::Zstd] {
        let at = |level| {
            let mut output = Vec::new();
            Compressor::default().compress_at(codec, level, &input, &mut output).unwrap();
            assert_eq!(decompress(codec, &output, input.len()).unwrap(), input);
            output.len()
        };
        let (low, usual, high) = (at(Some(1)), at(None), at(Some(9)));
        assert!(low > high && (high..=low).contains(&usual), "{codec}: {low} {usual} {high}");
        assert!(codec.levels().is_some_and(|levels| levels.contains(&1) && levels.contains(&9)));
    }
    assert_eq!(Codec::Lz4.levels(), None);
}
