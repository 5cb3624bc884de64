//! `tine demo`: options.

use std::time::Duration;

use clap::Args;

use super::positive;
use crate::demo::language::Language;
use crate::exit;

/// `tine demo`.
#[derive(Args, Debug)]
#[command(after_help = format!("{USAGE}\n{}", exit::help("demo")))]
pub struct Demo {
    /// Language: English (en) or Chinese (zh) [default: that of LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_name = "LANGUAGE", value_parser = Language::parser())]
    pub lang: Option<Language>,

    /// Go on after this time, instead of waiting for Enter
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub pause: Option<Duration>,
}

const USAGE: &str = "Starts a server on a free port of 127.0.0.1, and connects clients to it. Each step is one \
screen of 80 columns and 24 lines: what happens, what was seen of it, and commands that show the same from \
outside. On a terminal, each step waits for Enter, and nothing changes meanwhile; q ends. Without a terminal, \
all steps are printed one after the other. The server and its processes end with the demo, whatever ends it.";
