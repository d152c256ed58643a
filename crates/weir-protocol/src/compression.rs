//! The five codecs of record batches, with a cap on what comes out.
//!
//! # What holds
//! - [`decompress`] never gives, and never holds, much more than its cap, whatever the input claims:
//!   bytes are inflated as a stream and counted, sizes in headers are believed only as far as the
//!   input could make them true.
//! - What [`Compressor`] writes, Kafka's own clients read: snappy in the framing of Java's
//!   `SnappyOutputStream` (xerial), lz4 as a frame of independent blocks of 64 KiB.

#![deny(clippy::indexing_slicing)]

use std::fmt;
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy blocks in xerial's framing.
    Snappy,
    /// LZ4 frame.
    Lz4,
    /// Zstandard (RFC 8878; KIP-110).
    Zstd,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of attribute bits 0 to 2, if it is defined.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its attribute bits.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Its name in Kafka's `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The levels it can be told to compress at (KIP-390); `None` where there is one way only. Higher is
    /// smaller and slower.
    #[must_use]
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::Gzip => Some(1..=9),
            Self::Zstd => Some(zstd::compression_level_range()),
            // The LZ4 here is the fast one; Java's levels are those of its slow one.
            Self::None | Self::Snappy | Self::Lz4 => None,
        }
    }

    /// The codec of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes were not compressed or inflated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// They inflate to more than they may.
    #[error("{codec} data inflates to more than {inflate_bytes_max} bytes")]
    TooLarge {
        /// The codec.
        codec: Codec,
        /// The cap.
        inflate_bytes_max: usize,
    },
    /// They are not what the codec writes.
    #[error("{codec} data is damaged: {reason}")]
    Damaged {
        /// The codec.
        codec: Codec,
        /// In the words of the codec's library.
        reason: String,
    },
    /// The codec's library did not compress them; most likely there was no memory.
    #[error("{codec} does not compress: {reason}")]
    Compress {
        /// The codec.
        codec: Codec,
        /// In the words of the codec's library.
        reason: String,
    },
}

impl CompressionError {
    /// The code of the page that explains it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "WEIR-0112",
            Self::Damaged { .. } | Self::Compress { .. } => "WEIR-0113",
        }
    }

    fn damaged(codec: Codec, reason: impl fmt::Display) -> Self {
        Self::Damaged { codec, reason: reason.to_string() }
    }

    fn compress(codec: Codec, reason: impl fmt::Display) -> Self {
        Self::Compress { codec, reason: reason.to_string() }
    }
}

/// `input` compressed. For one batch after another, [`Compressor`] keeps its tables.
///
/// # Errors
/// [`CompressionError::Compress`].
pub fn compress(codec: Codec, input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut output = Vec::new();
    Compressor::default().compress(codec, input, &mut output)?;
    Ok(output)
}

/// What `input` inflates to, at most `inflate_bytes_max`.
///
/// # Errors
/// [`CompressionError::TooLarge`], [`CompressionError::Damaged`].
pub fn decompress(
    codec: Codec,
    input: &[u8],
    inflate_bytes_max: usize,
) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Codec::None if input.len() > inflate_bytes_max => {
            Err(CompressionError::TooLarge { codec, inflate_bytes_max })
        }
        Codec::None => Ok(input.to_vec()),
        // Several members in a row are one stream to Java's `GZIPInputStream`.
        Codec::Gzip => read_capped(
            codec,
            flate2::bufread::MultiGzDecoder::new(input),
            input,
            inflate_bytes_max,
        ),
        Codec::Snappy => inflate_snappy(input, inflate_bytes_max),
        Codec::Lz4 => inflate_lz4(input, inflate_bytes_max),
        Codec::Zstd => {
            let reader = zstd::stream::read::Decoder::with_buffer(input)
                .map_err(|error| CompressionError::damaged(codec, error))?;
            read_capped(codec, reader, input, inflate_bytes_max)
        }
    }
}

/// Compresses one batch after another; keeps the tables of its codecs.
#[derive(Default)]
pub struct Compressor {
    /// Tables of about a megabyte, made with the first batch, and their level.
    zstd: Option<(zstd::bulk::Compressor<'static>, i32)>,
    snappy: Option<Box<snap::raw::Encoder>>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("zstd", &self.zstd.is_some()).finish_non_exhaustive()
    }
}

impl Compressor {
    /// Adds `input`, compressed, to the end of `output`.
    ///
    /// # Errors
    /// [`CompressionError::Compress`]; then `output` has an undefined rest.
    pub fn compress(
        &mut self,
        codec: Codec,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        self.compress_at(codec, None, input, output)
    }

    /// As [`Compressor::compress`], at a level of the codec (`compression.gzip.level` and the like). Snappy has none, and
    /// lz4 one here: any is taken for it.
    ///
    /// # Errors
    /// As [`Compressor::compress`].
    pub fn compress_at(
        &mut self,
        codec: Codec,
        level: Option<i32>,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        let done = match codec {
            Codec::None => output.write_all(input),
            Codec::Gzip => deflate_gzip(level, input, output),
            Codec::Snappy => self.deflate_snappy(input, output),
            Codec::Lz4 => deflate_lz4(input, output),
            Codec::Zstd => self.deflate_zstd(level, input, output),
        };
        done.map_err(|error| CompressionError::compress(codec, error))
    }

    fn deflate_zstd(
        &mut self,
        level: Option<i32>,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> io::Result<()> {
        let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
        let (zstd, now_at) = match &mut self.zstd {
            Some(known) => known,
            none => none.insert((zstd::bulk::Compressor::new(level)?, level)),
        };
        if *now_at != level {
            *zstd = zstd::bulk::Compressor::new(level)?;
            *now_at = level;
        }
        if level >= ZSTD_LARGE_LEVEL_MIN {
            let window = zstd::zstd_safe::CParameter::WindowLog(ZSTD_WINDOW_LOG_MAX);
            zstd.set_parameter(window)?;
        }
        let bytes_max = zstd::zstd_safe::compress_bound(input.len());
        append_at_most(output, bytes_max, |room| zstd.compress_to_buffer(input, room))
    }

    fn deflate_snappy(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        let snappy = self.snappy.get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
        output.extend_from_slice(&XERIAL_HEADER);
        for block in input.chunks(XERIAL_BLOCK_BYTES) {
            let length_at = output.len();
            output.extend_from_slice(&[0; 4]);
            let bytes_max = snap::raw::max_compress_len(block.len());
            append_at_most(output, bytes_max, |room| Ok(snappy.compress(block, room)?))?;
            // A block of 32 KiB is never longer than 40 KB.
            let length = (output.len() - length_at - 4) as i32;
            if let Some(place) = output.get_mut(length_at..).and_then(<[u8]>::first_chunk_mut) {
                *place = length.to_be_bytes();
            }
        }
        Ok(())
    }
}

/// From this level on zstd would take hundreds of megabytes for a long input.
const ZSTD_LARGE_LEVEL_MIN: i32 = 20;
/// 8 MiB: more than a batch is long, and what level 19 has.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// By default level 6, zlib's and Kafka's (-1 there).
fn deflate_gzip(level: Option<i32>, input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    let level = level.and_then(|level| u32::try_from(level).ok());
    let level = level.map_or(flate2::Compression::default(), |level| {
        flate2::Compression::new(level.clamp(1, 9))
    });
    let mut encoder = flate2::write::GzEncoder::new(output, level);
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}

/// Kafka's reader takes independent blocks only, and wants no content checksum.
fn deflate_lz4(input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, output);
    encoder.write_all(input)?;
    encoder.try_finish()?;
    Ok(())
}

/// Lets `write` fill at most `bytes_max` after the end of `output`; it returns how many it did.
fn append_at_most(
    output: &mut Vec<u8>,
    bytes_max: usize,
    write: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let start = output.len();
    output.resize(start + bytes_max, 0);
    let written = write(output.get_mut(start..).unwrap_or_default())?;
    output.truncate(start + written);
    Ok(())
}

/// Reads `reader` to its end, or to one byte more than it may give.
fn read_capped(
    codec: Codec,
    reader: impl Read,
    input: &[u8],
    inflate_bytes_max: usize,
) -> Result<Vec<u8>, CompressionError> {
    // JSON shrinks to a quarter or less; the cap holds for a first guess too.
    let mut output = Vec::with_capacity(input.len().saturating_mul(4).min(inflate_bytes_max));
    let bytes_max = (inflate_bytes_max as u64).saturating_add(1);
    reader
        .take(bytes_max)
        .read_to_end(&mut output)
        .map_err(|error| CompressionError::damaged(codec, error))?;
    if output.len() > inflate_bytes_max {
        return Err(CompressionError::TooLarge { codec, inflate_bytes_max });
    }
    Ok(output)
}

/// The first bytes of an LZ4 frame. The library would read the legacy format too, with blocks of
/// 8 MiB; Kafka does not.
const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();

fn inflate_lz4(input: &[u8], inflate_bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    if !input.starts_with(&LZ4_MAGIC) {
        return Err(CompressionError::damaged(Codec::Lz4, "no frame"));
    }
    read_capped(Codec::Lz4, FrameDecoder::new(input), input, inflate_bytes_max)
}

/// `0x82 SNAPPY 0`, version 1, compatible with version 1.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// Of its header, what never changes between versions.
const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";

/// Uncompressed bytes per block, the default of snappy-java.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// The best that snappy can do is a copy of 64 bytes in 3.
const SNAPPY_RATIO_MAX: usize = 22;

/// Xerial's framing, or one raw block, as Java's `SnappyInputStream` tells them apart.
fn inflate_snappy(input: &[u8], inflate_bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut output = Vec::new();
    if !input.starts_with(&XERIAL_MAGIC) {
        inflate_snappy_block(input, inflate_bytes_max, &mut output)?;
        return Ok(output);
    }
    let cut = || CompressionError::damaged(Codec::Snappy, "cut inside its framing");
    let mut rest = input;
    while !rest.is_empty() {
        // Streams put one behind the other have a header each.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER.len()..).ok_or_else(cut)?;
            continue;
        }
        let (length, tail) = rest.split_first_chunk().ok_or_else(cut)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| cut())?;
        let (block, tail) = tail.split_at_checked(length).ok_or_else(cut)?;
        inflate_snappy_block(block, inflate_bytes_max, &mut output)?;
        rest = tail;
    }
    Ok(output)
}

fn inflate_snappy_block(
    block: &[u8],
    inflate_bytes_max: usize,
    output: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let codec = Codec::Snappy;
    let damaged = |error| CompressionError::damaged(codec, error);
    let claimed = snap::raw::decompress_len(block).map_err(damaged)?;
    if claimed > inflate_bytes_max.saturating_sub(output.len()) {
        return Err(CompressionError::TooLarge { codec, inflate_bytes_max });
    }
    if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(CompressionError::damaged(codec, "claims more than it can hold"));
    }
    let start = output.len();
    output.resize(start + claimed, 0);
    let room = output.get_mut(start..).unwrap_or_default();
    let written = snap::raw::Decoder::new().decompress(block, room).map_err(damaged)?;
    output.truncate(start + written);
    Ok(())
}
