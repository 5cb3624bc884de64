//! The holder of a lock, and whether that process still lives.
//!
//! Each process that serves connections is a member of its server, with a number. A life is counted
//! for each number: the supervisor counts on when it has reaped the process, before another one
//! gets the number. It alone can write the lives. A lock has the number of its holder and the count
//! of its life, so anybody can see that the holder is dead.
//!
//! Each member claims the locks that it may hold or wait for. So the supervisor knows which locks
//! to open when a member has ended; and a holder that a lock names without a claim is none: another
//! process has written beside the library.

use std::sync::OnceLock;

use crate::sync::{Acquire, AtomicU32, AtomicU64, Relaxed, Release};

/// Bits of a holder in a word: its number and its life.
pub(crate) const OWNER: u32 = (1 << (NUMBER_BITS + LIFE_BITS)) - 1;
const NUMBER_BITS: u32 = 19;
const LIFE_BITS: u32 = 10;
const NUMBER: u32 = (1 << NUMBER_BITS) - 1;

/// The most members of all services together.
pub(crate) const MAX_MEMBERS: usize = NUMBER as usize - 1;

/// The locks that a process can hold or wait for at a time.
pub(crate) const MAX_CLAIMS: usize = if cfg!(loom) { 3 } else { 16 };

/// The claims of the main thread, which alone uses the first ones.
const OF_MAIN_THREAD: usize = if cfg!(loom) { 2 } else { 12 };

/// A holder of a lock, as the lock has it: never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(u32);

impl Owner {
    /// A process that is no member: the program, before its server runs.
    pub(crate) const ANONYMOUS: Owner = Owner(NUMBER);

    /// The member of this number, in this life.
    pub(crate) fn member(number: usize, life: u32) -> Owner {
        debug_assert!(number < MAX_MEMBERS);
        Owner((number as u32 + 1) & NUMBER | life << NUMBER_BITS & OWNER)
    }

    /// The holder in a word, if there is one.
    pub(crate) fn in_word(word: u32) -> Option<Owner> {
        (word & OWNER != 0).then_some(Owner(word & OWNER))
    }

    /// The bits in a word.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    fn number(self) -> Option<usize> {
        let number = self.0 & NUMBER;
        (number != 0 && number != NUMBER).then(|| number as usize - 1)
    }
}

/// What is known about the holder of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It lives.
    Alive,
    /// It lives, but does not claim the lock.
    Silent,
    /// It has ended.
    Dead,
}

/// What a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimKind {
    /// To hold it alone. Such a claim stays after the hold: it costs nothing to claim again.
    Hold,
    /// To read, beside others.
    Read,
}

const READS: u64 = 1 << 31;
const HELD: u64 = 1 << 30;
const OBJECT: u64 = HELD - 1;

const NOWHERE: u32 = u32::MAX;

const _: () = assert!(MAX_MEMBERS * MAX_CLAIMS < NOWHERE as usize);

/// A claim, until it is given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// Where it is among those of all members; [`NOWHERE`] for a process that is no member. In few
    /// bytes, since it is copied with each lock.
    place: u32,
}

/// The members of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Members {
    /// The lives. Read-only, but for the supervisor.
    pub(crate) lives: &'static [AtomicU32],
    /// The claims, [`MAX_CLAIMS`] for each member.
    pub(crate) claims: &'static [AtomicU64],
}

impl Members {
    pub(crate) const NONE: Members = Members { lives: &[], claims: &[] };

    /// The member of this number as a holder.
    pub(crate) fn owner(self, number: usize) -> Owner {
        let life = self.lives.get(number).map(|life| life.load(Relaxed));
        life.map_or(Owner::ANONYMOUS, |life| Owner::member(number, life))
    }

    fn claims_of(self, number: usize) -> &'static [AtomicU64] {
        self.claims.get(number * MAX_CLAIMS..(number + 1) * MAX_CLAIMS).unwrap_or_default()
    }

    /// What is known about the holder of an object.
    pub(crate) fn standing(self, owner: Owner, object: u32) -> Standing {
        // Before the server runs, there is one process, and no member.
        if self.lives.is_empty() {
            return Standing::Alive;
        }
        // What no member has was not written by the library, or by a process that is gone.
        let number = owner.number().and_then(|number| Some((number, self.lives.get(number)?)));
        let Some((number, life)) = number else { return Standing::Dead };
        let life = life.load(Acquire);
        if Owner::member(number, life) != owner {
            return Standing::Dead;
        }
        match claimed(self.claims_of(number), life).any(|(claimed, _)| claimed == object) {
            true => Standing::Alive,
            false => Standing::Silent,
        }
    }

    /// Whether this process has ended, or is none.
    pub(crate) fn is_gone(self, owner: Owner) -> bool {
        // Before the server runs, there is one process, and no member.
        let life = owner.number().and_then(|number| self.lives.get(number).map(|life| (number, life)));
        let is_it = life.is_some_and(|(number, life)| Owner::member(number, life.load(Acquire)) == owner);
        !is_it && !self.lives.is_empty()
    }

    /// The objects that this member claims, and whether it reads them only.
    pub(crate) fn objects(self, number: usize, life: u32) -> impl Iterator<Item = (u32, bool)> {
        claimed(self.claims_of(number), life)
    }

    /// The objects that this member holds or waits for now.
    pub(crate) fn held(self, number: usize, life: u32) -> impl Iterator<Item = u32> {
        let entries = self.claims_of(number).iter().map(|entry| entry.load(Relaxed));
        entries
            .filter(move |entry| entry & (HELD | READS) != 0)
            .filter_map(move |entry| object(entry, life))
            .map(|(object, _)| object)
    }

    /// Counts the life of a member that has ended. Returns it as a holder, and the objects that it
    /// claimed, which it must let go of. Runs in the supervisor, which can write the life.
    pub(crate) fn end(self, number: usize, life: &AtomicU32) -> (Owner, Vec<u32>) {
        let (dead, old) = (self.owner(number), life.load(Relaxed));
        let claims = self.objects(number, old).map(|(object, _)| object).collect();
        // A process that sees it dead also sees what it did before.
        life.store(old.wrapping_add(1), Release);
        (dead, claims)
    }

    /// Whether a member reads this object.
    pub(crate) fn is_read(self, reads: u32) -> bool {
        let is_read = |number: usize, life: u32| {
            claimed(self.claims_of(number), life).any(|claim| claim == (reads, true))
        };
        self.lives.iter().enumerate().any(|(number, life)| is_read(number, life.load(Relaxed)))
    }

    /// Claims an object, for `owner`, which is this process.
    ///
    /// # Panics
    /// The process holds as many as it can.
    #[inline]
    pub(crate) fn claim(self, owner: Owner, object: u32, kind: ClaimKind) -> Claim {
        let Some(number) = owner.number().filter(|number| *number < self.lives.len()) else {
            return Claim { place: NOWHERE };
        };
        let life = self.lives[number].load(Relaxed);
        let flag = if kind == ClaimKind::Read { READS } else { HELD };
        let wanted = u64::from(life) << 32 | flag | u64::from(object + 1);
        let all = self.claims_of(number);
        let first = number * MAX_CLAIMS;
        let claimed = match is_main_thread() {
            true => claim_alone(&all[..OF_MAIN_THREAD], wanted),
            false => claim_among(&all[OF_MAIN_THREAD..], wanted).map(|at| OF_MAIN_THREAD + at),
        };
        match claimed {
            Some(at) => Claim { place: (first + at) as u32 },
            None => panic!(
                "a process can hold at most {OF_MAIN_THREAD} locks of shared state, and {} in other threads than the main one",
                MAX_CLAIMS - OF_MAIN_THREAD
            ),
        }
    }

    /// Gives a claim back.
    #[inline]
    pub(crate) fn unclaim(self, claim: Claim) {
        let Some(entry) = self.claims.get(claim.place as usize) else { return };
        let value = entry.load(Relaxed);
        entry.store(if value & READS != 0 { 0 } else { value & !HELD }, Relaxed);
    }
}

/// The objects in these claims, and whether they are read only.
fn claimed(claims: &'static [AtomicU64], life: u32) -> impl Iterator<Item = (u32, bool)> {
    claims.iter().filter_map(move |entry| object(entry.load(Relaxed), life))
}

/// The object of a claim in this life, and whether it is read only.
fn object(entry: u64, life: u32) -> Option<(u32, bool)> {
    let object = (entry & OBJECT) as u32;
    (entry >> 32 == u64::from(life) && object != 0).then(|| (object - 1, entry & READS != 0))
}

/// Whether an entry can be used for another claim: it is of an older life, or of nothing held now.
fn is_unused(entry: u64, wanted: u64) -> bool {
    entry >> 32 != wanted >> 32 || entry & (READS | HELD) == 0
}

/// Claims, where no other thread does.
#[inline]
fn claim_alone(claims: &[AtomicU64], wanted: u64) -> Option<usize> {
    let at = claims.iter().position(|entry| is_unused(entry.load(Relaxed), wanted))?;
    claims[at].store(wanted, Relaxed);
    Some(at)
}

/// Claims, where other threads do so, too.
fn claim_among(claims: &[AtomicU64], wanted: u64) -> Option<usize> {
    claims.iter().position(|entry| {
        let unused = |entry: u64| is_unused(entry, wanted).then_some(wanted);
        entry.fetch_update(Relaxed, Relaxed, unused).is_ok()
    })
}

#[cfg(not(loom))]
pub(crate) use of_process::{become_forker, become_member, set_members};
pub(crate) use of_process::{members, waiter};

#[cfg(not(loom))]
thread_local! {
    static IS_MAIN: std::cell::Cell<Option<bool>> = const { std::cell::Cell::new(None) };
}

/// Makes this process one beside the process of the same member: as another thread of that.
#[cfg(not(loom))]
pub(crate) fn become_helper() {
    IS_MAIN.set(Some(false));
}

#[cfg(not(loom))]
fn is_main_thread() -> bool {
    IS_MAIN.get().unwrap_or_else(|| {
        let is_main = rustix::thread::gettid() == rustix::process::getpid();
        IS_MAIN.set(Some(is_main));
        is_main
    })
}

/// In a model, each thread stands for a process.
#[cfg(loom)]
fn is_main_thread() -> bool {
    true
}

/// What this process is.
mod of_process {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::{Members, OnceLock, Owner};

    static MEMBERS: OnceLock<Members> = OnceLock::new();

    /// This process as a holder of locks.
    static OWN: AtomicU32 = AtomicU32::new(Owner::ANONYMOUS.0);

    /// It is none: a forker must not wait.
    const FORKER: u32 = 0;

    /// The members of the server that this process belongs to.
    #[inline]
    pub(crate) fn members() -> Members {
        MEMBERS.get().copied().unwrap_or(Members::NONE)
    }

    /// Sets the members, before the first fork. False if they are set.
    pub(crate) fn set_members(members: Members) -> bool {
        MEMBERS.set(members).is_ok()
    }

    /// This process as a holder of locks.
    ///
    /// # Panics
    /// In a forker.
    #[inline]
    pub(crate) fn waiter() -> Owner {
        let own = OWN.load(Relaxed);
        assert!(
            own != FORKER,
            "a forker must not wait for shared state; use it in `on_child` or in the handler"
        );
        Owner(own)
    }

    /// Makes this process a member.
    #[inline]
    pub(crate) fn become_member(number: usize) {
        OWN.store(members().owner(number).0, Relaxed);
    }

    /// Makes this process a forker.
    pub(crate) fn become_forker() {
        OWN.store(FORKER, Relaxed);
    }
}

/// Members of a test, or of a model.
#[cfg(test)]
pub(crate) fn test_members(count: usize) -> Members {
    let lives: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
    let claims: Vec<AtomicU64> = (0..count * MAX_CLAIMS).map(|_| AtomicU64::new(0)).collect();
    Members { lives: lives.leak(), claims: claims.leak() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::test_members as members;
    use super::*;

    #[test]
    fn a_holder_is_alive_while_its_life_lasts_and_it_claims() {
        let members = members(3);
        let owner = members.owner(1);
        assert_eq!(members.standing(owner, 7), Standing::Silent);
        let claim = members.claim(owner, 7, ClaimKind::Hold);
        assert_eq!(members.standing(owner, 7), Standing::Alive);
        assert_eq!(members.standing(owner, 8), Standing::Silent);
        assert_eq!(members.held(1, 0).collect::<Vec<u32>>(), [7]);
        members.unclaim(claim);
        assert_eq!(members.standing(owner, 7), Standing::Alive, "the claim stays");
        assert_eq!(members.held(1, 0).count(), 0);
        members.lives[1].store(1, Relaxed);
        assert_eq!(members.standing(owner, 7), Standing::Dead);
        assert_eq!(members.standing(members.owner(1), 7), Standing::Silent);
        assert_eq!(members.standing(Owner::ANONYMOUS, 7), Standing::Dead);
        assert_eq!(Members::NONE.standing(Owner::ANONYMOUS, 7), Standing::Alive);
        assert_eq!(Members::NONE.standing(owner, 7), Standing::Alive);
        assert_eq!(members.standing(Owner::member(3, 0), 7), Standing::Dead);
    }

    #[test]
    fn claims_to_read_end_at_once_and_places_are_used_again() {
        let members = members(2);
        let owner = members.owner(1);
        let read = members.claim(owner, 5, ClaimKind::Read);
        assert!(members.is_read(5) && !members.is_read(6));
        members.unclaim(read);
        assert!(!members.is_read(5));
        for object in 0..100 {
            let claim = members.claim(owner, object, ClaimKind::Hold);
            assert_eq!(members.standing(owner, object), Standing::Alive);
            members.unclaim(claim);
        }
        let held: Vec<Claim> = (0..4).map(|object| members.claim(owner, object, ClaimKind::Read)).collect();
        assert_eq!(members.objects(1, 0).filter(|(_, reads)| *reads).count(), 4);
        held.into_iter().for_each(|claim| members.unclaim(claim));
    }

    #[test]
    #[should_panic(expected = "a process can hold at most 12 locks")]
    fn a_process_holds_a_limited_number_of_locks() {
        let members = members(1);
        for object in 0..=MAX_CLAIMS as u32 {
            members.claim(members.owner(0), object, ClaimKind::Hold);
        }
    }

    #[test]
    fn any_number_can_be_a_holder() {
        for (number, life) in [(0, 0), (1, u32::MAX), (MAX_MEMBERS - 1, 77)] {
            let owner = Owner::member(number, life);
            assert_eq!(owner.number(), Some(number));
            assert_eq!(Owner::in_word(owner.bits() | !OWNER), Some(owner));
        }
        assert_eq!(Owner::in_word(!OWNER), None);
        assert_eq!(Owner::ANONYMOUS.number(), None);
    }
}
