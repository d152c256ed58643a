//! [`BlockBuffer`]: memory that direct I/O takes.

use crate::disk::BLOCK_BYTES;

/// What is kept from one commit to the next: a larger one takes its memory for itself.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// It grows to multiples of this.
const GROWTH_BYTES: usize = 64 << 10;

/// Bytes that begin at a multiple of [`BLOCK_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct BlockBuffer {
    /// Longer than what is used, so that an aligned part of it can be.
    bytes: Vec<u8>,
}

impl BlockBuffer {
    /// The first `len` bytes, whatever they hold. It grows if it must.
    pub(crate) fn get(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len + BLOCK_BYTES {
            self.bytes = vec![0; len.next_multiple_of(GROWTH_BYTES) + BLOCK_BYTES];
        }
        let start = self.bytes.as_ptr().align_offset(BLOCK_BYTES);
        &mut self.bytes[start..start + len]
    }

    /// Gives back what is more than an ordinary commit needs.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.len() > KEPT_BYTES_MAX + BLOCK_BYTES {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_block_whatever_its_size() {
        let mut buffer = BlockBuffer::default();
        for len in [1, 4096, 5000, 1 << 20, 4096] {
            let bytes = buffer.get(len);
            assert_eq!((bytes.len(), bytes.as_ptr().addr() % BLOCK_BYTES), (len, 0));
        }
        buffer.shrink();
        assert!(buffer.bytes.len() > 1 << 20);
        buffer.get(KEPT_BYTES_MAX + 1);
        buffer.shrink();
        assert_eq!(buffer.bytes.len(), 0);
    }
}
