//! Moving bytes: sending as far as the socket takes them, and receiving as far as there are any.

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::slot::{Interest, Stage};
use super::{CHUNK, CHUNKS, EVIDENCE, Worker, now};
use crate::findings::WrongBytes;
use crate::findings::corruption::{Corruption, WINDOW};
use crate::findings::state::State;
use crate::plan::expect::Expect;
use crate::plan::script::{Cut, Message, Script};
use crate::run::exchange::{ReplyCheck, StreamEnd};

/// Bytes that are shown of wrong ones.
const SHOWN: usize = 16;

impl Worker<'_> {
    /// Sends the rest of the message, as far as the socket takes it.
    pub(super) fn send(&mut self, at: usize) {
        let script = self.script(at);
        for _ in 0..CHUNKS {
            let is_halved = self.is_cut_at(at, Cut::HalfSent);
            let exchange = &self.slots[at].exchange;
            let until = if is_halved { exchange.size() / 2 } else { exchange.size() };
            if exchange.sent >= until {
                if self.compose_due(at) {
                    continue;
                }
                return self.message_sent(at);
            }
            let most = match script.pace {
                Some(_) => 1,
                None => (until - exchange.sent).min(CHUNK as u64) as usize,
            };
            let Some(socket) = &self.slots[at].socket else { return };
            let bytes = exchange.next_bytes(script, self.pattern, &mut self.buffer[..most]);
            match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent(at, sent as u64),
                Err(Errno::AGAIN) if script.pace.is_none() => return self.watch(at, Interest::ReadWrite),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(errno) => return self.cannot_send(at, errno),
            }
            if script.pace.is_some() {
                break;
            }
        }
        match script.pace {
            // The timer also reads: a reply may be under way.
            Some(pace) => self.set_timer(at, now() + pace),
            None => self.again.push_back(at),
        }
    }

    /// Composes the next message of a series, if it is due.
    fn compose_due(&mut self, at: usize) -> bool {
        let script = self.script(at);
        let Message::Series { every, .. } = &script.message else { return false };
        let now = now();
        let slot = &mut self.slots[at];
        if slot.exchange.is_last() || slot.next_message > now {
            return false;
        }
        slot.exchange.compose(script);
        slot.next_message += every;
        if slot.exchange.is_last() {
            slot.deadline = now + self.work.load.plan.timeout_ns;
        }
        self.recorder.message_begun();
        self.publish_unmeasured();
        true
    }

    fn sent(&mut self, at: usize, bytes: u64) {
        let slot = &mut self.slots[at];
        slot.exchange.sent += bytes;
        self.recorder.sent(bytes);
        if slot.exchange.left() == 0 {
            self.half_close_after_last(at);
        }
        self.progressed(at);
    }

    /// Restarts the timeout of a connection on which bytes moved, if its script says so.
    fn progressed(&mut self, at: usize) {
        if self.script(at).is_progress_timed && self.slots[at].exchange.is_last() {
            self.slots[at].deadline = now() + self.work.load.plan.timeout_ns;
        }
    }

    /// Handles the end of a message: all of it that is to be sent now is sent.
    fn message_sent(&mut self, at: usize) {
        let script = self.script(at);
        if self.is_cut_at(at, Cut::HalfSent) || self.is_cut_at(at, Cut::Sent) {
            return self.cut(at);
        }
        if script.has_empty_message() {
            self.half_close_after_last(at);
        }
        let slot = &self.slots[at];
        if slot.exchange.is_complete() {
            let now = now();
            self.opened(at);
            return self.answered(at, now);
        }
        if !slot.exchange.is_last() {
            self.set_timer(at, slot.next_message);
        }
        match script.pace {
            Some(pace) => self.set_timer(at, now() + pace),
            None => self.watch(at, Interest::Read),
        }
    }

    /// Half-closes after the last message, if the script says so.
    fn half_close_after_last(&mut self, at: usize) {
        let (script, done) = (self.script(at), self.slots[at].done);
        if script.half_closes && script.exchanges.is_none_or(|all| done + 1 >= all) {
            self.half_close(at);
        }
    }

    pub(super) fn half_close(&mut self, at: usize) {
        if let Some(socket) = &self.slots[at].socket {
            // If the server has closed the connection, reading reports it.
            let _ = rustix::net::shutdown(socket, Shutdown::Write);
        }
    }

    /// Handles a socket that takes no more bytes. A reply that arrived before that still counts.
    fn cannot_send(&mut self, at: usize, errno: Errno) {
        self.receive(at, CHUNK, true);
        if self.slots[at].stage == Stage::Exchanging {
            self.failed(at, errno);
        }
    }

    /// Receives bytes, at most `most` in one call. `to_the_end`: the kernel has seen the end of the
    /// stream, so reads until there.
    pub(super) fn receive(&mut self, at: usize, most: usize, to_the_end: bool) {
        for _ in 0..CHUNKS {
            let Some(socket) = &self.slots[at].socket else { return };
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = rustix::net::recv(socket, &mut buffer[..most], RecvFlags::empty());
            if let Ok((_, length @ 1..)) = received {
                self.recorder.received(length as u64);
                self.publish_unmeasured();
                if let Some(observer) = self.work.purpose.observer() {
                    observer.received(self.slots[at].number, &buffer[..length]);
                }
                self.received(at, &buffer[..length]);
            }
            self.buffer = buffer;
            match received {
                Ok((_, 0)) => return self.stream_ended(at),
                // A short read took all there was; epoll reports more.
                Ok((_, length)) if !(length == most && most > 1 || to_the_end) => return,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(errno) => return self.failed(at, errno),
            }
            let stage = self.slots[at].stage;
            if stage == Stage::Free || stage == Stage::Ready && !to_the_end {
                // What arrives now belongs to the next exchange.
                return;
            }
        }
        self.again.push_back(at);
    }

    fn received(&mut self, at: usize, bytes: &[u8]) {
        self.progressed(at);
        match self.slots[at].stage {
            Stage::Exchanging => self.check_reply(at, bytes),
            Stage::Diagnosing => {
                self.slots[at].evidence.extend_from_slice(bytes);
                if self.slots[at].evidence.len() >= WINDOW {
                    self.diagnose(at);
                }
            }
            Stage::Idle | Stage::Thinking | Stage::Closing if self.script(at).rejects_more() => {
                self.end(at, State::Long);
            }
            _ => {}
        }
    }

    fn check_reply(&mut self, at: usize, bytes: &[u8]) {
        let script = self.script(at);
        if self.is_cut_at(at, Cut::Replying) {
            return self.cut(at);
        }
        let slot = &mut self.slots[at];
        let is_first = !std::mem::replace(&mut slot.has_first_byte, true);
        if is_first && self.recorder.records_first_byte(slot.start) {
            self.recorder.first_byte(slot.start, now());
        }
        let offset = slot.exchange.reply_offset();
        match slot.exchange.check(script, self.pattern, bytes, &mut self.scratch) {
            ReplyCheck::Correct if slot.exchange.is_complete() => {
                let now = now();
                self.opened(at);
                self.answered(at, now);
            }
            ReplyCheck::Correct => {}
            ReplyCheck::TooLong => self.end(at, State::Long),
            ReplyCheck::Wrong(from) => self.suspect(at, offset + from as u64, &bytes[from..]),
        }
    }

    /// Handles wrong bytes. Those of the pattern are diagnosed, together with bytes that follow.
    fn suspect(&mut self, at: usize, offset: u64, bytes: &[u8]) {
        let script = self.script(at);
        let slot = &mut self.slots[at];
        slot.wrong_at = offset;
        slot.evidence.clear();
        slot.evidence.extend_from_slice(bytes);
        if expects_pattern(script) {
            self.set_stage(at, Stage::Diagnosing);
            let slot = &mut self.slots[at];
            slot.deadline = now() + EVIDENCE;
            let is_all = slot.exchange.left() == 0 && slot.exchange.received >= slot.exchange.size();
            if is_all || slot.evidence.len() >= WINDOW {
                self.diagnose(at);
            }
            return;
        }
        self.recorder.wrong_bytes(WrongBytes {
            connection: slot.number,
            offset,
            fault: Corruption::Differs,
            expected: String::new(),
            got: hexadecimal(&slot.evidence),
        });
        self.end(at, State::Mismatch);
    }

    /// Whether some bytes are collected to diagnose wrong ones.
    pub(super) fn collects_evidence(&self) -> bool {
        self.work.load.scripts.iter().any(expects_pattern)
    }

    /// Diagnoses the wrong bytes, and ends the connection.
    pub(super) fn diagnose(&mut self, at: usize) {
        let slot = &self.slots[at];
        let window = &slot.evidence[..slot.evidence.len().min(WINDOW)];
        let connections = (self.begun + 1) * self.work.all_workers() as u64;
        let mut expected = vec![0; window.len().min(SHOWN)];
        self.pattern.fill(slot.number, slot.wrong_at, &mut expected);
        self.recorder.wrong_bytes(WrongBytes {
            connection: slot.number,
            offset: slot.wrong_at,
            fault: Corruption::diagnose(&self.pattern, slot.number, slot.wrong_at, window, connections),
            expected: hexadecimal(&expected),
            got: hexadecimal(window),
        });
        self.end(at, State::Mismatch);
    }

    fn stream_ended(&mut self, at: usize) {
        let script = self.script(at);
        match self.slots[at].stage {
            Stage::Exchanging => match self.slots[at].exchange.end(script) {
                StreamEnd::Complete => {
                    let now = now();
                    self.opened(at);
                    self.exchange_done(at, now);
                    self.end(at, State::Ok);
                }
                StreamEnd::Unanswered => self.end(at, State::Closed),
                StreamEnd::Truncated => self.end(at, State::Short),
            },
            Stage::Diagnosing => self.diagnose(at),
            Stage::Closing => self.end(at, State::Ok),
            Stage::Staying if script.counts_server_close => {
                self.recorder.timed(self.slots[at].start, now());
                self.end(at, State::Ok);
            }
            Stage::Free | Stage::Connecting => {}
            Stage::Idle | Stage::Thinking | Stage::Ready | Stage::Staying => self.end(at, State::Closed),
        }
    }
}

fn expects_pattern(script: &Script) -> bool {
    matches!((&script.message, &script.expect), (Message::Pattern(_), Expect::Echo))
}

/// Formats the first bytes in hexadecimal.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect()
}
