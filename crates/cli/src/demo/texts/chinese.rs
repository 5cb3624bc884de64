//! Chinese, in simplified characters. Terms are those of the field: 监督进程 is the supervisor,
//! 派生进程 a forker, 连接进程 a connection process.

use std::time::Duration;

use super::{Texts, shown};
use crate::demo::client::End;
use crate::demo::screen::{Fact, Step};

/// Chinese.
pub(super) struct Chinese;

impl Texts for Chinese {
    fn title(&self, step: Step) -> &'static str {
        match step {
            Step::Start => "启动：监督进程和派生进程",
            Step::Accept => "接受连接与 fork",
            Step::Exchange => "收发数据",
            Step::Clients => "更多客户端：每个连接一个进程",
            Step::Descriptors => "连接进程打开了哪些文件描述符",
            Step::Kill => "杀死一个连接进程",
            Step::Reap => "回收被杀死的进程",
            Step::Drain => "平滑停止（drain）",
            Step::End => "结束",
        }
    }

    fn explanation(&self, step: Step) -> &'static str {
        match step {
            Step::Start => {
                "tine serve 作为本演示的子进程运行。它的第一个进程是监督进程（supervisor）：绑定地址，\
                 启动派生进程（forker），回收子进程，写日志；它从不读取客户端发来的数据。\
                 派生进程等待客户端，此时还没有任何连接进程。"
            }
            Step::Accept => {
                "客户端发起连接。内核完成三次握手，把连接放入监听套接字的积压队列（backlog）。\
                 派生进程取出它（accept），然后 fork。新进程只为这一个客户端服务。\
                 它的父进程是监督进程，而不是派生进程（CLONE_PARENT）：派生进程退出不影响它，\
                 它的退出状态由监督进程获得。"
            }
            Step::Exchange => {
                "连接进程从自己的套接字读取数据，再原样写回（echo，RFC 862）。\
                 它可以阻塞：没有别的客户端在等它。两次收发之间，它在内核中睡眠，不占用处理器时间。"
            }
            Step::Clients => {
                "每个客户端都有自己的进程。这里没有线程池，也没有事件循环：进程由内核调度，\
                 各有独立的地址空间。崩溃、内存泄漏或死循环只影响其中一个进程。"
            }
            Step::Descriptors => {
                "进程只能使用它打开的东西。fork 会复制派生进程的全部文件描述符，\
                 所以新进程首先关闭不属于自己的那些，例如监听套接字。\
                 如果另一个进程还留着某个客户端套接字的副本，那么即使连接进程关闭了它，连接也不会断开。"
            }
            Step::Kill => {
                "这一步先暂停监督进程，好让下一步看得清楚。然后杀死一个连接进程（kill -9）。\
                 内核关闭它的文件描述符，于是它的客户端看到连接结束。\
                 其他进程有各自的内存和文件描述符，照常服务；此时它们甚至不需要监督进程。"
            }
            Step::Reap => {
                "进程结束后仍以僵尸进程的形式留在进程表里，保存着退出状态，直到父进程调用 waitpid。\
                 如果父进程从不调用，进程表终将被占满。现在监督进程恢复运行（CONT）：\
                 它回收子进程，把槽位留给下一个客户端，并在日志里记下子进程是怎样结束的。"
            }
            Step::Drain => {
                "TERM 信号请求服务器平滑停止。它先处理完积压队列，再关闭监听套接字，此后内核拒绝新的连接。\
                 已有的连接继续得到服务，直到它们结束，或者停止时限（drain timeout）已到。\
                 派生进程无事可做，随即退出。"
            }
            Step::End => {
                "客户端半关闭连接：发送 FIN，但仍可读取。连接进程读到数据流的末尾，关闭套接字并退出，\
                 由监督进程回收。最后一个连接进程结束后，监督进程也退出。"
            }
        }
    }

    fn fact(&self, fact: &Fact) -> String {
        match fact {
            Fact::Logged { line } => format!("日志：{line}"),
            Fact::Forked { pid, supervisor } => {
                format!("进程 {pid} 是新建的，它的父进程是监督进程 {supervisor}。")
            }
            Fact::Sent { client, message, bytes } => {
                format!("客户端 {client} 发送了 {bytes} 字节：{message:?}。")
            }
            Fact::Returned { pid, bytes } => format!("进程 {pid} 发回了 {bytes} 字节，内容相同。"),
            Fact::Sleeps { pid, state } => {
                format!("进程 {pid} 又进入睡眠（状态 {state}），等待更多数据。")
            }
            Fact::AllReturned { clients } => {
                format!("{clients} 个客户端各发送了一条自己的消息，并原样收回。")
            }
            Fact::OwnSocket { inode, client } => {
                format!("socket:[{inode}] 是与客户端 {client} 的连接，也是它唯一的套接字。")
            }
            Fact::NoListener { inode } => {
                format!("监听套接字 socket:[{inode}] 在派生进程中打开着，这里没有。")
            }
            Fact::NoOthers { inodes } => {
                format!("其他连接的套接字这里也没有：{}。", self.sockets(inodes))
            }
            Fact::Stopped { pid, state } => format!("监督进程 {pid} 已暂停（SIGSTOP，状态 {state}）。"),
            Fact::Killed { pid, client, end } => {
                let end = match end {
                    End::Fin => "读到数据流的末尾（FIN）",
                    End::Reset => "收到连接重置（RST）",
                };
                format!("进程 {pid} 收到 SIGKILL，它的客户端 {client} {end}。")
            }
            Fact::StillServed { clients } => {
                format!("仍在服务，各收发了一条自己的消息：{}。", self.clients(clients))
            }
            Fact::Zombie { pid, state } => {
                format!("进程 {pid} 成为僵尸进程（状态 {state}）：还没有进程等待它。")
            }
            Fact::Reaped { supervisor, pid } => {
                format!("监督进程 {supervisor} 恢复运行。进程 {pid} 不再是僵尸进程，已经消失。")
            }
            Fact::Terminated { supervisor } => format!("监督进程 {supervisor} 收到 SIGTERM。"),
            Fact::Refused { port } => {
                format!("新客户端连接端口 {port} 时被拒绝（ECONNREFUSED）。")
            }
            Fact::Closed { client } => format!("客户端 {client} 已半关闭，并读到数据流的末尾。"),
            Fact::Exited { supervisor, code } => {
                format!("监督进程 {supervisor} 已退出，退出码为 {code}。")
            }
            Fact::NothingLeft { processes, port } => {
                format!("最后 {processes} 个进程都已消失，端口 {port} 上的监听套接字已关闭。")
            }
        }
    }

    fn outside(&self) -> &'static str {
        "在另一个终端里从外部观察："
    }

    fn waits_for_key(&self) -> &'static str {
        "回车：下一步   q：退出"
    }

    fn waits_for(&self, time: Duration) -> String {
        format!("{} 后进入下一步   回车：立即   q：退出", shown(time))
    }

    fn over(&self) -> &'static str {
        "演示到此结束。启动自己的服务器：tine serve"
    }

    fn list(&self, items: &[String]) -> String {
        items.join("、")
    }
}
