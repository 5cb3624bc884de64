"""A canvas: boxes, lines, arrows and labels, which it remembers for the checks."""

import dataclasses, html

from drawing import checks, palette, words
from drawing.labels import LABELS, LANGUAGES

HEAD = 9
CORNER = 10
HOP = 7


@dataclasses.dataclass(frozen=True)
class Box:
    x: float
    y: float
    w: float
    h: float

    left = property(lambda self: self.x)
    right = property(lambda self: self.x + self.w)
    top = property(lambda self: self.y)
    bottom = property(lambda self: self.y + self.h)
    cx = property(lambda self: self.x + self.w / 2)
    cy = property(lambda self: self.y + self.h / 2)


@dataclasses.dataclass(frozen=True)
class Words:
    """A line of text, and where it is."""

    text: str
    area: Box
    inside: Box | None


def number(value):
    return f'{value:.2f}'.rstrip('0').rstrip('.')


def towards(start, end, length):
    """The point that is `length` from `start` on the way to `end`."""
    far = abs(end[0] - start[0]) + abs(end[1] - start[1])
    return tuple(a + (b - a) * length / far for a, b in zip(start, end))


class Canvas:
    def __init__(self, name, language, width, height):
        self.labels = LABELS[name]
        self.language = language
        self.area = Box(0, 0, width, height)
        self.elements = []
        self.boxes, self.words, self.lines, self.ends, self.rails = [], [], [], [], []
        self.used = {'title', 'desc'}

    def say(self, key):
        """A label in the language of the canvas. One that is code alone is the same in all."""
        self.used.add(key)
        label = self.labels[key]
        return label if isinstance(label, str) else label[LANGUAGES.index(self.language)]

    def box(self, x, y, w, h, css, radius=8):
        box = Box(x, y, w, h)
        self.boxes.append(box)
        place = f'x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}"'
        self.elements.append(f'<rect class="box {css}" {place} rx="{radius}"/>')
        return box

    def label(self, key, x, y, *, kind='body', ink='text', anchor='middle', inside=None):
        """Writes a label. `y` is the middle of its lines."""
        size = palette.TEXT[kind][0]
        lines = self.say(key).split('\n')
        step = size * 1.4
        first = y - step * (len(lines) - 1) / 2
        for at, line in enumerate(lines):
            self.write(line, x, first + at * step, kind, ink, anchor, inside)

    def write(self, line, x, y, kind, ink, anchor, inside):
        size = palette.TEXT[kind][0]
        wide = words.width(line, kind)
        left = x - wide * {'start': 0, 'middle': 0.5, 'end': 1}[anchor]
        self.words.append(Words(line, Box(left, y - size / 2, wide, size), inside))
        text = ''.join(
            f'<tspan class="m">{html.escape(part)}</tspan>' if code else html.escape(part)
            for part, code in words.parts(line)
        )
        # The middle of most letters is a third of their size above the line they stand on.
        place = f'x="{number(x)}" y="{number(y + size * 0.35)}" text-anchor="{anchor}"'
        self.elements.append(f'<text class="{kind} {ink}" {place}>{text}</text>')

    def path(self, data, css):
        self.elements.append(f'<path class="{css}" d="{data}"/>')

    def grid(self, start, end):
        self.lines.append((start, end))
        self.path(self.way([start, end]), 'grid dashed')

    def rail(self, x, top, bottom, css):
        """A vertical line that stands for the life of something. Arrows may end on it."""
        self.lines.append(((x, top), (x, bottom)))
        self.rails.append(((x, top), (x, bottom)))
        self.path(self.way([(x, top), (x, bottom)]), f'line life {css}')

    def way(self, points):
        """The data of a path through points, with round corners."""
        data = ['M' + ' '.join(map(number, points[0]))]
        for before, at, after in zip(points, points[1:], points[2:]):
            near = ' '.join(map(number, towards(at, before, CORNER)))
            far = ' '.join(map(number, towards(at, after, CORNER)))
            data.append(f'L{near} Q{number(at[0])} {number(at[1])} {far}')
        data.append('L' + ' '.join(map(number, points[-1])))
        return ' '.join(data)

    def arrow(self, *points, css='muted', dashed=False, both=False):
        """An arrow along points, with horizontal and vertical parts. `both`: a head at each end."""
        self.ends += [points[0], points[-1]]
        self.lines += zip(points, points[1:])
        shaft = list(points)
        # The line ends inside the head, or its blunt end would show at the tip.
        shaft[-1] = towards(points[-1], points[-2], HEAD - 1)
        if both:
            shaft[0] = towards(points[0], points[1], HEAD - 1)
        self.path(self.way(shaft), f'line {css}' + (' dashed' if dashed else ''))
        self.head(points[-1], points[-2], css)
        if both:
            self.head(points[0], points[1], css)

    def hopping(self, start, end, x, css):
        """A horizontal arrow that hops over a rail at `x`, which it has nothing to do with."""
        self.ends += [start, end]
        self.lines.append((start, end))
        way = 1 if end[0] > start[0] else -1
        y = number(start[1])
        stop = number(end[0] - way * (HEAD - 1))
        near, far = number(x - way * HOP), number(x + way * HOP)
        sweep = 1 if way > 0 else 0
        arc = f'A{HOP} {HOP} 0 0 {sweep} {far} {y}'
        self.path(f'M{number(start[0])} {y} H{near} {arc} H{stop}', f'line {css}')
        self.head(end, start, css)

    def head(self, tip, tail, css):
        back = towards(tip, tail, HEAD)
        across = ((back[1] - tip[1]) / 2, (tip[0] - back[0]) / 2)
        corners = [tip] + [(back[0] + s * across[0], back[1] + s * across[1]) for s in (1, -1)]
        data = ' L'.join(' '.join(map(number, corner)) for corner in corners)
        self.path(f'M{data} Z', f'head {css}')

    def dot(self, x, y, css):
        place = f'cx="{number(x)}" cy="{number(y)}"'
        self.elements.append(f'<circle class="head {css}" {place} r="5"/>')

    def svg(self, dark_only=False):
        checks.check(self)
        size = f'{number(self.area.w)} {number(self.area.h)}'
        wide, high = size.split()
        about = [
            f'<{tag} id="{tag}">{html.escape(self.say(tag))}</{tag}>' for tag in ('title', 'desc')
        ]
        return '\n'.join([
            f'<svg xmlns="http://www.w3.org/2000/svg" xml:lang="{self.language}" width="{wide}"'
            f' height="{high}" viewBox="0 0 {size}" role="img" aria-labelledby="title desc">',
            *about,
            f'<style>\n{palette.style(dark_only)}\n</style>',
            *self.elements,
            '</svg>\n',
        ])
