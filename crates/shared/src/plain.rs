//! What may lie in shared memory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// A value that processes can share: a fixed number of words, and no pointers.
///
/// `#[derive(Clone, Copy, Plain)]` implements it for a struct or an enum whose fields have it.
/// Numbers, `bool`, `char`, arrays, tuples, `Option`, [`Duration`], addresses and
/// [`Text`](crate::Text) have it.
///
/// ```
/// use tine::shared::{Plain, Text};
///
/// #[derive(Clone, Copy, Plain)]
/// struct Score {
///     player: Text<16>,
///     points: u32,
///     level: Option<Level>,
/// }
///
/// #[derive(Clone, Copy, Plain)]
/// enum Level {
///     Easy,
///     Hard { lives: u8 },
/// }
/// # assert_eq!(Score::WORDS, 3 + 1 + 1 + 2);
/// ```
///
/// A type with a pointer cannot have it, since the pointer has no meaning in another process:
///
/// ```compile_fail
/// #[derive(Clone, Copy, tine::shared::Plain)]
/// struct Name(&'static str);
/// ```
///
/// Values are copied word by word, and whatever the words are, they are read as some value: a
/// process that writes beside the library can make a value wrong, and nothing else.
pub trait Plain: Copy + 'static {
    /// The words of 8 bytes that a value takes at most.
    const WORDS: usize;

    /// How many values of an array share a word.
    #[doc(hidden)]
    const PER_WORD: usize = 1;

    /// Puts the words of the value, at most [`Plain::WORDS`].
    fn put(&self, put: &mut impl FnMut(u64));

    /// Takes as many words as were put, and makes a value of them.
    fn take(take: &mut impl FnMut() -> u64) -> Self;

    /// Puts the words of an array.
    #[doc(hidden)]
    #[inline]
    fn put_all(values: &[Self], put: &mut impl FnMut(u64)) {
        values.iter().for_each(|value| value.put(put));
    }

    /// Takes the words of an array.
    #[doc(hidden)]
    #[inline]
    fn take_all<const N: usize>(take: &mut impl FnMut() -> u64) -> [Self; N] {
        std::array::from_fn(|_| Self::take(take))
    }
}

/// Integers: one word each, several in a word of an array.
macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Plain for $integer {
            const WORDS: usize = 1;
            const PER_WORD: usize = 8 / size_of::<$integer>();

            #[inline]
            fn put(&self, put: &mut impl FnMut(u64)) {
                put(*self as u64);
            }

            #[inline]
            fn take(take: &mut impl FnMut() -> u64) -> Self {
                take() as $integer
            }

            #[inline]
            fn put_all(values: &[Self], put: &mut impl FnMut(u64)) {
                for chunk in values.chunks(Self::PER_WORD) {
                    let mut bytes = [0; 8];
                    for (place, value) in bytes.chunks_exact_mut(size_of::<Self>()).zip(chunk) {
                        place.copy_from_slice(&value.to_le_bytes());
                    }
                    put(u64::from_le_bytes(bytes));
                }
            }

            #[inline]
            fn take_all<const N: usize>(take: &mut impl FnMut() -> u64) -> [Self; N] {
                let mut values = [0; N];
                for chunk in values.chunks_mut(Self::PER_WORD) {
                    let bytes = take().to_le_bytes();
                    for (value, place) in chunk.iter_mut().zip(bytes.chunks_exact(size_of::<Self>())) {
                        *value = Self::from_le_bytes(place.try_into().unwrap_or_default());
                    }
                }
                values
            }
        }
    )*};
}

integers!(u8, i8, u16, i16, u32, i32, u64, i64, usize, isize);

/// Types that have a number: how it is made, and how the value is made of it.
macro_rules! by_number {
    ($($type:ty: |$value:ident| $put:expr, |$word:ident| $take:expr;)*) => {$(
        impl Plain for $type {
            const WORDS: usize = 1;

            #[inline]
            fn put(&self, put: &mut impl FnMut(u64)) {
                let $value = *self;
                put($put);
            }

            #[inline]
            fn take(take: &mut impl FnMut() -> u64) -> Self {
                let $word = take();
                $take
            }
        }
    )*};
}

by_number! {
    bool: |value| u64::from(value), |word| word != 0;
    char: |value| u64::from(u32::from(value)), |word| char::from_u32(word as u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    f32: |value| u64::from(value.to_bits()), |word| f32::from_bits(word as u32);
    f64: |value| value.to_bits(), |word| f64::from_bits(word);
    Ipv4Addr: |value| u64::from(value.to_bits()), |word| Ipv4Addr::from_bits(word as u32);
}

/// Types of two or more words: as which others they are put and taken.
macro_rules! by_parts {
    ($($type:ty as $parts:ty: |$value:ident| $put:expr, |$taken:pat_param| $take:expr;)*) => {$(
        impl Plain for $type {
            const WORDS: usize = <$parts as Plain>::WORDS;

            #[inline]
            fn put(&self, put: &mut impl FnMut(u64)) {
                let $value = *self;
                let parts: $parts = $put;
                parts.put(put);
            }

            #[inline]
            fn take(take: &mut impl FnMut() -> u64) -> Self {
                let $taken = <$parts>::take(take);
                $take
            }
        }
    )*};
}

by_parts! {
    u128 as (u64, u64): |value| (value as u64, (value >> 64) as u64),
        |(low, high)| u128::from(high) << 64 | u128::from(low);
    i128 as u128: |value| value as u128, |value| value as i128;
    Duration as (u64, u32): |value| (value.as_secs(), value.subsec_nanos()),
        |(seconds, nanos)| Duration::new(seconds, nanos % 1_000_000_000);
    Ipv6Addr as u128: |value| value.to_bits(), |bits| Ipv6Addr::from_bits(bits);
    IpAddr as (bool, u128): |value| match value {
        IpAddr::V4(address) => (false, u128::from(address.to_bits())),
        IpAddr::V6(address) => (true, address.to_bits()),
    }, |(is_v6, bits)| match is_v6 {
        false => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        true => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    };
    SocketAddr as (IpAddr, u16): |value| (value.ip(), value.port()),
        |(address, port)| SocketAddr::new(address, port);
}

impl Plain for () {
    const WORDS: usize = 0;

    fn put(&self, _: &mut impl FnMut(u64)) {}

    fn take(_: &mut impl FnMut() -> u64) -> Self {}
}

impl<T: Plain, const N: usize> Plain for [T; N] {
    const WORDS: usize = N.div_ceil(T::PER_WORD) * T::WORDS;

    #[inline]
    fn put(&self, put: &mut impl FnMut(u64)) {
        T::put_all(self, put);
    }

    #[inline]
    fn take(take: &mut impl FnMut() -> u64) -> Self {
        T::take_all(take)
    }
}

/// A word that says whether there is a value, and the words of the value.
impl<T: Plain> Plain for Option<T> {
    const WORDS: usize = 1 + T::WORDS;

    #[inline]
    fn put(&self, put: &mut impl FnMut(u64)) {
        put(u64::from(self.is_some()));
        match self {
            Some(value) => value.put(put),
            None => (0..T::WORDS).for_each(|_| put(0)),
        }
    }

    #[inline]
    fn take(take: &mut impl FnMut() -> u64) -> Self {
        if take() != 0 {
            return Some(T::take(take));
        }
        (0..T::WORDS).for_each(|_| {
            take();
        });
        None
    }
}

macro_rules! tuples {
    ($($($name:ident)*;)*) => {$(
        impl<$($name: Plain),*> Plain for ($($name,)*) {
            const WORDS: usize = 0 $(+ $name::WORDS)*;

            #[inline]
            #[allow(non_snake_case, reason = "the fields have the names of their types")]
            fn put(&self, put: &mut impl FnMut(u64)) {
                let ($($name,)*) = self;
                $($name.put(put);)*
            }

            #[inline]
            fn take(take: &mut impl FnMut() -> u64) -> Self {
                ($($name::take(take),)*)
            }
        }
    )*};
}

tuples! { A; A B; A B C; A B C D; A B C D E; A B C D E F; }

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn words_of<T: Plain>(value: T) -> Vec<u64> {
        let mut words = Vec::new();
        value.put(&mut |word| words.push(word));
        assert_eq!(words.len(), T::WORDS);
        words
    }

    fn survives<T: Plain + PartialEq + std::fmt::Debug>(value: T) {
        let words = words_of(value);
        let mut rest = words.iter();
        assert_eq!(T::take(&mut || *rest.next().expect("a word")), value);
        assert_eq!(rest.next(), None);
        // Whatever the words are, there is a value.
        for word in [0, 1, 0xD800, u64::MAX] {
            let _ = T::take(&mut || word);
        }
    }

    #[test]
    fn values_survive_the_words() {
        survives((u64::MAX, i64::MIN, -1i8, u16::MAX, 'ß', true));
        survives([0u8, 1, 2, 3, 4, 5, 6, 7, 255]);
        survives([-1i32, 2, i32::MIN]);
        survives([[1.5f32, -0.0], [f32::MAX, f32::MIN]]);
        survives((u128::MAX - 1, i128::MIN, Duration::new(u64::MAX, 999_999_999)));
        survives((Some(7u8), None::<[u64; 3]>, Some(())));
        for address in ["192.0.2.1:80", "[2001:db8::1]:443"] {
            survives(address.parse::<SocketAddr>().expect(address));
        }
    }

    #[test]
    fn the_bytes_of_an_array_are_packed() {
        assert_eq!(words_of([1u8, 2, 3, 4, 5, 6, 7, 8, 9]), [0x0807_0605_0403_0201, 9]);
        assert_eq!(words_of([1u32, 2, 3]), [0x2_0000_0001, 3]);
        assert_eq!(words_of([-1i16]), [0xffff]);
    }
}
