//! [`Str`]: an immutable UTF-8 string that shares its bytes.
#![allow(unsafe_code)] // One block, in `as_str`: reading a name must not validate it again each time.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// An immutable UTF-8 string over [`Bytes`]: a clone is a counter, and a decoded one is a slice of
/// its frame.
///
/// A `Str` that outlives its frame keeps the whole frame in memory. What is stored for long (topic
/// names, group ids) should be copied out with [`Str::copy_from`].
#[derive(Clone, Default)]
pub struct Str {
    /// Always valid UTF-8; every constructor sees to it, and nothing hands out a mutable view.
    utf8: Bytes,
}

impl Str {
    /// The empty string.
    #[must_use]
    pub const fn new() -> Self {
        Self { utf8: Bytes::new() }
    }

    /// A string that lives as long as the program, without allocation.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self { utf8: Bytes::from_static(text.as_bytes()) }
    }

    /// A copy of `text` with memory of its own.
    #[must_use]
    pub fn copy_from(text: &str) -> Self {
        Self { utf8: Bytes::copy_from_slice(text.as_bytes()) }
    }

    /// Takes `bytes` as a string without copying them.
    ///
    /// # Errors
    /// If they are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self { utf8: bytes })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // SAFETY: `utf8` is valid UTF-8: it comes from a `&str`, a `String`, or `from_utf8`, and is
        // never changed.
        unsafe { std::str::from_utf8_unchecked(&self.utf8) }
    }

    /// The bytes, shared.
    #[must_use]
    pub fn as_bytes_shared(&self) -> &Bytes {
        &self.utf8
    }

    /// The bytes, without copying.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.utf8
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl PartialEq for Str {
    fn eq(&self, other: &Self) -> bool {
        self.utf8 == other.utf8
    }
}

impl Eq for Str {}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Str {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Str {
    /// As `str` hashes, which [`Borrow<str>`] demands.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<&'static str> for Str {
    fn from(text: &'static str) -> Self {
        Self::from_static(text)
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self { utf8: Bytes::from(text.into_bytes()) }
    }
}

impl From<Cow<'_, str>> for Str {
    fn from(text: Cow<'_, str>) -> Self {
        Self::from(text.into_owned())
    }
}

impl From<Str> for String {
    fn from(text: Str) -> Self {
        text.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    #[test]
    fn a_map_with_str_keys_is_searched_by_str() {
        let hash: HashMap<Str, i32> = HashMap::from([(Str::copy_from("a"), 1)]);
        let tree: BTreeMap<Str, i32> = BTreeMap::from([(Str::from("b"), 2)]);
        assert_eq!(hash.get("a"), Some(&1));
        assert_eq!(tree.get("b"), Some(&2));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        assert!(Str::from_utf8(Bytes::from_static(b"\xff\xfe")).is_err());
        assert_eq!(Str::from_utf8(Bytes::from_static("流".as_bytes())).unwrap(), "流");
    }

    #[test]
    fn a_decoded_string_shares_the_bytes_of_its_frame() {
        let frame = Bytes::from(vec![b'x'; 64]);
        let text = Str::from_utf8(frame.slice(8..16)).unwrap();
        assert_eq!(text.as_ptr(), frame[8..].as_ptr());
    }
}
