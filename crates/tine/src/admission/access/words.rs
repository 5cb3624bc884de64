//! Access to the words of a table of rules, on the heap or in shared memory.

/// The words of a table, on the heap or in shared memory.
pub(super) trait RuleWords: Copy {
    /// The word at this index; 0 beyond the end.
    fn word(self, at: usize) -> u64;
}

impl RuleWords for &[u64] {
    fn word(self, at: usize) -> u64 {
        self.get(at).copied().unwrap_or(0)
    }
}
