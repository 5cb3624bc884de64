//! Moving bytes: what is to be sent, as far as there is room; what has come, as far as there is any.

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::slot::{Interest, Stage};
use super::{CHUNK, CHUNKS, Worker, now};
use crate::findings::WrongBytes;
use crate::findings::corruption::{Corruption, WINDOW};
use crate::findings::record::Measure;
use crate::findings::state::State;
use crate::plan::expect::Expect;
use crate::plan::script::{Cut, Message};
use crate::run::exchange::{ReplyCheck, StreamEnd};
use crate::units::SECOND;

/// How long bytes are collected that tell what happened to wrong ones.
const EVIDENCE: u64 = SECOND / 5;

impl Worker<'_> {
    /// Sends what is left of the message, as far as there is room.
    pub(super) fn speak(&mut self, at: usize) {
        let script = self.script(at);
        for _ in 0..CHUNKS {
            let is_halved = self.is_cut_at(at, Cut::HalfSent);
            let slot = &mut self.slots[at];
            let size = slot.exchange.size();
            let until = if is_halved { size / 2 } else { size };
            if slot.exchange.sent >= until {
                return self.said(at);
            }
            let most = match script.pace {
                Some(_) => 1,
                None => (until - slot.exchange.sent).min(CHUNK as u64) as usize,
            };
            let Some(socket) = &slot.socket else { return };
            let bytes = slot.exchange.next_bytes(script, self.pattern, &mut self.room[..most]);
            match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent(at, sent as u64),
                Err(Errno::AGAIN) if script.pace.is_none() => return self.ask(at, Interest::ReadWrite),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(errno) => return self.cannot_send(at, errno),
            }
            if script.pace.is_some() {
                break;
            }
        }
        match script.pace {
            // An answer may be on the way, too: the next look is the next step of both.
            Some(pace) => self.arm(at, now() + pace),
            None => self.again.push_back(at),
        }
    }

    fn sent(&mut self, at: usize, bytes: u64) {
        let slot = &mut self.slots[at];
        slot.exchange.sent += bytes;
        self.numbers.sent += bytes;
        if slot.exchange.left() == 0 && self.script(at).half_closes {
            self.half_close(at);
        }
        self.moved(at);
    }

    /// Bytes have moved: a patient connection has its whole time again.
    fn moved(&mut self, at: usize) {
        if self.script(at).is_progress_timed {
            self.slots[at].deadline = now() + self.work.plan.timeout_ns;
        }
    }

    /// The whole message is sent (or as much of it as is to be).
    fn said(&mut self, at: usize) {
        let script = self.script(at);
        if self.is_cut_at(at, Cut::HalfSent) || self.is_cut_at(at, Cut::Sent) {
            return self.cut(at);
        }
        if self.slots[at].exchange.is_complete() {
            let now = now();
            self.opened(at);
            return self.answered(at, now);
        }
        match script.pace {
            Some(pace) => self.arm(at, now() + pace),
            None => self.ask(at, Interest::Read),
        }
    }

    pub(super) fn half_close(&mut self, at: usize) {
        if let Some(socket) = &self.slots[at].socket {
            // The server may have gone; reading says so.
            let _ = rustix::net::shutdown(socket, Shutdown::Write);
        }
    }

    /// The server takes no more. What it said before that counts, if it is an answer.
    fn cannot_send(&mut self, at: usize, errno: Errno) {
        self.hear(at, CHUNK, true);
        if self.slots[at].stage == Stage::Talking {
            self.failed(at, errno);
        }
    }

    /// Takes what has come, at most so many bytes at a time. `to_the_end`: until the end of the stream, which the kernel
    /// has seen.
    pub(super) fn hear(&mut self, at: usize, most: usize, to_the_end: bool) {
        for _ in 0..CHUNKS {
            let Some(socket) = &self.slots[at].socket else { return };
            let mut room = std::mem::take(&mut self.room);
            let received = rustix::net::recv(socket, &mut room[..most], RecvFlags::empty());
            let came = match received {
                Ok((_, 0)) => Ok(false),
                Ok((_, length)) => {
                    self.numbers.received += length as u64;
                    self.came(at, &room[..length]);
                    // Less than there is room for: that was all, and more would be told.
                    Ok(length == most && most > 1 || to_the_end)
                }
                Err(errno) => Err(errno),
            };
            self.room = room;
            match (came, received) {
                (Ok(true), _) => {}
                (Ok(false), Ok((_, 0))) => return self.stream_ended(at),
                (Ok(false), _) | (Err(Errno::AGAIN), _) => return,
                (Err(Errno::INTR), _) => {}
                (Err(errno), _) => return self.failed(at, errno),
            }
            let stage = self.slots[at].stage;
            if stage == Stage::Free || stage == Stage::Ready && !to_the_end {
                // What comes now belongs to what comes next.
                return;
            }
        }
        self.again.push_back(at);
    }

    fn came(&mut self, at: usize, bytes: &[u8]) {
        self.moved(at);
        match self.slots[at].stage {
            Stage::Talking => self.heard(at, bytes),
            Stage::Evidence => {
                self.slots[at].evidence.extend_from_slice(bytes);
                if self.slots[at].evidence.len() >= WINDOW {
                    self.diagnose(at);
                }
            }
            Stage::Idle | Stage::Thinking | Stage::Closing if self.minds_more(at) => {
                self.end(at, State::Long)
            }
            _ => {}
        }
    }

    /// Whether bytes after the answer are wrong.
    fn minds_more(&self, at: usize) -> bool {
        matches!(self.script(at).expect, Expect::Echo | Expect::Bytes(_) | Expect::Text(_))
    }

    fn heard(&mut self, at: usize, bytes: &[u8]) {
        let script = self.script(at);
        if self.is_cut_at(at, Cut::Replying) {
            return self.cut(at);
        }
        let slot = &mut self.slots[at];
        if !std::mem::replace(&mut slot.is_heard, true) && slot.planned >= self.measured_from {
            self.findings.records.at(Measure::FirstByte).add(now() - slot.begun);
        }
        let before = slot.exchange.offset + slot.exchange.got;
        let heard = slot.exchange.hear(script, self.pattern, bytes, &mut self.compare);
        match heard {
            ReplyCheck::Correct if self.slots[at].exchange.is_complete() => {
                let now = now();
                self.opened(at);
                self.answered(at, now);
            }
            ReplyCheck::Correct => {}
            ReplyCheck::TooLong => self.end(at, State::Long),
            ReplyCheck::Wrong(from) => self.suspect(at, before + from as u64, &bytes[from..]),
        }
    }

    /// Wrong bytes: those of the pattern tell what happened, with those that follow.
    fn suspect(&mut self, at: usize, offset: u64, bytes: &[u8]) {
        let script = self.script(at);
        let slot = &mut self.slots[at];
        slot.wrong_at = offset;
        slot.evidence.clear();
        slot.evidence.extend_from_slice(bytes);
        if matches!((&script.message, &script.expect), (Message::Pattern(_), Expect::Echo)) {
            self.set_stage(at, Stage::Evidence);
            let slot = &mut self.slots[at];
            slot.deadline = now() + EVIDENCE;
            let is_all = slot.exchange.left() == 0 && slot.exchange.got >= slot.exchange.size();
            if is_all || slot.evidence.len() >= WINDOW {
                self.diagnose(at);
            }
            return;
        }
        let found = WrongBytes {
            connection: slot.number,
            offset,
            fault: Corruption::Differs,
            expected: String::new(),
            got: hexadecimal(&slot.evidence),
        };
        self.findings.keep(found);
        self.end(at, State::Mismatch);
    }

    /// Says what happened to the wrong bytes.
    pub(super) fn diagnose(&mut self, at: usize) {
        let slot = &self.slots[at];
        let window = &slot.evidence[..slot.evidence.len().min(WINDOW)];
        let connections = (self.begun + 1) * self.work.workers as u64;
        let mut expected = vec![0; window.len().min(16)];
        self.pattern.fill(slot.number, slot.wrong_at, &mut expected);
        let found = WrongBytes {
            connection: slot.number,
            offset: slot.wrong_at,
            fault: Corruption::diagnose(&self.pattern, slot.number, slot.wrong_at, window, connections),
            expected: hexadecimal(&expected),
            got: hexadecimal(window),
        };
        self.findings.keep(found);
        self.end(at, State::Mismatch);
    }

    fn stream_ended(&mut self, at: usize) {
        let script = self.script(at);
        match self.slots[at].stage {
            Stage::Talking => match self.slots[at].exchange.end(script) {
                StreamEnd::Complete => {
                    let now = now();
                    self.opened(at);
                    self.done(at, now);
                    self.end(at, State::Ok);
                }
                StreamEnd::Unanswered => self.end(at, State::Closed),
                StreamEnd::Truncated => self.end(at, State::Short),
            },
            Stage::Evidence => self.diagnose(at),
            Stage::Closing => self.end(at, State::Ok),
            Stage::Staying if script.counts_server_close => {
                let now = now();
                self.took(at, now);
                self.end(at, State::Ok);
            }
            Stage::Free | Stage::Connecting => {}
            Stage::Idle | Stage::Thinking | Stage::Ready | Stage::Staying => self.end(at, State::Closed),
        }
    }
}

/// The first bytes, for people.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
