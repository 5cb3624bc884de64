//! The handler's own first step in a forker.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tine_sys::fd::{Floor, Kept};
use tine_sys::process::Alone;

use crate::connection::handler::Handler;
use crate::error::{Error, ErrorKind, chain};
use crate::lifecycle::outcome::ExitReport;

/// Has the handler prepare what its connections use. Returns the descriptors that it has opened,
/// which connections keep.
///
/// # Errors
/// It failed, panicked, or has left threads behind: forks from here would be unsafe.
pub(super) fn start_handler<H: Handler>(handler: &mut H, floor: Floor) -> Result<Kept, Error> {
    let (kept, started) = Kept::opened_by(floor, || catch_unwind(AssertUnwindSafe(|| handler.on_start())));
    let why = match started {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(chain(&*error)),
        Err(thrown) => Some(ExitReport::panic_text(&*thrown)),
    };
    if let Some(why) = why {
        let next = "correct what its on_start needs";
        return Err(Error::new(ErrorKind::Handler, format_args!("the handler cannot start: {why}"), next));
    }
    Alone::check().map(|_| kept).map_err(|why| {
        Error::new(
            ErrorKind::Threads,
            format_args!("cannot fork after the handler's on_start: {why}"),
            "start threads in on_child or in serve",
        )
    })
}
