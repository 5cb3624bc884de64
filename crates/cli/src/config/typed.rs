//! Options on the command line beside a configuration.

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::keys::Keys;
use super::{Config, as_key};
use crate::args::Serve;
use crate::error::Error;

impl Config {
    /// The same with the options of the command line about the server as a whole, which take
    /// precedence.
    ///
    /// # Errors
    /// There is another option, which belongs in the file.
    pub fn with_typed(mut self, args: Serve, typed: &ArgMatches) -> Result<Config, Error> {
        let is_typed = |id: &str| typed.value_source(id) == Some(ValueSource::CommandLine);
        let given: Vec<String> =
            typed.ids().map(clap::Id::as_str).filter(|id| is_typed(id)).map(as_key).collect();
        let keys = Keys::new();
        if let Some(other) = given.iter().find(|key| *key != "config" && !keys.is_server_wide(key)) {
            return Err(Error::usage(
                format_args!("{other} is not possible beside --config"),
                "write it into the file; only the options of the log, of readiness, of the control socket and of the observer are possible beside it",
            ));
        }
        let is_given = |keys: &[&str]| given.iter().any(|key| keys.contains(&key.as_str()));
        let (log, readiness) = (&mut self.server.log, &mut self.server.readiness);
        if is_given(&["log"]) {
            log.log = args.log.log;
        }
        if is_given(&["log-target", "log-file"]) {
            (log.log_target, log.log_file) = (args.log.log_target, args.log.log_file);
        }
        if is_given(&["verbose", "quiet"]) {
            (log.verbose, log.quiet) = (args.log.verbose, args.log.quiet);
        }
        readiness.print_ports |= args.readiness.print_ports;
        readiness.ready_fd = args.readiness.ready_fd.or(readiness.ready_fd);
        readiness.pid_file = args.readiness.pid_file.or(readiness.pid_file.take());
        let control = &mut self.server.control;
        control.control = args.control.control.or(control.control.take());
        control.state_directory = args.control.state_directory.or(control.state_directory.take());
        control.crash_dir = args.control.crash_dir.or(control.crash_dir.take());
        control.name = args.control.name.or(control.name.take());
        control.control_group = args.control.control_group.or(control.control_group.take());
        let observe = &mut self.server.observe;
        observe.observe = args.observe.observe.or(observe.observe.take());
        observe.observe_token = args.observe.observe_token.or(observe.observe_token.take());
        observe.observe_user = args.observe.observe_user.or(observe.observe_user.take());
        observe.observe_control |= args.observe.observe_control;
        if is_given(&["history"]) {
            control.history = args.control.history;
        }
        Ok(self)
    }
}
