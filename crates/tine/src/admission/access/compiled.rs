//! Access rules as a server keeps them until it starts: compiled, without their texts.

use std::rc::Rc;

use super::decide::RuleContext;
use super::list::RuleSource;

/// Access rules without their texts: what a server keeps until it starts.
#[derive(Clone, Debug)]
pub(crate) struct CompiledRules {
    pub(super) words: Rc<[u64]>,
    pub(super) context: RuleContext,
    pub(super) source: RuleSource,
}

impl CompiledRules {
    /// Whether rules may name hosts, so that a program's process has to look up its client's name.
    pub(crate) fn need_names(&self) -> bool {
        self.context.names
    }

    /// Whether rules are about groups of clients of Unix sockets.
    pub(crate) fn name_groups(&self) -> bool {
        self.context.local.name_groups()
    }

    /// Frees the words, once they are in shared memory.
    pub(crate) fn forget_words(&mut self) {
        self.words = Rc::new([]);
    }

    /// The inputs to read the rules from again; `None` if none of them is a file.
    pub(crate) fn source(&self) -> Option<RuleSource> {
        self.source.has_files().then(|| self.source.clone())
    }
}
