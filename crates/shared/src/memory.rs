//! The memory of all shared state, and the list of what lies in it.
//!
//! Everything is made in one process, before the server runs: each process that it forks then has
//! the same mappings at the same addresses.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, ErrorKind};
use crate::show::{Object, Shown};
use crate::sync::{AtomicU32, AtomicU64, Relaxed};

/// The longest name of shared state, in bytes.
pub const MAX_NAME: usize = 64;

/// The memory and the objects.
struct World {
    /// The process that made the first of them.
    maker: u32,
    /// No more can be made: the server runs, or has run.
    is_closed: AtomicBool,
    #[cfg(not(loom))]
    arenas: Mutex<Vec<tine_sys::arena::Arena>>,
    objects: Mutex<Vec<Object>>,
}

static WORLD: OnceLock<World> = OnceLock::new();

/// The memory of small objects together: one mapping, since each makes a fork slower. It takes
/// memory only where it is written.
#[cfg(not(loom))]
const SMALL: usize = 64 << 20;

fn world() -> &'static World {
    WORLD.get_or_init(|| World {
        maker: std::process::id(),
        is_closed: AtomicBool::new(false),
        #[cfg(not(loom))]
        arenas: Mutex::default(),
        objects: Mutex::default(),
    })
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks that shared state of this name can be made, here and now.
///
/// # Errors
/// It is too late, or the name is invalid or taken.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let world = world();
    if world.is_closed.load(Relaxed) || world.maker != std::process::id() {
        let what = format!("cannot make shared state {name:?}: processes run already that would not have it");
        return Err(Error::new(ErrorKind::TooLate, what, "make all shared state before the server runs"));
    }
    let first_fits = name.starts_with(|first: char| first.is_ascii_lowercase());
    let fits = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_';
    if !first_fits || !name.chars().all(fits) || name.len() > MAX_NAME || name.starts_with("tine_") {
        let what = format!("{name:?} is not a name of shared state");
        let next =
            "choose one of a-z, 0-9 and _, at most 64 long, that begins with a letter and not with tine_";
        return Err(Error::new(ErrorKind::Name, what, next));
    }
    if lock(&world.objects).iter().any(|object| object.name == name) {
        let what = format!("there is shared state with the name {name:?} already");
        return Err(Error::new(ErrorKind::Name, what, "choose another name, or clone the handle"));
    }
    Ok(())
}

/// Checks that a capacity is possible.
///
/// # Errors
/// It is zero, or more than `most`.
pub(crate) fn check_capacity(name: &str, capacity: usize, most: usize) -> Result<(), Error> {
    if (1..=most).contains(&capacity) {
        return Ok(());
    }
    let what = format!("{name:?} cannot have a capacity of {capacity}: it is from 1 to {most}");
    Err(Error::new(ErrorKind::Capacity, what, "choose another capacity"))
}

/// Lists a new object under its name.
pub(crate) fn add(name: &str, shown: impl Shown + Send + Sync + 'static) {
    lock(&world().objects).push(Object { name: name.to_owned(), shown: Box::new(shown) });
}

/// Calls a function with the objects, in the order in which they were made.
pub(crate) fn with_objects<R>(call: impl FnOnce(&[Object]) -> R) -> R {
    call(&lock(&world().objects))
}

/// Whether there is any shared state.
pub(crate) fn is_any() -> bool {
    WORLD.get().is_some_and(|world| !lock(&world.objects).is_empty())
}

/// Lets no more shared state be made.
pub(crate) fn close() {
    world().is_closed.store(true, Relaxed);
}

/// Calls a function with each part of the memory.
#[cfg(not(loom))]
pub(crate) fn with_arenas(
    call: impl Fn(&tine_sys::arena::Arena) -> std::io::Result<()>,
) -> std::io::Result<()> {
    lock(&world().arenas).iter().try_for_each(call)
}

/// Words for an object of this name, all zero, in cache lines of their own.
///
/// # Errors
/// ENOMEM, EMFILE.
pub(crate) fn words(name: &str, length: usize) -> Result<&'static [AtomicU64], Error> {
    take(name, length)
}

/// Words that processes can wait at, all zero, in cache lines of their own.
///
/// # Errors
/// ENOMEM, EMFILE.
pub(crate) fn futexes(name: &str, length: usize) -> Result<&'static [AtomicU32], Error> {
    take(name, length)
}

/// A word that processes can wait at and other words right behind it, all zero, in cache lines of
/// their own: one for a small object.
///
/// # Errors
/// ENOMEM, EMFILE.
#[cfg(not(loom))]
pub(crate) fn futex_and_words(
    name: &str,
    length: usize,
) -> Result<(&'static AtomicU32, &'static [AtomicU64]), Error> {
    let bytes = length.saturating_add(1).saturating_mul(size_of::<AtomicU64>());
    take_from(name, bytes, |arena| arena.take_headed(length))
}

#[cfg(loom)]
pub(crate) fn futex_and_words(
    name: &str,
    length: usize,
) -> Result<(&'static AtomicU32, &'static [AtomicU64]), Error> {
    Ok((&futexes(name, 1)?[0], words(name, length)?))
}

#[cfg(not(loom))]
pub(crate) fn take<T: tine_sys::memory::Word>(name: &str, length: usize) -> Result<&'static [T], Error> {
    take_from(name, length.saturating_mul(size_of::<T>()), |arena| arena.take(length))
}

/// Takes a piece of this many bytes from an arena that has room for it, or from a new one.
#[cfg(not(loom))]
fn take_from<P>(
    name: &str,
    bytes: usize,
    take: impl Fn(&tine_sys::arena::Arena) -> Option<P>,
) -> Result<P, Error> {
    use tine_sys::arena::Arena;

    let failed = |why| Error::system(format_args!("cannot make shared state {name:?}"), why);
    let mut arenas = lock(&world().arenas);
    if let Some(taken) = arenas.iter().rev().find_map(&take) {
        return Ok(taken);
    }
    let too_much = || failed(std::io::ErrorKind::OutOfMemory.into());
    // More is no size of memory (mmap(2)), and could not be rounded up to pages.
    if bytes > isize::MAX as usize {
        return Err(too_much());
    }
    let arena = Arena::new(c"tine shared", bytes.max(SMALL)).map_err(failed)?;
    let taken = take(&arena).ok_or_else(too_much)?;
    arenas.push(arena);
    Ok(taken)
}

#[cfg(loom)]
fn take<T: Default + 'static>(_: &str, length: usize) -> Result<&'static [T], Error> {
    Ok((0..length).map(|_| T::default()).collect::<Vec<T>>().leak())
}
