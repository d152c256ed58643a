//! A batch under another codec, as a broker stores it in a topic with a `compression.type` of its own.

use super::edit::{put, renew_crc};
use super::{
    BatchError, BatchView, RecordsSummary, CODEC_BITS, CRC_FROM, HEADER_BYTES, LENGTH_END,
    MAX_TIMESTAMP_AT,
};
use crate::compression::{Codec, CompressionError, Compressor};

/// A codec, and how hard it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recoding {
    /// The codec.
    pub codec: Codec,
    /// Its level; `None`: its default.
    pub level: Option<i32>,
}

impl BatchView<'_> {
    /// This batch, its records read and compressed as `recoding` says. Offsets, timestamps, headers, the producer's id, epoch
    /// and sequence, and whether it belongs to a transaction stay what they are: the records themselves are copied byte for
    /// byte. It has a CRC of its own, and the largest timestamp that was found.
    ///
    /// `size_bytes_max` is what it may take at most; it is given up as soon as that is clear.
    ///
    /// # Errors
    /// As [`BatchView::check_records`], or if the codec fails, or [`BatchError::RecodedTooLarge`].
    pub fn recode(
        &self,
        recoding: Recoding,
        compressor: &mut Compressor,
        inflate_bytes_max: usize,
        size_bytes_max: usize,
    ) -> Result<(Vec<u8>, RecordsSummary), BatchError> {
        let Recoding { codec, level } = recoding;
        let inflated = self.inflated(inflate_bytes_max)?;
        let summary = self.check_inflated(&inflated)?;
        let too_large = |size_bytes| BatchError::RecodedTooLarge { size_bytes, size_bytes_max };
        let plain_bytes = HEADER_BYTES + inflated.len();
        if codec == Codec::None && plain_bytes > size_bytes_max {
            return Err(too_large(plain_bytes));
        }
        let mut batch = Vec::with_capacity(self.size_bytes().min(plain_bytes));
        batch.extend_from_slice(self.bytes().get(..HEADER_BYTES).unwrap_or_default());
        compressor.compress_at(codec, level, &inflated, &mut batch)?;
        let size_bytes = batch.len();
        if size_bytes > size_bytes_max {
            return Err(too_large(size_bytes));
        }
        let Ok(length) = i32::try_from(size_bytes - LENGTH_END) else {
            let reason = "the batch grows beyond 2 GiB".to_owned();
            return Err(CompressionError::Compress { codec, reason }.into());
        };
        let attributes = (self.attributes() & !CODEC_BITS) | i16::from(codec.id());
        put(&mut batch, LENGTH_END - 4, length.to_be_bytes());
        put(&mut batch, CRC_FROM, attributes.to_be_bytes());
        if let Some(max_timestamp) = summary.max_timestamp {
            put(&mut batch, MAX_TIMESTAMP_AT, max_timestamp.get().to_be_bytes());
        }
        renew_crc(&mut batch, size_bytes);
        Ok((batch, summary))
    }
}
