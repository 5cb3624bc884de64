//! Reading and writing, as `std::io` has them.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use tine_sys::clock::monotonic_in_place;

use super::close::discard_buffer;
use super::{Connection, NOTES};

impl Connection {
    /// Reads without removing the bytes from the socket's queue: the next read returns them again.
    ///
    /// # Errors
    /// As reading.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let asked = buffer.len();
        let peeked = retry_on_intr(|| {
            rustix::net::recv(self.socket(), &mut *buffer, RecvFlags::PEEK).map(|(_, bytes)| bytes)
        });
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
        let mut discard_buffer = discard_buffer();
        let most = most.min(discard_buffer.len());
        let received = retry_on_intr(|| {
            rustix::net::recv(self.socket(), &mut discard_buffer[..most], RecvFlags::TRUNC)
                .map(|(_, bytes)| bytes)
        });
        self.took(received, most)
    }

    #[inline]
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = retry_on_intr(|| {
            rustix::net::recv(self.socket(), &mut *buffer, RecvFlags::empty()).map(|(_, bytes)| bytes)
        });
        let received = self.took(received, buffer.len())?;
        if self.trace.is_some() {
            self.trace_received(&[&buffer[..received]]);
        }
        Ok(received)
    }

    #[cold]
    fn receive_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let asked = buffers.iter().map(|buffer| buffer.len()).sum();
        let received = retry_on_intr(|| rustix::io::readv(self.socket(), buffers));
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
        let sent = retry_on_intr(|| rustix::net::send(self.socket(), buffer, SendFlags::NOSIGNAL));
        self.gave(sent)
    }

    /// With sendmsg(2): writev(2) would raise SIGPIPE.
    #[cold]
    fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = retry_on_intr(|| {
            let mut control = SendAncillaryBuffer::default();
            rustix::net::sendmsg(self.socket(), buffers, &mut control, SendFlags::NOSIGNAL)
        });
        self.gave(sent)
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
        Ok(received)
    }

    /// Accounts for a send.
    #[inline]
    fn gave(&self, sent: Result<usize, Errno>) -> io::Result<usize> {
        match sent {
            Ok(bytes) => {
                self.stats.sent(self.slot, bytes);
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
