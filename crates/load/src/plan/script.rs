//! Scripts: what one connection does from start to end. Each mode is one script.

use super::expect::Expect;
use super::text::{Template, unescape};
use super::{Close, MessageText, Mode, Plan};

/// The message of one exchange.
#[derive(Clone, Debug)]
pub enum Message {
    /// This number of bytes of the pattern, continuing where the last exchange of the connection
    /// ended.
    Pattern(u64),
    /// This text.
    Text(Vec<u8>),
    /// A text with numbers.
    Template(Template),
    /// Messages at fixed intervals, whether or not the server replies. Together they are one
    /// exchange.
    Series {
        /// The messages.
        template: Template,
        /// Interval between two messages, in nanoseconds.
        every: u64,
        /// Number of messages; `None` for no end.
        count: Option<u64>,
    },
}

/// What a connection does. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct Script {
    /// The message of an exchange.
    pub message: Message,
    /// The expected reply.
    pub expect: Expect,
    /// Exchanges until the connection is closed; `None` for no end.
    pub exchanges: Option<u64>,
    /// Pause between exchanges.
    pub think: u64,
    /// Time between two bytes, if they are sent one at a time.
    pub pace: Option<u64>,
    /// Whether the connection stays open after its exchanges, until the server or the stop ends it.
    pub stays: bool,
    /// Whether a connection without exchanges counts as done when the server closes it.
    pub counts_server_close: bool,
    /// Whether the client half-closes after the message of the last exchange.
    pub half_closes: bool,
    /// Whether the client half-closes after the last reply, and expects the end of the stream.
    pub checks_end: bool,
    /// Whether a server that does not end the stream in time, when it should, is no error.
    pub accepts_open_end: bool,
    /// Whether the connection is cut off, at a stage that its number decides.
    pub is_cut: bool,
    /// Which side closes the connection, and how.
    pub close: Close,
    /// Whether times count from the start of connecting, and connections (not exchanges) are
    /// planned.
    pub from_connect: bool,
    /// Whether each byte that moves restarts the timeout.
    pub is_progress_timed: bool,
    /// Whether small messages are sent at once (TCP_NODELAY).
    pub no_delay: bool,
}

impl Script {
    /// Whether connections are opened a few at a time. Kept connections are: all of them start at
    /// once, and would overflow the backlog.
    #[must_use]
    pub fn opens_gently(&self) -> bool {
        self.stays || !self.from_connect
    }

    /// Whether bytes after the reply are an error. A connection without exchanges expects no reply,
    /// so whatever arrives is discarded.
    #[must_use]
    pub fn rejects_more(&self) -> bool {
        let is_exact = matches!(self.expect, Expect::Echo | Expect::Bytes(_) | Expect::Text(_));
        is_exact && self.exchanges != Some(0)
    }

    /// Whether the first exchange sends nothing.
    #[must_use]
    pub fn has_empty_message(&self) -> bool {
        match &self.message {
            Message::Pattern(size) => *size == 0,
            Message::Text(text) => text.is_empty(),
            Message::Template(_) | Message::Series { .. } => false,
        }
    }

    /// Whether only the stop ends an exchange.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        matches!(self.expect, Expect::Endless)
    }
}

/// The smallest receive buffer of the kernel (socket(7)).
pub const SMALL_BUFFER: usize = 2304;

/// Creates the scripts of a plan's populations.
///
/// # Errors
/// A message about the invalid part of the plan.
pub fn scripts(plan: &Plan) -> Result<Vec<Script>, String> {
    plan.populations.iter().map(|population| script(plan, population.mode)).collect()
}

fn script(plan: &Plan, mode: Mode) -> Result<Script, String> {
    let message = match &plan.message {
        MessageText::Size(size) => Message::Pattern(size.unwrap_or(u64::MAX)),
        MessageText::Text(text) => Message::Text(unescape(text)?),
        MessageText::Template(text) => Message::Template(Template::parse(text)?),
    };
    let is_empty = matches!(message, Message::Pattern(0));
    let is_endless = matches!(message, Message::Pattern(u64::MAX));
    let script = Script {
        message,
        expect: plan.expect.parse()?,
        exchanges: Some(plan.per_connection.unwrap_or(1)),
        think: plan.think_ns,
        pace: None,
        stays: false,
        counts_server_close: false,
        half_closes: false,
        checks_end: false,
        accepts_open_end: false,
        is_cut: false,
        close: plan.close,
        from_connect: true,
        is_progress_timed: false,
        no_delay: false,
    };
    let without_exchanges = Script { exchanges: Some(0), ..script.clone() };
    Ok(match mode {
        Mode::Crr => Script { half_closes: plan.half_close, checks_end: plan.half_close, ..script },
        // The end of the stream shows that the server accepted the connection: without it, a closed
        // loop would fill the server's backlog. What a server sends before, as a greeting, is
        // discarded.
        Mode::Cc => Script { checks_end: true, ..without_exchanges },
        Mode::Rr => Script { exchanges: plan.per_connection, from_connect: false, ..script },
        Mode::Stream if is_endless => Script { expect: Expect::Endless, is_progress_timed: true, ..script },
        Mode::Stream => {
            Script { expect: Expect::End, is_progress_timed: true, half_closes: !is_empty, ..script }
        }
        Mode::Echo => Script { is_progress_timed: true, checks_end: true, ..script },
        Mode::Hold if is_empty => Script { stays: true, ..without_exchanges },
        Mode::Hold => Script { exchanges: plan.per_connection, from_connect: false, ..script },
        Mode::Slow => Script { pace: Some(plan.pace_ns.max(1)), is_progress_timed: true, ..script },
        Mode::Reset => Script { is_cut: true, close: Close::Rst, ..script },
        Mode::Messages => series(plan, script)?,
        Mode::Silent => Script { stays: true, counts_server_close: true, ..without_exchanges },
    })
}

fn series(plan: &Plan, script: Script) -> Result<Script, String> {
    let MessageText::Template(text) = &plan.message else {
        return Err("messages at intervals need a template".into());
    };
    let template = Template::parse(text)?;
    Ok(Script {
        message: Message::Series { template, every: plan.think_ns, count: plan.per_connection },
        exchanges: Some(1),
        checks_end: true,
        accepts_open_end: true,
        is_progress_timed: true,
        no_delay: true,
        ..script
    })
}

/// The stage at which a connection is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// While connecting.
    Connecting,
    /// Connected, nothing sent.
    Connected,
    /// Half of the message sent.
    HalfSent,
    /// The whole message sent, no reply read.
    Sent,
    /// Part of the reply read.
    Replying,
}

impl Cut {
    /// Returns the stage for a connection: each in turn.
    #[must_use]
    pub fn of(connection: u64) -> Cut {
        match connection % 5 {
            0 => Cut::Connecting,
            1 => Cut::Connected,
            2 => Cut::HalfSent,
            3 => Cut::Sent,
            _ => Cut::Replying,
        }
    }
}
