"""Descriptors after accept, right after fork, and after each process has closed one of them."""

SIZE = (880, 742)

PANEL_HEIGHT, PANEL_STEP = 208, 222
PARENT_X, KERNEL_X, CHILD_X = 34, 310, 636
PROCESS_WIDTH, KERNEL_WIDTH = 210, 260
ROW_HEIGHT = 36
SOCKETS = {'3': 'listener', '4': 'connection'}


def draw(canvas):
    panel(canvas, 1, '34', '', '1')
    panel(canvas, 2, '34', '34', '2')
    panel(canvas, 3, '3', '4', '1')
    message = canvas.box(10, 682, 860, 48, 'kernel')
    canvas.label('message', message.cx, message.cy, kind='title', ink='text', inside=message)


def panel(canvas, step, parent, child, count):
    """A step: the descriptors that parent and child have open, and the count of references."""
    top = 10 + (step - 1) * PANEL_STEP
    canvas.box(10, top, 860, PANEL_HEIGHT, 'panel', 12)
    canvas.label(f'step-{step}', 34, top + 26, kind='title', anchor='start')
    y = top + 50
    sockets = kernel(canvas, y, count)
    process(canvas, 'parent', PARENT_X, y, parent, sockets)
    if child:
        process(canvas, 'child', CHILD_X, y, child, sockets)
    else:
        absent(canvas, y)


def column(canvas, name, x, y, width, css):
    box = canvas.box(x, y, width, 142, css, 10)
    ink = css.split()[0]
    canvas.label(name, box.cx, y + 22, kind='title', ink=ink, inside=box)
    return box


def row(canvas, box, at, css):
    return canvas.box(box.x + 14, box.y + 42 + at * 46, box.w - 28, ROW_HEIGHT, css, 6)


def kernel(canvas, y, count):
    box = column(canvas, 'kernel', KERNEL_X, y, KERNEL_WIDTH, 'kernel')
    rows = {}
    for at, (descriptor, name) in enumerate(SOCKETS.items()):
        rows[descriptor] = chip = row(canvas, box, at, 'paper')
        canvas.label(name, chip.left + 10, chip.cy, anchor='start', inside=chip)
        canvas.label(
            f'count-{count}', chip.right - 10, chip.cy, ink='kernel', anchor='end', inside=chip
        )
    return rows


def process(canvas, name, x, y, opened, sockets):
    css = 'server' if name == 'parent' else 'child'
    box = column(canvas, name, x, y, PROCESS_WIDTH, css)
    for at, descriptor in enumerate(SOCKETS):
        if descriptor not in opened:
            chip = row(canvas, box, at, 'gone dashed')
            canvas.label(f'close-{descriptor}', chip.cx, chip.cy, ink='muted', inside=chip)
            continue
        chip = row(canvas, box, at, 'paper')
        canvas.label(descriptor, chip.left + 16, chip.cy, ink=css, inside=chip)
        what = f'{SOCKETS[descriptor]}-fd'
        canvas.label(what, chip.left + 34, chip.cy, anchor='start', inside=chip)
        socket = sockets[descriptor]
        if name == 'parent':
            canvas.arrow((chip.right, chip.cy), (socket.left, chip.cy), css=css)
        else:
            canvas.arrow((chip.left, chip.cy), (socket.right, chip.cy), css=css)


def absent(canvas, y):
    box = canvas.box(CHILD_X, y, PROCESS_WIDTH, 142, 'gone dashed', 10)
    canvas.label('none', box.cx, box.cy, ink='muted', inside=box)
