//! Writing what is frozen then.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::{Error, ErrorKind};

/// Bytes that are written together.
const BUFFER: usize = 256 << 10;

/// Where [`Frozen::load`](crate::Frozen::load) and [`Frozen::replace`](crate::Frozen::replace) put
/// the values: they go to their place in shared memory at once.
///
/// As [`Write`], it takes the bytes of the values.
pub struct FrozenWriter<T> {
    file: BufWriter<File>,
    types: PhantomData<fn(T)>,
}

impl<T: FromBytes + IntoBytes + Immutable> FrozenWriter<T> {
    /// Adds a value.
    ///
    /// # Errors
    /// The system has no memory.
    pub fn push(&mut self, value: &T) -> io::Result<()> {
        self.file.write_all(value.as_bytes())
    }

    /// Adds values.
    ///
    /// # Errors
    /// The system has no memory.
    pub fn extend(&mut self, values: &[T]) -> io::Result<()> {
        self.file.write_all(values.as_bytes())
    }
}

impl<T> Write for FrozenWriter<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<T> fmt::Debug for FrozenWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenWriter").finish_non_exhaustive()
    }
}

/// A sealed file with what a function writes.
///
/// # Errors
/// The function fails, or has not written whole values; there is no memory.
pub(super) fn write<T>(
    name: &str,
    fill: impl FnOnce(&mut FrozenWriter<T>) -> io::Result<()>,
) -> Result<OwnedFd, Error> {
    let failed = |why: io::Error| {
        let what = format!("cannot load {name:?}: {}", tine_sys::reason(&why));
        let next = "check what it is loaded from, and that there is memory for it";
        Error::caused(ErrorKind::Load, what, why, next)
    };
    let file = File::from(tine_sys::frozen::file(c"tine frozen").map_err(failed)?);
    let mut writer = FrozenWriter { file: BufWriter::with_capacity(BUFFER, file), types: PhantomData };
    fill(&mut writer).map_err(failed)?;
    let file = writer.file.into_inner().map_err(|why| failed(why.into_error()))?;
    let length = file.metadata().map_err(failed)?.len();
    if length % size_of::<T>() as u64 != 0 {
        let part = format!("{length} bytes are no number of values with {} each", size_of::<T>());
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, part)));
    }
    tine_sys::frozen::seal(&file).map_err(failed)?;
    Ok(file.into())
}
