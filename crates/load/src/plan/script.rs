//! What one connection does, from its start to its end: the modes, all of one mould.

use crate::plan::expect::Expect;
use crate::plan::text::{Template, unescape};
use crate::plan::{Close, MessageText, Mode, Plan};

/// What is sent in one exchange.
#[derive(Clone, Debug)]
pub enum Message {
    /// So many bytes of the pattern, going on where the last exchange of the connection ended.
    Pattern(u64),
    /// These.
    Text(Vec<u8>),
    /// These, with numbers.
    Template(Template),
}

/// What a connection does.
#[derive(Clone, Debug)]
pub struct Script {
    /// The mode that it comes from.
    pub mode: Mode,
    /// What an exchange sends.
    pub message: Message,
    /// What it waits for.
    pub expect: Expect,
    /// Exchanges until the connection is closed; `None` for no end.
    pub exchanges: Option<u64>,
    /// Rest between exchanges, in nanoseconds.
    pub think: u64,
    /// One byte at a time, so many nanoseconds apart.
    pub pace: Option<u64>,
    /// Whether it stays after its exchanges, until the server or the stop ends it.
    pub stays: bool,
    /// Whether it half-closes when all is sent.
    pub half_closes: bool,
    /// Whether it half-closes when all is answered, and checks that the stream ends there, too.
    pub checks_end: bool,
    /// Whether it is cut off, at a stage that its number decides.
    pub is_cut: bool,
    /// How it is closed.
    pub close: Close,
    /// Whether time counts from the connecting, not from the sending.
    pub from_connect: bool,
    /// Whether the timeout is for silence rather than for the whole exchange.
    pub patient: bool,
}

impl Script {
    /// Whether many of it are opened a few at a time: those that stay are as many as there are places, all at the start.
    #[must_use]
    pub fn opens_gently(&self) -> bool {
        self.stays || !self.from_connect
    }

    /// Whether only the stop ends its exchange.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        matches!(self.expect, Expect::Whatever)
    }
}

/// The least receive buffer that the kernel gives (socket(7)).
pub const SMALL_BUFFER: usize = 2304;

/// The scripts of a plan's populations.
///
/// # Errors
/// What in the plan cannot be done, and how to say it right.
pub fn scripts(plan: &Plan) -> Result<Vec<Script>, String> {
    plan.populations.iter().map(|population| script(plan, population.mode)).collect()
}

fn script(plan: &Plan, mode: Mode) -> Result<Script, String> {
    let message = match &plan.message {
        MessageText::Size(size) => Message::Pattern(size.unwrap_or(u64::MAX)),
        MessageText::Text(text) => Message::Text(unescape(text)?),
        MessageText::Template(text) => Message::Template(Template::parse(text)?),
    };
    let says_nothing = matches!(message, Message::Pattern(0));
    let script = Script {
        mode,
        expect: plan.expect.parse()?,
        exchanges: Some(plan.per_connection.unwrap_or(1)),
        think: plan.think_ns,
        pace: None,
        stays: false,
        half_closes: false,
        checks_end: false,
        is_cut: false,
        close: plan.close,
        from_connect: true,
        patient: false,
        message,
    };
    let endless = matches!(script.message, Message::Pattern(u64::MAX));
    let nothing = Script { exchanges: Some(0), ..script.clone() };
    Ok(match mode {
        Mode::Crr => script,
        // The end of the stream tells that the server has seen it: else a closed loop would fill its queue.
        Mode::Cc => Script { checks_end: true, ..nothing },
        Mode::Rr => Script { exchanges: plan.per_connection, from_connect: false, ..script },
        Mode::Stream if endless => Script { expect: Expect::Whatever, patient: true, ..script },
        Mode::Stream => Script { expect: Expect::End, patient: true, half_closes: !says_nothing, ..script },
        Mode::Echo => Script { patient: true, checks_end: true, ..script },
        Mode::Hold if says_nothing => Script { stays: true, ..nothing },
        Mode::Hold => Script { exchanges: plan.per_connection, from_connect: false, ..script },
        Mode::Slow => Script { pace: Some(plan.pace_ns.max(1)), patient: true, ..script },
        Mode::Reset => Script { is_cut: true, close: Close::Rst, ..script },
        Mode::Silent => Script { stays: true, ..nothing },
    })
}

/// Where a connection is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As soon as it is begun.
    Connecting,
    /// When it has been made.
    Connected,
    /// With half of the message sent.
    HalfSent,
    /// With all of it sent, before an answer.
    Sent,
    /// With a part of the answer read.
    Answering,
}

impl Cut {
    /// The stage of a connection with this number: each in turn.
    #[must_use]
    pub fn of(connection: u64) -> Cut {
        match connection % 5 {
            0 => Cut::Connecting,
            1 => Cut::Connected,
            2 => Cut::HalfSent,
            3 => Cut::Sent,
            _ => Cut::Answering,
        }
    }
}
