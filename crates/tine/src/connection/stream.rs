//! Reading and writing, as `std::io` has them.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags};
use tine_sys::clock::monotonic_in_place;

use super::close::discard_buffer;
use super::input::Input;
use super::timing::Direction;
use super::{Connection, NOTES};
use crate::system::clock::now;

impl Connection {
    /// Reads without removing the bytes from the socket's queue: the next read returns them again.
    ///
    /// # Errors
    /// As reading.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let buffered = self.buffered_with(|input| input.copy(buffer));
        if buffered > 0 {
            return Ok(buffered);
        }
        let asked = buffer.len();
        let peeked = self.wait_for(Direction::Read, |flags| {
            rustix::net::recv(self.socket(), &mut *buffer, RecvFlags::PEEK | flags).map(|(_, bytes)| bytes)
        })?;
        let peeked = peeked.map_err(|errno| self.failed(errno))?;
        if peeked == 0 && asked > 0 {
            self.ended.store(true, Relaxed);
        }
        Ok(peeked)
    }

    /// Reads and discards up to `most` bytes, without copying them where the protocol allows it
    /// (`MSG_TRUNC`, tcp(7)). Returns how many; 0 at the end of the stream.
    ///
    /// # Errors
    /// As reading.
    pub fn discard(&self, most: usize) -> io::Result<usize> {
        let buffered = self.buffered_with(|input| {
            let length = most.min(input.unread().len());
            input.consume(length);
            length
        });
        if buffered > 0 {
            return Ok(buffered);
        }
        let mut discard_buffer = discard_buffer();
        let most = most.min(discard_buffer.len());
        let received = self.wait_for(Direction::Read, |flags| {
            rustix::net::recv(self.socket(), &mut discard_buffer[..most], RecvFlags::TRUNC | flags)
                .map(|(_, bytes)| bytes)
        })?;
        self.took(received, most)
    }

    #[inline]
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = match self.extras.get() {
            None => retry_on_intr(|| {
                rustix::net::recv(self.socket(), &mut *buffer, RecvFlags::empty()).map(|(_, bytes)| bytes)
            }),
            Some(_) => match self.buffered_with(|input| input.take(buffer)) {
                0 => self.wait_for(Direction::Read, |flags| {
                    rustix::net::recv(self.socket(), &mut *buffer, flags).map(|(_, bytes)| bytes)
                })?,
                buffered => return Ok(buffered),
            },
        };
        let received = self.took(received, buffer.len())?;
        if self.trace.is_some() {
            self.trace_received(&[&buffer[..received]]);
        }
        Ok(received)
    }

    /// Reads from the socket, behind the bytes that are there already. The vector has room.
    pub(super) fn receive_more(&self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let before = bytes.len();
        let received = self.wait_for(Direction::Read, |flags| {
            rustix::net::recv(self.socket(), rustix::buffer::spare_capacity(bytes), flags)
                .map(|(bytes, _)| bytes)
        })?;
        let received = self.took(received, 1)?;
        if self.trace.is_some() {
            self.trace_received(&[&bytes[before..]]);
        }
        Ok(received)
    }

    /// With recvmsg(2): readv(2) has no flags.
    #[cold]
    fn receive_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let into_buffers = |input: &mut Input| buffers.iter_mut().map(|buffer| input.take(buffer)).sum();
        let buffered = self.buffered_with(into_buffers);
        if buffered > 0 {
            return Ok(buffered);
        }
        let asked = buffers.iter().map(|buffer| buffer.len()).sum();
        let received = self.wait_for(Direction::Read, |flags| {
            let mut control = RecvAncillaryBuffer::default();
            rustix::net::recvmsg(self.socket(), buffers, &mut control, flags).map(|message| message.bytes)
        })?;
        let received = self.took(received, asked)?;
        if self.trace.is_some() {
            let mut left = received;
            let parts: Vec<&[u8]> = buffers
                .iter()
                .map(|buffer| {
                    let part = &buffer[..left.min(buffer.len())];
                    left -= part.len();
                    part
                })
                .collect();
            self.trace_received(&parts);
        }
        Ok(received)
    }

    #[inline]
    fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        let sent = match self.extras.get() {
            None => retry_on_intr(|| rustix::net::send(self.socket(), buffer, SendFlags::NOSIGNAL)),
            Some(_) => self.wait_for(Direction::Write, |flags| {
                rustix::net::send(self.socket(), buffer, SendFlags::NOSIGNAL | send_flags(flags))
            })?,
        };
        self.gave(sent)
    }

    /// With sendmsg(2): writev(2) would raise SIGPIPE.
    #[cold]
    fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = self.wait_for(Direction::Write, |flags| {
            let mut control = SendAncillaryBuffer::default();
            let flags = SendFlags::NOSIGNAL | send_flags(flags);
            rustix::net::sendmsg(self.socket(), buffers, &mut control, flags)
        })?;
        self.gave(sent)
    }

    /// Makes a call that may wait, with the flags that it has to pass on, and keeps the deadlines
    /// if there are any.
    #[cold]
    fn wait_for(
        &self,
        direction: Direction,
        mut call: impl FnMut(RecvFlags) -> Result<usize, Errno>,
    ) -> io::Result<Result<usize, Errno>> {
        let Some(extras) = self.extras.get() else {
            return Ok(retry_on_intr(|| call(RecvFlags::empty())));
        };
        let flags = |at_once| if at_once { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        self.within(&extras.deadlines, direction, |at_once| call(flags(at_once)))
    }

    /// What a function finds in the buffer of input; 0 if there is none.
    fn buffered_with(&self, find: impl FnOnce(&mut Input) -> usize) -> usize {
        let input = self.extras.get().map(|extras| &extras.input);
        input.map_or(0, |input| find(&mut input.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Notes for the idle timeout that bytes have passed.
    #[inline]
    fn note_passed(&self, bytes: usize) {
        if let Some(extras) = self.extras.get().filter(|extras| bytes > 0 && extras.deadlines.are_any()) {
            extras.deadlines.note_bytes(now());
        }
    }

    /// Accounts for a receive of up to `asked` bytes. Without room for a byte, 0 is not the end.
    #[inline]
    fn took(&self, received: Result<usize, Errno>, asked: usize) -> io::Result<usize> {
        let received = received.map_err(|errno| self.failed(errno))?;
        if received > 0 {
            if !NOTES.received_any.load(Relaxed) {
                NOTES.received_any.store(true, Relaxed);
                if NOTES.notes_first_byte.load(Relaxed) {
                    self.stats.note_first_byte(self.slot, monotonic_in_place());
                }
            }
        } else if asked > 0 {
            self.ended.store(true, Relaxed);
        }
        self.stats.received(self.slot, received);
        self.note_passed(received);
        Ok(received)
    }

    /// Accounts for a send.
    #[inline]
    fn gave(&self, sent: Result<usize, Errno>) -> io::Result<usize> {
        match sent {
            Ok(bytes) => {
                self.stats.sent(self.slot, bytes);
                self.note_passed(bytes);
                Ok(bytes)
            }
            Err(errno) => Err(self.failed(errno)),
        }
    }

    fn failed(&self, errno: Errno) -> io::Error {
        // A timeout does not end the stream; any other error does.
        if errno != Errno::AGAIN {
            self.ended.store(true, Relaxed);
        }
        if let Errno::CONNRESET | Errno::PIPE = errno {
            self.stats.reset(self.slot);
        }
        io::Error::from(errno)
    }

    /// Logs received bytes, at the verbose level.
    #[cold]
    fn trace_received(&self, parts: &[&[u8]]) {
        let bytes = parts.concat();
        if let Some(trace) = self.trace.as_ref().filter(|_| !bytes.is_empty()) {
            trace.lock().unwrap_or_else(PoisonError::into_inner).receive(self.id, &bytes);
        }
    }
}

fn send_flags(flags: RecvFlags) -> SendFlags {
    if flags.contains(RecvFlags::DONTWAIT) { SendFlags::DONTWAIT } else { SendFlags::empty() }
}

impl Read for &Connection {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.receive_vectored(buffers)
    }
}

impl Write for &Connection {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.send(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_vectored(buffers)
    }

    #[inline]
    fn write_all(&mut self, mut buffer: &[u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let sent = self.send(buffer)?;
            buffer = &buffer[sent..];
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Connection {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for Connection {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    #[inline]
    fn write_all(&mut self, buffer: &[u8]) -> io::Result<()> {
        (&*self).write_all(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
