//! `tine explain`: which rule decides about a client.

use std::process::ExitCode;

use tine::{Error, Moment};

use crate::args::Explain;
use crate::commands::describe::print;
use crate::commands::serve::access;
use crate::config::Config;

/// Says for each service whether a client is let in, and by which rule.
pub fn run(args: &Explain) -> Result<ExitCode, Error> {
    let config = Config::read(&args.file)?;
    let moment = args.at.unwrap_or_else(Moment::now);
    let mut text = String::new();
    for service in &config.services {
        let access = access(&service.args).map_err(|error| error.within(&service.place))?;
        let looked_up = || args.name.clone().or_else(|| tine::confirmed_name(args.peer));
        let name = service.args.program.reverse_dns.then(looked_up).flatten();
        let decision = access.as_ref().map(|access| access.decide(args.peer, name.as_deref(), moment));
        let said = match decision {
            None => "allowed: there are no rules".to_owned(),
            Some(decision) => {
                let word = if decision.allowed { "allowed" } else { "denied" };
                match (decision.rule, decision.allowed) {
                    (Some(times), false) if decision.is_the_time => {
                        format!("{word} at {moment}: access-times is {times}")
                    }
                    (Some(rule), _) => format!("{word} by: {rule}"),
                    (None, true) => format!("{word}: no rule is about it"),
                    (None, false) => format!("{word}: others are allowed, and no rule allows it"),
                }
            }
        };
        text += &format!("{}: {said}\n", service.name);
    }
    print(text.as_bytes())
}
