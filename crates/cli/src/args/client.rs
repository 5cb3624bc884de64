//! `tine client`: options.

use std::time::Duration;

use clap::Args;
use tine_load::plan::text::Template;

use super::duration;
use super::proxy_header::Proxy;

/// `tine client`.
#[derive(Args, Debug)]
#[command(after_help = USAGE, args_override_self = true)]
pub struct Client {
    /// Addresses to connect to; connections go to each in turn. PORT alone is a port of this host
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<String>,

    #[arg(short, long, value_name = "TEMPLATE", value_parser = template, help = message_help())]
    /// The message to send at intervals instead of standard input.
    pub message: Option<String>,

    /// Interval between messages
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration, requires = "message")]
    pub every: Duration,

    /// Number of messages on each connection [default: unlimited]
    #[arg(long, value_name = "N", requires = "message", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Check that replies equal what was sent
    #[arg(long, requires = "message")]
    pub expect_echo: bool,

    /// Number of connections, each in its own process
    #[arg(short = 'c', long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// Divide the connections among this many processes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=30_000))]
    pub processes: Option<u32>,

    /// Timeout for connecting, and for replies after the last message
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub wait: Duration,

    /// The header of the PROXY protocol.
    #[command(flatten)]
    pub proxy: Proxy,

    /// Print neither replies nor the summary
    #[arg(short, long)]
    pub quiet: bool,
}

const USAGE: &str = "Without --message, copies standard input to the server and replies to standard output. After the end \
of input, half-closes the connection and prints the rest of the reply.\nExit codes: 0 done, 3 a reply differs from what \
was sent (--expect-echo), 100 usage error, 111 a connection failed, 130 interrupted.";

/// `{n}` as clap prints it. Without the invisible reset sequence within, it is a line break.
pub(super) const FIELD_N: &str = "{\u{1b}[0mn}";

fn message_help() -> String {
    format!(
        "Send this message at intervals instead of standard input; {FIELD_N} is the number of the message, \
         {{c}} the number of the connection, both from 0; \\n \\r \\t \\0 \\\\ are escapes as in C"
    )
}

/// Checks a template; the load library parses it again.
fn template(text: &str) -> Result<String, String> {
    Template::parse(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_help_has_the_fields_of_templates() {
        let mut tine = crate::args::Args::command();
        for path in [&["client"][..], &["load", "crr"]] {
            let find = |command, name: &&str| clap::Command::find_subcommand_mut(command, name).expect(name);
            let help = path.iter().fold(&mut tine, find).render_help().to_string();
            assert!(help.contains("{n}") && help.contains("{c}"), "{help}");
        }
    }
}
