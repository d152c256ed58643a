//! [`BlockBuffer`]: memory that direct I/O takes.

use crate::disk::BLOCK_BYTES;

/// Bytes that begin at a multiple of [`BLOCK_BYTES`]. Kept from one commit to the next.
#[derive(Debug, Default)]
pub(crate) struct BlockBuffer {
    /// Longer than what is used, so that an aligned part of it can be.
    bytes: Vec<u8>,
}

impl BlockBuffer {
    /// The first `len` bytes, whatever they hold. It grows if it must, and never shrinks: the largest
    /// record bounds it.
    pub(crate) fn get(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len + BLOCK_BYTES {
            self.bytes = vec![0; len.next_power_of_two() + BLOCK_BYTES];
        }
        let start = self.bytes.as_ptr().align_offset(BLOCK_BYTES);
        &mut self.bytes[start..start + len]
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
    }
}
