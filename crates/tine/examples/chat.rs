//! A chat with rooms. Each client has a process, and receives what others send to its room.
//!
//! `cargo run -p tine --example chat`, then `nc localhost 9999` in several terminals. The first
//! line is a name; `/join ROOM` changes the room; other lines go to everyone in the room.

use std::io::Write;

use tine::shared::{Broadcast, Select, Subscription, Text};
use tine::{Connection, HandlerError, Server};

/// Lines with the names of their senders, by the names of rooms.
type Room = Text<32>;
type Line = Text<512>;
type Chat = Broadcast<Line, Room>;

/// A client's longest line.
const MAX_LINE: usize = 400;

#[derive(Clone, Copy)]
enum From {
    Client,
    Others,
}

fn main() -> Result<(), tine::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::]:9999".into());
    let chat = Chat::new("chat", 1000)?;
    Server::bind(&address)?.print_ports(true).run(move |connection| Guest::serve(connection, chat))
}

struct Guest {
    connection: Connection,
    chat: Chat,
    name: Text<32>,
    room: Room,
    messages: Subscription<Line, Room>,
}

impl Guest {
    fn serve(mut connection: Connection, chat: Chat) -> Result<(), HandlerError> {
        connection.write_all(b"Your name?\n")?;
        let Some(name) = connection.next_line(32)? else { return Ok(()) };
        let room = Text::cut("lobby");
        let messages = chat.subscribe_to(room);
        let mut guest = Guest { connection, chat, name: Text::cut(name.trim()), room, messages };
        let outcome = guest.chat(room);
        guest.say("leaves");
        outcome
    }

    /// Stays until the end of the client's stream.
    fn chat(&mut self, first: Room) -> Result<(), HandlerError> {
        let mut select = self.enter(first)?;
        loop {
            // Lines that were read together are handled together: the socket is silent about them.
            if self.connection.buffered() > 0 {
                select.ready(From::Client);
            }
            match select.wait()? {
                From::Others => self.receive()?,
                From::Client => match self.connection.next_line(MAX_LINE)? {
                    None => return Ok(()),
                    Some(line) => match line.strip_prefix("/join ") {
                        Some(room) => {
                            self.say("leaves");
                            select = self.enter(Text::cut(room.trim()))?;
                        }
                        None => self.chat.send_to(self.room, Text::cut(&format!("{}: {line}", self.name))),
                    },
                },
            }
        }
    }

    /// Enters a room. What waits for its messages, and for those of the client.
    fn enter(&mut self, room: Room) -> Result<Select<From>, HandlerError> {
        (self.room, self.messages) = (room, self.chat.subscribe_to(room));
        self.say(&format!("enters {room}"));
        let select = Select::new()?.readable(&self.connection, From::Client)?;
        Ok(select.subscription(&self.messages, From::Others)?)
    }

    fn say(&self, what: &str) {
        self.chat.send_to(self.room, Text::cut(&format!("* {} {what}", self.name)));
    }

    /// Sends the client what there is. Who reads too slowly is told how much is missing.
    fn receive(&mut self) -> Result<(), HandlerError> {
        let mut lines = String::new();
        while lines.len() < 64 * 1024
            && let Some(message) = self.messages.try_next()
        {
            if message.lost > 0 {
                lines += &format!("* {} messages are lost\n", message.lost);
            }
            lines += &format!("{}\n", message.value);
        }
        Ok(self.connection.write_all(lines.as_bytes())?)
    }
}
