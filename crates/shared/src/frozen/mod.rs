//! Large state that is only read, and replaced as a whole.

mod mailbox;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use tine_sys::frozen::FrozenMap;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use self::mailbox::Mailbox;
pub use self::writer::FrozenWriter;
use crate::error::Error;
use crate::lock::Lock;
use crate::memory;
use crate::show::{Figure, LetGo, Shown};
use crate::sync::{Acquire, AtomicU64, Relaxed, Release};
use crate::turn::{Caller, Turn};

/// Large state that all processes read: an index, a model, a list of addresses. It is loaded once,
/// before the server runs, whatever its size costs no fork anything, and any process can replace
/// all of it.
///
/// The values have the traits [`FromBytes`], [`IntoBytes`] and [`Immutable`] of `zerocopy`, as
/// numbers and arrays of them do. A struct derives them, if `zerocopy` with its feature `derive` is
/// among the dependencies of the program.
///
/// # Load once, serve from all processes
///
/// ```
/// use std::io::{Read, Write};
/// use tine::shared::Frozen;
///
/// // Before the server runs. The file goes to shared memory as it is read.
/// # let path = std::env::temp_dir().join(format!("tine-frozen-example-{}", std::process::id()));
/// # std::fs::write(&path, b"gb\nde\nse\n")?;
/// let countries = Frozen::<u8>::load("countries", |writer| {
///     std::io::copy(&mut std::fs::File::open(&path)?, writer)?;
///     Ok(())
/// })?;
///
/// // In each handler: no copy is made, and no lock is taken while the values are read.
/// let snapshot = countries.get();
/// assert!(snapshot.split(|byte| *byte == b'\n').any(|country| country == b"de"));
///
/// // In any process, while the others serve. A snapshot stays as it is.
/// countries.replace(|writer| writer.write_all(b"at\nch\n"))?;
/// assert_eq!(&snapshot[..], b"gb\nde\nse\n");
/// assert_eq!(&countries.get()[..], b"at\nch\n");
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Values of a type, here sorted, so that they can be searched in place:
///
/// ```
/// use tine::shared::Frozen;
///
/// let primes = Frozen::<u32>::load("primes", |writer| writer.extend(&[2, 3, 5, 7, 11]))?;
/// assert!(primes.get().binary_search(&7).is_ok());
/// assert!(primes.get().binary_search(&8).is_err());
/// # Ok::<(), tine::shared::Error>(())
/// ```
///
/// The memory is a sealed file: no process can change it, not even one that writes beside the
/// library. It is released when no process has it mapped: a process keeps a version until it calls
/// [`Frozen::get`] after a replacement, and has dropped its snapshots.
pub struct Frozen<T: 'static>(&'static Inner<T>);

struct Inner<T> {
    name: &'static str,
    mailbox: Mailbox,
    /// Held by the process that replaces.
    lock: Lock,
    /// The number of the version that counts, how many were begun, and the bytes of the former.
    words: &'static [AtomicU64],
    /// What this process has mapped.
    current: Mutex<Current>,
    types: PhantomData<fn() -> T>,
}

/// What a process has mapped.
struct Current {
    version: Arc<Version>,
    /// The number for which the process has looked into the mailbox.
    looked_for: u64,
}

/// A version, as this process has mapped it.
struct Version {
    number: u64,
    map: FrozenMap,
}

/// A version of what is [`Frozen`], which stays as it is for as long as this value is kept.
pub struct Snapshot<T> {
    version: Arc<Version>,
    types: PhantomData<fn() -> T>,
}

const PUBLISHED: usize = 0;
const BEGUN: usize = 1;
const BYTES: usize = 2;

impl<T: FromBytes + IntoBytes + Immutable> Frozen<T> {
    /// Loads what the function writes.
    ///
    /// # Errors
    /// The function fails, or has not written whole values; the name is invalid or taken, the
    /// server runs already, or the system has no memory.
    pub fn load(
        name: &str,
        fill: impl FnOnce(&mut FrozenWriter<T>) -> io::Result<()>,
    ) -> Result<Frozen<T>, Error> {
        const { assert!(size_of::<T>() != 0, "values without a size cannot be frozen") };
        memory::check(name)?;
        let file = writer::write(name, fill)?;
        let failed = |why: io::Error| Error::system(format_args!("cannot load {name:?}"), why);
        let version = Arc::new(Version::map::<T>(0, &file).map_err(failed)?);
        let frozen = Frozen(Box::leak(Box::new(Inner {
            name: name.to_owned().leak(),
            mailbox: Mailbox::make().map_err(|why| failed(why.into()))?,
            lock: Lock::make(name)?,
            words: memory::words(name, 3)?,
            current: Mutex::new(Current { version, looked_for: 0 }),
            types: PhantomData,
        })));
        let length = frozen.current().version.map.bytes().len();
        frozen.0.words[BYTES].store(length as u64, Relaxed);
        frozen.put(0, &file).map_err(|why| failed(why.into()))?;
        memory::add(name, frozen);
        Ok(frozen)
    }

    /// The newest version.
    ///
    /// The first call in a process after a replacement maps the new version. If that is not
    /// possible, or another process has written beside the library, it is the version before.
    #[must_use]
    #[inline]
    pub fn get(&self) -> Snapshot<T> {
        let published = self.0.words[PUBLISHED].load(Acquire);
        let mut current = self.current();
        if current.looked_for != published {
            self.look(&mut current, published);
        }
        Snapshot { version: Arc::clone(&current.version), types: PhantomData }
    }

    /// Replaces all values with what the function writes. The version before counts until then.
    ///
    /// # Errors
    /// The function fails, or has not written whole values; or the system has no memory.
    ///
    /// # Panics
    /// In a forker ([`Handler::on_start`](../trait.Handler.html)), which must not wait; or if this
    /// process holds as many locks as it can (12).
    pub fn replace(&self, fill: impl FnOnce(&mut FrozenWriter<T>) -> io::Result<()>) -> Result<(), Error> {
        let file = writer::write(self.0.name, fill)?;
        let failed = |why: io::Error| Error::system(format_args!("cannot replace {:?}", self.0.name), why);
        let mut version = Version::map::<T>(0, &file).map_err(failed)?;
        let turn = self.take();
        version.number = self.begin();
        self.put(version.number, &file).map_err(|why| failed(why.into()))?;
        self.0.mailbox.remove_before(version.number);
        self.publish(&version);
        drop(turn);
        let mut current = self.current();
        *current = Current { looked_for: version.number, version: Arc::new(version) };
        Ok(())
    }

    fn take(&self) -> Turn {
        Turn::take(self.0.lock, Caller::here())
    }

    // The steps of a replacement: whoever dies between them leaves a mailbox whose first file is
    // a version that counted or that would have; the next one removes it.

    /// A number that no other version has, published or not.
    fn begin(&self) -> u64 {
        self.0.words[BEGUN].fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// Puts a version into the mailbox, behind the one that counts.
    fn put(&self, number: u64, file: &OwnedFd) -> Result<(), Errno> {
        match self.0.mailbox.put(number, file) {
            // It is full of what others have left, or have put there beside the library.
            Err(Errno::AGAIN) => {
                self.0.mailbox.clear();
                self.0.mailbox.put(number, file)
            }
            done => done,
        }
    }

    /// Lets a version count, which is the first one in the mailbox.
    fn publish(&self, version: &Version) {
        self.0.words[BYTES].store(version.map.bytes().len() as u64, Relaxed);
        self.0.words[PUBLISHED].store(version.number, Release);
    }

    /// Maps the version in the mailbox, if there is one that can be mapped.
    #[cold]
    fn look(&self, current: &mut Current, published: u64) {
        match self.0.mailbox.first() {
            Ok(Some((number, file))) if number != current.version.number => {
                match Version::map::<T>(number, &file) {
                    Ok(version) => current.version = Arc::new(version),
                    // Not one of the library. It makes no sense to look at it again.
                    Err(why) if why.kind() == io::ErrorKind::InvalidData => {}
                    Err(_) => return,
                }
            }
            Ok(_) => {}
            // Another time.
            Err(_) => return,
        }
        current.looked_for = published;
    }
}

impl<T> Frozen<T> {
    fn current(&self) -> MutexGuard<'static, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Version {
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the file is not sealed, or has no whole values; or ENOMEM.
    fn map<T>(number: u64, file: &OwnedFd) -> io::Result<Version> {
        let map = FrozenMap::new(file)?;
        if !map.bytes().len().is_multiple_of(size_of::<T>()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Version { number, map })
    }
}

impl<T> Snapshot<T> {
    /// The number of the version, 0 for the first one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.number
    }
}

impl<T: FromBytes + Immutable> Deref for Snapshot<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // It was checked when it was mapped, and begins with a page.
        <[T]>::ref_from_bytes(self.version.map.bytes()).unwrap_or_default()
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Shown for Frozen<T> {
    fn kind(&self) -> &'static str {
        "frozen"
    }

    fn figures(&self) -> Vec<Figure> {
        let word = |at: usize| self.0.words[at].load(Relaxed);
        vec![Figure::gauge("bytes", word(BYTES) as f64), Figure::counter("version", word(PUBLISHED))]
    }

    fn let_go(&self, dead: LetGo) {
        self.0.lock.let_go(dead.owner);
    }

    fn number(&self) -> Option<u32> {
        Some(self.0.lock.object())
    }

    fn refresh(&self) {
        drop(self.get());
    }

    fn leave(&self) {
        self.current().version = Arc::new(Version { number: u64::MAX, map: FrozenMap::empty() });
    }
}

impl<T> Clone for Frozen<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Frozen<T> {}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Snapshot { version: Arc::clone(&self.version), types: PhantomData }
    }
}

impl<T> fmt::Debug for Frozen<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.version.map.bytes().len() / size_of::<T>().max(1);
        let mut shown = f.debug_struct("Snapshot");
        shown.field("version", &self.version.number).field("length", &length).finish_non_exhaustive()
    }
}
