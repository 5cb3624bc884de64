"""The states of a TCP socket (RFC 9293). How it is opened is above, how it is closed below: on the
left by the side that closes first, on the right by the other."""

SIZE = (880, 840)

LEFT, MIDDLE, RIGHT = 196, 440, 684
BOX_WIDTH, BOX_HEIGHT = 164, 54
# The middle of each row of boxes.
START, LISTEN, OPENING, OPEN, FIRST, SECOND, THIRD, END = 40, 114, 224, 322, 436, 544, 652, 736


def draw(canvas):
    closed = state(canvas, 'closed', MIDDLE, START, 'gone')
    established = state(canvas, 'established', MIDDLE, OPEN, 'gone', 'data', 180)
    ended = state(canvas, 'closed', MIDDLE, END, 'gone')
    open_as_server(canvas, closed, established)
    open_as_client(canvas, closed, established)
    close_first(canvas, established, ended)
    close_second(canvas, established, ended)
    canvas.arrow((MIDDLE, established.bottom), (MIDDLE, ended.top), css='alert', dashed=True)
    canvas.label('rst', MIDDLE + 12, SECOND, kind='small', ink='alert', anchor='start')
    canvas.label('note', MIDDLE, 804, kind='small', ink='muted')


def state(canvas, name, x, y, css, remark=None, width=BOX_WIDTH):
    box = canvas.box(x - width / 2, y - BOX_HEIGHT / 2, width, BOX_HEIGHT, css)
    if remark:
        canvas.label(name, x, y - 10, inside=box)
        canvas.label(remark, x, y + 12, kind='small', ink='muted', inside=box)
    else:
        canvas.label(name, x, y, inside=box)
    return box


def beside(canvas, key, x, above, below):
    """A label of a vertical arrow: on the side where there is nothing else."""
    outside, anchor = (-12, 'end') if x == LEFT else (12, 'start')
    canvas.label(key, x + outside, (above.bottom + below.top) / 2, kind='small', anchor=anchor)


def down(canvas, key, above, below, css):
    canvas.arrow((above.cx, above.bottom), (below.cx, below.top), css=css)
    beside(canvas, key, above.cx, above, below)


def on(canvas, x, y, above=None, below=None):
    """The labels of a horizontal arrow: what happens above it, what is sent below it."""
    if above:
        lines = canvas.say(above).count('\n')
        canvas.label(above, x, y - 14 - lines * 9, kind='small')
    if below:
        canvas.label(below, x, y + 14, kind='small')


def open_as_server(canvas, closed, established):
    listen = state(canvas, 'listen', LEFT, LISTEN, 'server')
    received = state(canvas, 'syn-recv', LEFT, OPENING, 'server', 'new-socket')
    canvas.arrow((closed.left, START), (LEFT, START), (LEFT, listen.top), css='server')
    on(canvas, (LEFT + closed.left) / 2, START, 'call-listen')
    down(canvas, 'gets-syn', listen, received, 'server')
    enter = established.left + 62
    turn, end = (enter, OPENING), (enter, established.top)
    canvas.arrow((received.right, OPENING), turn, end, css='server')
    on(canvas, (received.right + enter) / 2, OPENING, 'gets-ack')
    canvas.label('server', listen.left - 14, LISTEN, kind='title', ink='server', anchor='end')


def open_as_client(canvas, closed, established):
    sent = state(canvas, 'syn-sent', RIGHT, OPENING, 'client')
    canvas.arrow((closed.right, START), (RIGHT, START), (RIGHT, sent.top), css='client')
    on(canvas, (RIGHT + closed.right) / 2, START, 'call-connect', 'sends-syn')
    enter = established.right - 62
    turn, end = (enter, OPENING), (enter, established.top)
    canvas.arrow((sent.left, OPENING), turn, end, css='client')
    on(canvas, (sent.left + enter) / 2, OPENING, 'gets-syn-ack', 'sends-ack')
    canvas.label('client', RIGHT + 14, LISTEN, kind='title', ink='client', anchor='start')


def close_first(canvas, established, ended):
    wait1 = state(canvas, 'fin-wait1', LEFT, FIRST, 'child')
    wait2 = state(canvas, 'fin-wait2', LEFT, SECOND, 'child', 'may-read')
    time_wait = state(canvas, 'time-wait', LEFT, THIRD, 'child')
    canvas.arrow((established.left, OPEN), (LEFT, OPEN), (LEFT, wait1.top), css='child')
    on(canvas, (LEFT + established.left) / 2, OPEN, 'call-close', 'sends-fin')
    down(canvas, 'fin-acked', wait1, wait2, 'child')
    down(canvas, 'fin-then-ack', wait2, time_wait, 'child')
    canvas.arrow((LEFT, time_wait.bottom), (LEFT, END), (ended.left, END), css='child')
    on(canvas, (LEFT + ended.left) / 2, END, 'time-over', 'on-linux')
    canvas.label('active', wait1.right + 14, FIRST, kind='title', ink='child', anchor='start')


def close_second(canvas, established, ended):
    wait = state(canvas, 'close-wait', RIGHT, FIRST, 'kernel', 'may-write')
    last = state(canvas, 'last-ack', RIGHT, THIRD, 'kernel')
    canvas.arrow((established.right, OPEN), (RIGHT, OPEN), (RIGHT, wait.top), css='kernel')
    on(canvas, (RIGHT + established.right) / 2, OPEN, 'gets-fin', 'sends-ack')
    down(canvas, 'close-then-fin', wait, last, 'kernel')
    canvas.arrow((RIGHT, last.bottom), (RIGHT, END), (ended.right, END), css='kernel')
    on(canvas, (RIGHT + ended.right) / 2, END, 'last-acked')
    canvas.label('passive', wait.left - 14, FIRST, kind='title', ink='kernel', anchor='end')
