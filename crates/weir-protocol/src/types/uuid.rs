//! [`Uuid`]: the id of a topic, spelled as Kafka spells it.

use std::fmt;
use std::str::FromStr;

/// 16 bytes, written as 22 characters of URL-safe base64 without padding, like Kafka's `Uuid`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// Text that is not a Kafka UUID: 22 characters of URL-safe base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: 22 characters of A-Z, a-z, 0-9, - and _ are")]
pub struct ParseUuidError {
    /// What was given.
    pub text: String,
}

/// RFC 4648 §5.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters of a written id: 128 bits at 6 bits each, rounded up.
const CHARS: usize = 22;

impl Uuid {
    /// "No id": Kafka's `Uuid.ZERO_UUID`.
    pub const ZERO: Self = Self([0; 16]);

    /// The 16 bytes.
    #[must_use]
    pub const fn get(self) -> [u8; 16] {
        self.0
    }

    /// Whether this is [`Uuid::ZERO`], "no id".
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 132 bits: the id, then 4 zero bits that fill the last character.
        let id = u128::from_be_bytes(self.0);
        let mut text = String::with_capacity(CHARS);
        for index in 0..CHARS {
            let shift = 122_i32 - 6 * index as i32;
            let six = if shift >= 0 { id >> shift } else { id << -shift } & 63;
            let letter = ALPHABET.get(six as usize).copied().unwrap_or(b'A');
            text.push(char::from(letter));
        }
        f.pad(&text)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    /// Takes the 22 characters, with or without the padding `==`.
    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        let refuse = || ParseUuidError { text: text.to_owned() };
        let letters = text.strip_suffix("==").unwrap_or(text).as_bytes();
        if letters.len() != CHARS {
            return Err(refuse());
        }
        let mut id = 0_u128;
        for (index, letter) in letters.iter().enumerate() {
            let six = ALPHABET.iter().position(|known| known == letter).ok_or_else(refuse)? as u128;
            let shift = 122_i32 - 6 * index as i32;
            if shift >= 0 {
                id |= six << shift;
            } else if six & 15 == 0 {
                id |= six >> -shift;
            } else {
                // Bits beyond the 128th: two texts must not name one id.
                return Err(refuse());
            }
        }
        Ok(Self(id.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of Java's `Uuid.toString`.
    #[test]
    fn spelling_is_that_of_java() {
        let check = |bytes: [u8; 16], text: &str| {
            assert_eq!(Uuid(bytes).to_string(), text);
            assert_eq!(text.parse::<Uuid>().unwrap(), Uuid(bytes));
        };
        check([0; 16], "AAAAAAAAAAAAAAAAAAAAAA");
        check([0xff; 16], "_____________________w");
        check([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], "AAAAAAAAAAAAAAAAAAAAAQ");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "AAAA",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAA+A",
            "AAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAQ==".parse::<Uuid>().unwrap().0[15], 1);
    }
}
