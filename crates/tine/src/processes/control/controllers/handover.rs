//! The controllers of a server that is replaced by its next generation.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::epoll;

use super::Controllers;
use crate::ipc::handover::link::Item;
use crate::net::control_socket::ControlSocket;
use crate::net::operator::{Operator, Privilege};

impl Controllers {
    /// Notes that a control process waits for the end of a hand-over. Returns its operator; `None`
    /// if that may not replace the server.
    pub(crate) fn await_handover(&mut self, pid: i32) -> Option<Operator> {
        let served = self.get_mut(pid).filter(|served| served.operator.rank.may(Privilege::Steer))?;
        served.awaits_handover = true;
        Some(served.operator)
    }

    /// Answers the control process that waits for the end of a hand-over, if one does.
    pub(crate) fn answer_handover(&mut self, asked_by: Option<i32>, code: u8, text: &str) {
        if let Some(served) = asked_by.and_then(|pid| self.get_mut(pid)) {
            served.awaits_handover = false;
            served.orders.answer_text(code, text);
        }
    }

    /// The control socket, as the next generation gets it, if this process has it.
    pub(crate) fn socket_item(&self) -> Option<(Item, BorrowedFd<'_>)> {
        self.socket.as_ref().map(|socket| {
            let (name, about) = (socket.handed_name(), serde_json::Value::Null);
            (Item { kind: "socket".into(), name, about }, socket.as_fd())
        })
    }

    /// The next generation has taken over: new controllers are its. Those that have connected
    /// already are served here.
    pub(crate) fn hand_over(&mut self) {
        if let (Some(mut socket), Some(queue)) = (self.socket.take(), &self.queue) {
            // The socket stays open in the other process, and so would be watched on.
            let _ = epoll::delete(queue, &socket);
            socket.hand_over();
        }
        self.retry_at = None;
    }

    /// This process has taken over.
    pub(crate) fn take_over(&mut self) {
        self.socket.iter_mut().for_each(ControlSocket::take_over);
    }
}
