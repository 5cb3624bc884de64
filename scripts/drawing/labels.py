"""All words of the drawings, in all languages. Code is between backticks. What has code and
names of TCP segments only is the same in all languages, and written once."""

LANGUAGES = ('en', 'zh')

LABELS = {
    'process-tree': {
        'title': ('The processes of a server', '服务器的进程树'),
        'desc': (
            'The parent process has the listening socket. It accepts a client, forks a child'
            ' process for it, and waits for children that have ended. Three children serve one'
            ' client each. When a child ends, the parent gets the signal SIGCHLD, and reaps it'
            ' with waitpid.',
            '父进程持有监听套接字：它接受连接，为每个连接创建一个子进程，并回收已结束的子进程。'
            '图中三个子进程各服务一个客户端。子进程结束时，父进程收到信号 SIGCHLD，用 waitpid 回收它。',
        ),
        'new': ('new client', '新客户端'),
        'connect': '`connect()`',
        'parent': ('parent process', '父进程'),
        'listen': '`listen()`',
        'listen-does': ('listening socket', '监听套接字'),
        'accept': '`accept()`',
        'accept-does': ('takes a client', '接受连接'),
        'fork': '`fork()`',
        'fork-does': ('starts a child', '创建子进程'),
        'waitpid': '`waitpid()`',
        'waitpid-does': ('reaps a child', '回收子进程'),
        'forked': '`fork()`',
        'signal': '`SIGCHLD`',
        'signal-means': ('`SIGCHLD`: a child\nhas ended', '`SIGCHLD`：\n子进程已结束'),
        'one-each': ('one process for\neach connection', '每个连接\n一个子进程'),
        'child-a': ('child process 1', '子进程 1'),
        'child-b': ('child process 2', '子进程 2'),
        'child-c': ('child process 3', '子进程 3'),
        'calls': '`read() write()`',
        'serves-a': ('serves only client A', '只服务客户端 A'),
        'serves-b': ('serves only client B', '只服务客户端 B'),
        'serves-c': ('serves only client C', '只服务客户端 C'),
        'tcp': ('TCP connection', 'TCP 连接'),
        'client-a': ('client A', '客户端 A'),
        'client-b': ('client B', '客户端 B'),
        'client-c': ('client C', '客户端 C'),
    },
    'descriptors': {
        'title': ('Descriptors before and after fork', 'fork 前后的文件描述符'),
        'desc': (
            'Three steps. After accept, the parent has descriptor 3, the listening socket, and'
            ' descriptor 4, the connection; the kernel counts one reference to each. Right after'
            ' fork, parent and child have both; the counts are two. Then the parent closes 4 and'
            ' the child closes 3; the counts are one again. The connection ends only when its'
            ' last descriptor is closed.',
            '共三步。accept 之后，父进程有描述符 3（监听套接字）和 4（连接），内核中的引用计数各为 1。'
            'fork 之后，父子进程都有这两个描述符，引用计数各为 2。'
            '随后父进程关闭 4，子进程关闭 3，引用计数又各为 1。'
            '只有最后一个描述符关闭后，连接才会结束。',
        ),
        'step-1': ('1. After `accept()`', '1. `accept()` 之后'),
        'step-2': (
            '2. Right after `fork()`: the child has a copy of each descriptor',
            '2. `fork()` 之后：子进程得到每个描述符的副本',
        ),
        'step-3': (
            '3. Each process has closed what it does not need',
            '3. 两个进程各自关闭不需要的描述符之后',
        ),
        'parent': ('parent process', '父进程'),
        'kernel': ('sockets in the kernel', '内核中的套接字'),
        'child': ('child process', '子进程'),
        'none': ('no child yet', '还没有子进程'),
        '3': '`3`',
        '4': '`4`',
        'listener-fd': ('listener', '监听套接字'),
        'connection-fd': ('connection', '连接'),
        'listener': ('listening socket', '监听套接字'),
        'connection': ('connection', '连接'),
        'count-1': ('count 1', '引用计数 1'),
        'count-2': ('count 2', '引用计数 2'),
        'close-3': '`close(3)`',
        'close-4': '`close(4)`',
        'message': (
            '`close()` ends the connection only when it closes the last descriptor (count 0).',
            '只有关闭最后一个描述符（引用计数变为 0）的那次 `close()` 才会结束连接。',
        ),
    },
    'connection': {
        'title': ('The life of a connection', '一个连接的生命周期'),
        'desc': (
            'A sequence in time, of client, kernel of the server, parent and child. The client'
            ' connects with SYN, SYN-ACK and ACK. The connection waits in the accept queue until'
            ' the parent accepts it and forks a child. The parent closes its descriptor of the'
            ' connection, the child that of the listening socket. The client sends a request and'
            ' a FIN, which closes its half. The child reads until the end, writes the reply and'
            ' closes the connection, and the kernel sends a FIN. The child exits, and is a'
            ' zombie until the parent, told by SIGCHLD, reaps it with waitpid.',
            '按时间顺序，参与者为客户端、服务器内核、父进程和子进程。'
            '客户端通过 SYN、SYN-ACK、ACK 建立连接。连接在全连接队列中等待，直到父进程用 accept 取出它，'
            '并创建子进程。父进程关闭连接的描述符，子进程关闭监听套接字的描述符。'
            '客户端发送请求后发送 FIN，进入半关闭状态。子进程读到末尾，写出应答并关闭连接，内核发送 FIN。'
            '子进程退出后成为僵尸进程，父进程收到 SIGCHLD，用 waitpid 回收它。',
        ),
        'client': ('client', '客户端'),
        'kernel': ('server kernel', '服务器内核'),
        'parent': ('parent', '父进程'),
        'child': ('child', '子进程'),
        'phase-1': ('handshake', '三次握手'),
        'phase-2': ('a process\nfor it', '创建\n子进程'),
        'phase-3': ('request\nand reply', '请求\n与应答'),
        'phase-4': ('end of the\nconnection', '关闭\n连接'),
        'phase-5': ('end of the\nchild', '回收\n子进程'),
        'syn': '`connect()`: SYN',
        'syn-ack': 'SYN-ACK',
        'ack': 'ACK',
        'queue': ('waits in the\naccept queue', '在全连接队列\n中等待'),
        'backlog': '`backlog`',
        'accept': '`accept()`',
        'descriptor': ('descriptor 4', '描述符 4'),
        'fork': '`fork()`',
        'parent-closes': '`close(4)`',
        'child-closes': '`close(3)`',
        'request': ('request', '请求'),
        'read': '`read()`',
        'half-close': '`shutdown(SHUT_WR)`: FIN',
        'half': ('half-close: can still read', '半关闭：仍可读取'),
        'read-end': '`read()` = 0',
        'write': '`write()`',
        'reply': ('reply', '应答'),
        'close': '`close(4)`',
        'last': ('last descriptor', '最后一个描述符'),
        'fin': 'FIN',
        'last-ack': 'ACK',
        'exit': '`exit()`',
        'signal': '`SIGCHLD`',
        'zombie': ('zombie', '僵尸进程'),
        'waitpid': '`waitpid()`',
        'syn-recv': '`SYN_RECV`',
        'established': '`ESTABLISHED`',
        'close-wait': '`CLOSE_WAIT`',
        'in-last-ack': '`LAST_ACK`',
        'closed': '`CLOSED`',
        'note': (
            'Beside the line of the kernel: the states of the socket of the connection.'
            '\nACKs of data and of the first FIN are left out.',
            '内核线旁标注的是服务器一侧连接套接字的状态。\n省略了对数据和第一个 FIN 的 ACK。',
        ),
    },
    'states': {
        'title': ('The states of a TCP socket', 'TCP 套接字的状态'),
        'desc': (
            'A socket of a server goes from CLOSED with listen to LISTEN; a SYN makes a new'
            ' socket in SYN_RECV, and the ACK brings it to ESTABLISHED. A socket of a client'
            ' goes with connect from CLOSED to SYN_SENT, and with the SYN-ACK to ESTABLISHED.'
            ' The side that closes first sends a FIN and goes through FIN_WAIT1, FIN_WAIT2 and'
            ' TIME_WAIT to CLOSED. The other side receives the FIN and goes through CLOSE_WAIT'
            ' and LAST_ACK to CLOSED. RST leads to CLOSED at once.',
            '服务器的套接字从 CLOSED 经 listen 进入 LISTEN；收到 SYN 时产生处于 SYN_RECV 的新套接字，'
            '收到 ACK 后进入 ESTABLISHED。客户端的套接字从 CLOSED 经 connect 进入 SYN_SENT，'
            '收到 SYN-ACK 后进入 ESTABLISHED。主动关闭方发送 FIN，经 FIN_WAIT1、FIN_WAIT2、TIME_WAIT '
            '到 CLOSED。被动关闭方收到 FIN，经 CLOSE_WAIT、LAST_ACK 到 CLOSED。RST 使连接立即进入 CLOSED。',
        ),
        'closed': '`CLOSED`',
        'listen': '`LISTEN`',
        'syn-sent': '`SYN_SENT`',
        'syn-recv': '`SYN_RECV`',
        'established': '`ESTABLISHED`',
        'fin-wait1': '`FIN_WAIT1`',
        'fin-wait2': '`FIN_WAIT2`',
        'time-wait': '`TIME_WAIT`',
        'close-wait': '`CLOSE_WAIT`',
        'last-ack': '`LAST_ACK`',
        'server': ('server', '服务器'),
        'client': ('client', '客户端'),
        'call-listen': '`listen()`',
        'call-connect': '`connect()`',
        'sends-syn': ('sends SYN', '发送 SYN'),
        'gets-syn': ('receives SYN,\nsends SYN-ACK', '收到 SYN，\n发送 SYN-ACK'),
        'new-socket': ('(new socket)', '（新套接字）'),
        'gets-ack': ('receives ACK', '收到 ACK'),
        'gets-syn-ack': ('receives SYN-ACK', '收到 SYN-ACK'),
        'sends-ack': ('sends ACK', '发送 ACK'),
        'data': ('data both ways', '双向传输数据'),
        'may-read': ('peer can still send', '对方仍可发送'),
        'may-write': ('can still send', '仍可发送'),
        'call-close': (
            'last `close()` or\n`shutdown(SHUT_WR)`',
            '最后一个 `close()` 或\n`shutdown(SHUT_WR)`',
        ),
        'sends-fin': ('sends FIN', '发送 FIN'),
        'gets-fin': ('receives FIN', '收到 FIN'),
        'fin-acked': ('receives\nACK of FIN', '收到对 FIN\n的 ACK'),
        'last-acked': ('receives ACK of FIN', '收到对 FIN 的 ACK'),
        'fin-then-ack': ('receives FIN,\nsends ACK', '收到 FIN，\n发送 ACK'),
        'close-then-fin': (
            'last `close()` or\n`shutdown(SHUT_WR)`,\nsends FIN',
            '最后一个 `close()` 或\n`shutdown(SHUT_WR)`，\n发送 FIN',
        ),
        'time-over': ('after 2 MSL', '2 MSL 之后'),
        'on-linux': ('(Linux: 60 s)', '（Linux：60 秒）'),
        'active': ('active side\ncloses first', '主动关闭方\n先关闭'),
        'passive': ('passive side\ncloses second', '被动关闭方\n后关闭'),
        'rst': (
            'RST received;\nor sent: `close()`\nwith unread data',
            '收到 RST；\n或有未读数据时\n`close()`，发送 RST',
        ),
        'note': (
            'Left out: both sides close at once (`CLOSING`); FIN and the ACK of FIN in one segment'
            '\n(from `FIN_WAIT1` to `TIME_WAIT`); RST in other states.',
            '省略：双方同时关闭（`CLOSING`）；FIN 与对 FIN 的 ACK 在同一报文段中'
            '\n（从 `FIN_WAIT1` 到 `TIME_WAIT`）；其他状态下的 RST。',
        ),
    },
}
