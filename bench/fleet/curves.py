"""Curves as SVG, for light and dark pages, without a library."""

import html, pathlib, sys
from math import ceil, floor, log10

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'scripts'))

from drawing import palette

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 400, 80, 56, 64, 190
INKS = ('client', 'child', 'server', 'kernel', 'alert')


def picture(title, x_name, y_name, curves, log=True):
    """A picture of curves: name, points, and whether they are measured, which is drawn as dots.
    Those after one with the same name have its colour, and are named once."""
    points = [point for _, many, _ in curves for point in many if not log or min(point) > 0]
    x_of = Scale([x for x, _ in points], LEFT, WIDTH - RIGHT, log)
    y_of = Scale([y for _, y in points], HEIGHT - BOTTOM, TOP, log)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f'<title>{html.escape(title)}</title>',
        f'<desc>{html.escape("; ".join(dict.fromkeys(name for name, _, _ in curves)))}</desc>',
        f'<style>\n{palette.style()}\n.page{{fill:{palette.PAGES["light"]}}}\n'
        f'@media (prefers-color-scheme: dark) {{.page{{fill:{palette.PAGES["dark"]}}}}}\n{dots()}</style>',
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
        text('title', 'text', LEFT, 24, title, 'start'),
        text('small', 'muted', LEFT, TOP - 14, y_name, 'start'),
        text('small', 'muted', (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name),
    ]
    for value, x in x_of.marks:
        parts += [f'<path class="grid" d="M{x:.0f} {TOP}V{HEIGHT - BOTTOM}"/>']
        parts += [text('small', 'muted', x, HEIGHT - BOTTOM + 18, short(value))]
    for value, y in y_of.marks:
        parts += [f'<path class="grid" d="M{LEFT} {y:.0f}H{WIDTH - RIGHT}"/>']
        parts += [text('small', 'muted', LEFT - 8, y + 4, short(value), 'end')]
    names = list(dict.fromkeys(name for name, _, _ in curves))
    for name, many, is_measured in curves:
        ink = INKS[names.index(name) % len(INKS)]
        at = [(x_of(x), y_of(y)) for x, y in many if not log or min(x, y) > 0]
        if is_measured:
            parts += [f'<circle class="dot {ink}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>' for x, y in at]
        else:
            line = ' '.join(f'{x:.1f} {y:.1f}' for x, y in at)
            parts.append(f'<path class="line {ink}" d="M{line}"/>')
    for number, name in enumerate(names):
        ink, y = INKS[number % len(INKS)], TOP + 8 + 20 * number
        parts.append(f'<circle class="dot {ink}" cx="{WIDTH - RIGHT + 16}" cy="{y}" r="4.5"/>')
        parts.append(text('small', ink, WIDTH - RIGHT + 28, y + 4, name, 'start'))
    if any(is_measured for _, _, is_measured in curves):
        parts.append(text('small', 'muted', WIDTH - RIGHT + 28, TOP + 12 + 20 * len(names), 'dots: measured', 'start'))
    return '\n'.join([*parts, '</svg>', ''])


def dots():
    rules = [[f'.dot.{ink}{{fill:{palette.INK[ink][at]}}}' for ink in INKS] for at in range(len(palette.PAGES))]
    return '\n'.join(rules[0]) + '\n@media (prefers-color-scheme: dark) {' + ''.join(rules[1]) + '}\n'


def text(kind, ink, x, y, words, anchor='middle'):
    place = f'x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"'
    return f'<text class="{kind} {ink}" {place}>{html.escape(words)}</text>'


class Scale:
    """The place of a value between two places, and the values that are named."""

    def __init__(self, values, start, end, log):
        self.start, self.end, self.log = start, end, log
        if log:
            self.low, self.high = floor(log10(min(values))), ceil(log10(max(values)))
            named = [10.0**at for at in range(self.low, self.high + 1)]
        else:
            most = max(max(values), 1e-9)
            step = 10 ** floor(log10(most))
            step = next(step * part for part in (0.1, 0.2, 0.5, 1, 2) if most / (step * part) <= 6)
            named = [step * at for at in range(ceil(most / step - 1e-9) + 1)]
            self.low, self.high = 0, named[-1]
        self.marks = [(value, self(value)) for value in named]

    def __call__(self, value):
        part = ((log10(value) if self.log else value) - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)


def short(value):
    """A number for people."""
    for unit, of in ((' G', 1e9), (' M', 1e6), (' k', 1e3)):
        if value >= of:
            return f'{value / of:.3g}{unit}'
    return f'{value:.3g}'
