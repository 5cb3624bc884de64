//! Text and bytes of a limited length.

use std::fmt;
use std::ops::Deref;

use crate::plain::Plain;

/// Bytes, at most `N`, that processes can share.
#[derive(Clone, Copy)]
pub struct Bytes<const N: usize> {
    length: usize,
    bytes: [u8; N],
}

/// UTF-8 text of at most `N` bytes that processes can share.
///
/// ```
/// use tine::shared::Text;
///
/// let name = Text::<16>::new("Ada").expect("16 bytes are enough");
/// assert_eq!(&*name, "Ada");
/// assert!(Text::<2>::new("Ada").is_err());
/// assert_eq!(&*Text::<2>::cut("Ada"), "Ad");
/// ```
#[derive(Clone, Copy)]
pub struct Text<const N: usize>(Bytes<N>);

/// The bytes are more than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The bytes that there are.
    pub length: usize,
    /// The bytes that there is room for.
    pub capacity: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes are too long; at most {} are possible here", self.length, self.capacity)
    }
}

impl std::error::Error for TooLong {}

impl<const N: usize> Bytes<N> {
    /// A copy of these bytes.
    ///
    /// # Errors
    /// They are more than `N`.
    pub fn new(bytes: &[u8]) -> Result<Bytes<N>, TooLong> {
        match bytes.len() <= N {
            true => Ok(Bytes::cut(bytes)),
            false => Err(TooLong { length: bytes.len(), capacity: N }),
        }
    }

    /// A copy of the first `N` of these bytes.
    #[must_use]
    pub fn cut(bytes: &[u8]) -> Bytes<N> {
        let length = bytes.len().min(N);
        let mut copy = [0; N];
        copy[..length].copy_from_slice(&bytes[..length]);
        Bytes { length, bytes: copy }
    }
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The length, and as many words as it needs.
impl<const N: usize> Plain for Bytes<N> {
    const WORDS: usize = 1 + N.div_ceil(8);

    #[inline]
    fn put(&self, put: &mut impl FnMut(u64)) {
        put(self.length as u64);
        u8::put_all(self, put);
    }

    #[inline]
    fn take(take: &mut impl FnMut() -> u64) -> Self {
        let length = usize::try_from(take()).unwrap_or(N).min(N);
        let mut bytes = [0; N];
        for chunk in bytes[..length].chunks_mut(8) {
            let word = take().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Bytes { length, bytes }
    }
}

impl<const N: usize> Text<N> {
    /// A copy of this text.
    ///
    /// # Errors
    /// It has more than `N` bytes.
    pub fn new(text: &str) -> Result<Text<N>, TooLong> {
        Bytes::new(text.as_bytes()).map(Text)
    }

    /// A copy of the first characters of this text, up to `N` bytes.
    #[must_use]
    pub fn cut(text: &str) -> Text<N> {
        Text(Bytes::cut(&text.as_bytes()[..text.floor_char_boundary(N)]))
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    /// The text; what is before the first error, if another process has written beside the library.
    fn deref(&self) -> &str {
        match std::str::from_utf8(&self.0) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&self.0[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}

impl<const N: usize> Plain for Text<N> {
    const WORDS: usize = Bytes::<N>::WORDS;

    #[inline]
    fn put(&self, put: &mut impl FnMut(u64)) {
        self.0.put(put);
    }

    #[inline]
    fn take(take: &mut impl FnMut() -> u64) -> Self {
        Text(Bytes::take(take))
    }
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Bytes { length: 0, bytes: [0; N] }
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text(Bytes::default())
    }
}

impl<const N: usize> PartialEq for Bytes<N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<const N: usize> Eq for Bytes<N> {}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<const N: usize> Eq for Text<N> {}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl<const N: usize> TryFrom<&str> for Text<N> {
    type Error = TooLong;

    fn try_from(text: &str) -> Result<Text<N>, TooLong> {
        Text::new(text)
    }
}

impl<const N: usize> TryFrom<&[u8]> for Bytes<N> {
    type Error = TooLong;

    fn try_from(bytes: &[u8]) -> Result<Bytes<N>, TooLong> {
        Bytes::new(bytes)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn again<T: Plain>(value: T) -> T {
        let mut words = Vec::new();
        value.put(&mut |word| words.push(word));
        let mut words = words.into_iter();
        let value = T::take(&mut || words.next().expect("a word"));
        assert_eq!(words.next(), None);
        value
    }

    #[test]
    fn texts_survive_the_words_and_are_cut_between_characters() {
        for text in ["", "a", "12345678", "äöü12345"] {
            assert_eq!(&*again(Text::<12>::new(text).expect("room")), text);
            assert_eq!(&*again(Bytes::<12>::new(text.as_bytes()).expect("room")), text.as_bytes());
        }
        assert_eq!(Text::<3>::new("abcd"), Err(TooLong { length: 4, capacity: 3 }));
        assert_eq!(&*Text::<3>::cut("aäö"), "aä");
        assert_eq!(&*Text::<4>::cut("aäö"), "aä");
    }

    #[test]
    fn any_words_are_a_text() {
        assert_eq!(&*Text::<8>::take(&mut || u64::MAX), "");
        let mut words = [u64::MAX, u64::from_le_bytes(*b"ab\xffdefgh")].into_iter();
        assert_eq!(&*Text::<8>::take(&mut || words.next().expect("a word")), "ab");
    }
}
