"""The process tree: a parent, three children, their clients."""

SIZE = (880, 480)

PARENT_X, PARENT_WIDTH = 212, 652
CHILD_WIDTH, CHILD_STEP = 190, 231
CAPTION_X = 12


def draw(canvas):
    parent = draw_parent(canvas)
    for at, name in enumerate('abc'):
        draw_child(canvas, name, PARENT_X + at * CHILD_STEP, parent.bottom)
    canvas.label('signal-means', CAPTION_X, 200, kind='small', ink='alert', anchor='start')
    canvas.label('one-each', CAPTION_X, 296, kind='small', ink='muted', anchor='start')


def draw_parent(canvas):
    parent = canvas.box(PARENT_X, 16, PARENT_WIDTH, 142, 'server', 12)
    canvas.label('parent', parent.cx, 42, kind='title', ink='server', inside=parent)
    chips = [
        draw_chip(canvas, name, parent.x + 19 + at * 159, 66)
        for at, name in enumerate(('listen', 'accept', 'fork', 'waitpid'))
    ]
    new = canvas.box(12, 66, 104, 72, 'client dashed')
    canvas.label('new', new.cx, new.cy, ink='client', inside=new)
    canvas.label('connect', (new.right + parent.left) / 2, new.cy - 16, ink='client')
    canvas.arrow((new.right, new.cy), (chips[0].left, new.cy), css='client')
    return parent


def draw_chip(canvas, name, x, y):
    chip = canvas.box(x, y, 138, 72, 'paper')
    canvas.label(name, chip.cx, y + 24, inside=chip)
    canvas.label(f'{name}-does', chip.cx, y + 49, kind='small', ink='muted', inside=chip)
    return chip


def draw_child(canvas, name, x, top):
    child = canvas.box(x, 242, CHILD_WIDTH, 108, 'child', 12)
    canvas.label(f'child-{name}', child.cx, 266, kind='title', ink='child', inside=child)
    canvas.label('calls', child.cx, 297, inside=child)
    canvas.label(f'serves-{name}', child.cx, 325, kind='small', ink='text', inside=child)

    middle = (top + child.top) / 2
    canvas.arrow((x + 28, top), (x + 28, child.top), css='server')
    canvas.label('forked', x + 37, middle, ink='server', anchor='start')
    canvas.arrow((x + 118, child.top), (x + 118, top), css='alert', dashed=True)
    canvas.label('signal', x + 127, middle, ink='alert', anchor='start')

    client = canvas.box(x, 422, CHILD_WIDTH, 44, 'client')
    canvas.label(f'client-{name}', client.cx, client.cy, ink='client', inside=client)
    canvas.arrow((x + 28, child.bottom), (x + 28, client.top), css='client', both=True)
    middle = (child.bottom + client.top) / 2
    canvas.label('tcp', x + 40, middle, kind='small', ink='client', anchor='start')
