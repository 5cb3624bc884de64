//! A load with everything that workers need to run it.

use crate::plan::Plan;
use crate::plan::endpoint::Endpoint;
use crate::plan::part::Part;
use crate::plan::proxy::ProxyHeaders;
use crate::plan::script::Script;
use crate::plan::sources::Sources;

/// A load that is ready to run.
#[derive(Debug)]
pub struct Load {
    /// The plan.
    pub plan: Plan,
    /// The workers that run in this process.
    pub part: Part,
    /// The script of each population.
    pub scripts: Vec<Script>,
    /// The endpoints of each target, in the order in which to try them.
    pub targets: Vec<Vec<Endpoint>>,
    /// Addresses to connect from.
    pub sources: Sources,
    /// Headers of the PROXY protocol, sent before the first byte.
    pub proxy: Option<ProxyHeaders>,
}

impl Load {
    /// Returns the number of worker processes.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.part.workers
    }
}
