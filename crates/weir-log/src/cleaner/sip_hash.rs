//! SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
//! INDOCRYPT 2012, and its reference code for 128 bits).
//!
//! Keyed, so that nobody who chooses record keys can make two of them meet: the cleaner would drop the
//! older record as if it had been overwritten.

/// The hash of `bytes` under `key`.
pub(crate) fn sip_hash_128(key: [u64; 2], bytes: &[u8]) -> [u64; 2] {
    let mut state = State {
        v0: key[0] ^ 0x736f_6d65_7073_6575,
        v1: key[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        v2: key[0] ^ 0x6c79_6765_6e65_7261,
        v3: key[1] ^ 0x7465_6462_7974_6573,
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state.compress(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // The length modulo 256 in the top byte.
    last[7] = bytes.len() as u8;
    state.compress(u64::from_le_bytes(last));
    state.v2 ^= 0xee;
    let first = state.finish();
    state.v1 ^= 0xdd;
    [first, state.finish()]
}

#[derive(Debug)]
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline]
    fn compress(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    fn finish(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_reference_code() {
        // Key 00 01 … 0f, input 00 01 … of the length.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let check = |len: u8, expect: u128| {
            let input: Vec<u8> = (0..len).collect();
            let [first, second] = sip_hash_128(key, &input);
            let bytes = [first.to_le_bytes(), second.to_le_bytes()].concat();
            assert_eq!(bytes, expect.to_be_bytes(), "length {len}");
        };
        check(0, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293);
        check(1, 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45);
        check(2, 0x8177_228d_a4a4_5dc7_fca3_8bde_f60a_ffe4);
    }

    #[test]
    fn the_key_and_each_byte_count() {
        let long: Vec<u8> = (0..40).collect();
        let hash = sip_hash_128([1, 2], &long);
        assert_ne!(hash, sip_hash_128([1, 3], &long));
        for at in 0..long.len() {
            let mut other = long.clone();
            other[at] ^= 1;
            assert_ne!(hash, sip_hash_128([1, 2], &other), "byte {at}");
        }
    }
}
