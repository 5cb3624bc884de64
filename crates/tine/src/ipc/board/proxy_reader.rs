//! Notes about a proxy reader that takes no more proxies. Each proxy reader of a server has a
//! number, so that a note about one does not concern the next.

use std::sync::atomic::Ordering::SeqCst;

use super::{Board, PROXY_READER, PROXY_READER_BEHIND, PROXY_READER_GIVEN_UP};

impl Board {
    /// Gives the next number, to a proxy reader that is started or is to be replaced. Runs in the
    /// supervisor.
    pub(crate) fn number_proxy_reader(&self) {
        self.word(PROXY_READER).fetch_add(1, SeqCst);
    }

    /// The number of the last proxy reader.
    pub(crate) fn proxy_reader(&self) -> u64 {
        self.word(PROXY_READER).load(SeqCst)
    }

    /// Notes that the proxy reader of this number has not taken a proxy in time.
    pub(crate) fn note_proxy_reader_behind(&self, number: u64) {
        self.word(PROXY_READER_BEHIND).store(number, SeqCst);
    }

    /// Takes that note, once. True if it is about the last proxy reader. Runs in the supervisor.
    pub(crate) fn take_proxy_reader_behind(&self) -> bool {
        let noted = || self.word(PROXY_READER_BEHIND).load(SeqCst);
        noted() != 0 && self.word(PROXY_READER_BEHIND).swap(0, SeqCst) == self.proxy_reader()
    }

    /// Notes that no process waits for the proxy reader of this number any more.
    pub(crate) fn give_up_proxy_reader(&self, number: u64) {
        self.word(PROXY_READER_GIVEN_UP).store(number, SeqCst);
    }

    /// Whether that is so.
    pub(crate) fn is_proxy_reader_given_up(&self, number: u64) -> bool {
        self.word(PROXY_READER_GIVEN_UP).load(SeqCst) == number
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;

    #[test]
    fn notes_concern_one_proxy_reader() {
        let board = board(1);
        assert!(!board.take_proxy_reader_behind());
        board.number_proxy_reader();
        let first = board.proxy_reader();
        assert!(!board.is_proxy_reader_given_up(first) && !board.take_proxy_reader_behind());
        board.note_proxy_reader_behind(first);
        assert_eq!([(); 2].map(|()| board.take_proxy_reader_behind()), [true, false]);
        board.give_up_proxy_reader(first);
        assert!(board.is_proxy_reader_given_up(first));
        board.number_proxy_reader();
        board.note_proxy_reader_behind(first);
        assert!(!board.take_proxy_reader_behind(), "a note about the one before");
        assert!(!board.is_proxy_reader_given_up(board.proxy_reader()));
    }
}
