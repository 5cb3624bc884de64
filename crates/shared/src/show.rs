//! What operators see of shared state.

use std::ops::Range;

/// An object and its name.
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) shown: Box<dyn Shown + Send + Sync>,
}

/// What can be shown. The words that it reads can have any value; it never waits.
pub(crate) trait Shown {
    /// What it is: `counter`, `mutex`.
    fn kind(&self) -> &'static str;

    /// What can be told about it now.
    fn figures(&self) -> Vec<Figure>;

    /// Processes that have ended with these claims let go of the object: wakes others.
    fn let_go(&self, _: LetGo) {}

    /// This process works for the object from now on.
    fn enter_worker(&self) {}

    /// No process will ask for more work.
    fn close(&self) {}

    /// Takes what this process has of the object beside the shared words up to date.
    fn refresh(&self) {}

    /// Gives up what this process has of the object beside the shared words.
    fn leave(&self) {}

    /// The number of the object among those that processes hold, if it is one.
    fn number(&self) -> Option<u32> {
        None
    }

    /// All such numbers of the object: it can have several locks.
    fn numbers(&self) -> Range<u32> {
        self.number().map_or(0..0, |number| number..number + 1)
    }
}

/// A process that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LetGo {
    pub(crate) owner: crate::owner::Owner,
    /// The number that it claimed.
    pub(crate) object: u32,
}

/// Something that is told about an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is: empty for the value of a counter or gauge, else `length`, `capacity`, `lost`.
    pub name: &'static str,
    /// The figure.
    pub value: Value,
}

/// A figure, by how it changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number that only grows.
    Counter(u64),
    /// A number that grows and shrinks.
    Gauge(f64),
    /// How often a measured value was at most each bound; those above all bounds are the last
    /// count.
    Histogram {
        /// The upper bounds, in ascending order.
        bounds: Vec<f64>,
        /// The number of values up to each bound and above the one before, and above the last.
        counts: Vec<u64>,
        /// The sum of all values.
        sum: f64,
    },
}

impl Figure {
    pub(crate) fn counter(name: &'static str, value: u64) -> Figure {
        Figure { name, value: Value::Counter(value) }
    }

    pub(crate) fn gauge(name: &'static str, value: f64) -> Figure {
        Figure { name, value: Value::Gauge(value) }
    }
}
