"""The life of a connection, from the handshake to the end of its process."""

SIZE = (880, 1020)

CLIENT, KERNEL, PARENT, CHILD = 190, 420, 630, 800
# Between an arrow and the middle of the line it ends on.
GAP = 3
PHASES = (70, 296, 476, 676, 820)
END = 960


def draw(canvas):
    header(canvas, 'client', CLIENT, 12, 'client')
    header(canvas, 'kernel', KERNEL, 12, 'kernel')
    header(canvas, 'parent', PARENT, 12, 'server')
    for at, top in enumerate(PHASES, 1):
        if at > 1:
            canvas.grid((10, top), (870, top))
        bottom = PHASES[at] if at < len(PHASES) else END
        y = (top + bottom) / 2
        canvas.label(f'phase-{at}', 14, y, kind='small', ink='muted', anchor='start')
    canvas.rail(PARENT, 52, END, 'server')
    handshake(canvas)
    start(canvas)
    serve(canvas)
    finish(canvas)
    reap(canvas)
    canvas.label('note', 440, 992, kind='small', ink='muted')


def header(canvas, name, x, y, css, width=150):
    box = canvas.box(x - width / 2, y, width, 40, css)
    canvas.label(name, box.cx, box.cy, kind='title', ink=css, inside=box)
    return box


def message(canvas, key, start, end, y, css, dashed=False):
    """An arrow between neighbours, and its label above it."""
    way = GAP if end > start else -GAP
    canvas.arrow((start + way, y), (end - way, y), css=css, dashed=dashed)
    canvas.label(key, (start + end) / 2, y - 14, ink='text' if css != 'alert' else css)


def past_parent(canvas, key, start, end, y, css):
    """An arrow between kernel and child. Its label is next to the child, whose call it is."""
    way = GAP if end > start else -GAP
    canvas.hopping((start + way, y), (end - way, y), PARENT, css)
    canvas.label(key, (PARENT + CHILD) / 2, y - 14)


def in_state(canvas, key, y):
    """The state that the socket of the connection is in, on the server, from here on."""
    canvas.label(key, KERNEL + 12, y, kind='small', ink='kernel', anchor='start')


def handshake(canvas):
    canvas.rail(CLIENT, 52, 806, 'client')
    canvas.rail(KERNEL, 104, 200, 'kernel')
    canvas.path(canvas.way([(KERNEL, 52), (KERNEL, END)]), 'line kernel')
    message(canvas, 'syn', CLIENT, KERNEL, 104, 'client')
    message(canvas, 'syn-ack', KERNEL, CLIENT, 142, 'kernel')
    message(canvas, 'ack', CLIENT, KERNEL, 180, 'client')
    in_state(canvas, 'syn-recv', 142)
    in_state(canvas, 'established', 180)
    queue = canvas.box(KERNEL - 75, 200, 150, 80, 'kernel')
    canvas.label('queue', queue.cx, queue.cy - 10, kind='small', inside=queue)
    canvas.label('backlog', queue.cx, queue.cy + 24, kind='small', ink='kernel', inside=queue)
    canvas.rail(KERNEL, queue.bottom, 806, 'kernel')


def start(canvas):
    message(canvas, 'accept', PARENT, KERNEL, 332, 'server')
    message(canvas, 'descriptor', KERNEL, PARENT, 372, 'kernel')
    child = header(canvas, 'child', CHILD, 382, 'child', 110)
    canvas.rail(CHILD, child.bottom, 860, 'child')
    canvas.arrow((PARENT + GAP, child.cy), (child.left, child.cy), css='server')
    canvas.label('fork', (PARENT + child.left) / 2, child.cy - 14)
    canvas.dot(PARENT, 448, 'server')
    canvas.label('parent-closes', PARENT - 14, 448, anchor='end')
    canvas.dot(CHILD, 448, 'child')
    canvas.label('child-closes', CHILD - 14, 448, anchor='end')


def serve(canvas):
    message(canvas, 'request', CLIENT, KERNEL, 512, 'client')
    past_parent(canvas, 'read', KERNEL, CHILD, 528, 'kernel')
    message(canvas, 'half-close', CLIENT, KERNEL, 562, 'client')
    canvas.label('half', (CLIENT + KERNEL) / 2, 576, kind='small', ink='muted')
    in_state(canvas, 'close-wait', 562)
    past_parent(canvas, 'write', CHILD, KERNEL, 590, 'child')
    message(canvas, 'reply', KERNEL, CLIENT, 612, 'kernel')
    past_parent(canvas, 'read-end', KERNEL, CHILD, 644, 'kernel')


def finish(canvas):
    past_parent(canvas, 'close', CHILD, KERNEL, 718, 'child')
    canvas.label('last', (KERNEL + PARENT) / 2, 704, kind='small', ink='muted')
    message(canvas, 'fin', KERNEL, CLIENT, 742, 'kernel')
    message(canvas, 'last-ack', CLIENT, KERNEL, 784, 'client')
    in_state(canvas, 'in-last-ack', 742)
    in_state(canvas, 'closed', 784)
    for x, css in ((CLIENT, 'client'), (KERNEL, 'kernel')):
        stop(canvas, x, 806, css)


def stop(canvas, x, y, css):
    """The end of a line of life."""
    canvas.path(f'M{x - 9} {y} H{x + 9}', f'line life {css}')


def reap(canvas):
    canvas.dot(CHILD, 860, 'child')
    canvas.label('exit', CHILD - 14, 846, anchor='end')
    canvas.rail(CHILD, 866, 928, 'muted dashed')
    canvas.label('zombie', CHILD + 10, 896, kind='small', ink='alert', anchor='start')
    message(canvas, 'signal', CHILD, PARENT, 886, 'alert', dashed=True)
    message(canvas, 'waitpid', PARENT, CHILD, 924, 'server')
    stop(canvas, CHILD, 930, 'child')
