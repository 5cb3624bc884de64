"""Curves as SVG, without a library."""

from math import floor, log10

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 380, 80, 50, 40, 170
COLORS = ('#2563eb', '#d97706', '#059669', '#db2777', '#7c3aed')


def draw(path, title, x_name, y_name, curves, log=True):
    """`curves`: name, points, and whether they are measured, which is drawn as dots."""
    points = [point for _, many, _ in curves for point in many if not log or min(point) > 0]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_axis, y_axis = axis(min(xs), max(xs), log), axis(0 if not log else min(ys), max(ys), log)
    place = lambda value, of, low, high: low + (high - low) * of(value)
    x_of = lambda x: place(x, x_axis[0], LEFT, WIDTH - RIGHT)
    y_of = lambda y: place(y, y_axis[0], HEIGHT - BOTTOM, TOP)
    text = lambda x, y, words, anchor='middle': (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{words}</text>')
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             'font-family="sans-serif" font-size="12" fill="#222" role="img">',
             f'<title>{title}</title>', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
             f'<text x="{LEFT}" y="22" font-size="15">{title}</text>',
             text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name), text(LEFT, TOP - 4, y_name, 'start')]
    for value in x_axis[1]:
        x = x_of(value)
        parts += [f'<path d="M{x:.0f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>',
                  text(x, HEIGHT - BOTTOM + 16, short(value))]
    for value in y_axis[1]:
        y = y_of(value)
        parts += [f'<path d="M{LEFT} {y:.0f}H{WIDTH - RIGHT}" stroke="#ddd"/>',
                  text(LEFT - 6, y + 4, short(value), 'end')]
    for number, (name, many, measured) in enumerate(curves):
        color = COLORS[number % len(COLORS)]
        at = [(x_of(x), y_of(y)) for x, y in many if not log or min(x, y) > 0]
        if measured:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>' for x, y in at]
        else:
            line = ' '.join(f'{x:.1f},{y:.1f}' for x, y in at)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        y = TOP + 14 + 18 * number
        parts += [f'<circle cx="{WIDTH - RIGHT + 14}" cy="{y - 4}" r="4" fill="{color}"/>',
                  text(WIDTH - RIGHT + 24, y, name, 'start')]
    path.write_text('\n'.join([*parts, '</svg>', '']))


def axis(low, high, log):
    """Where a value is between 0 and 1, and the values that are named."""
    if log:
        first, last = floor(log10(low)), floor(log10(high)) + 1
        return (lambda value: (log10(value) - first) / (last - first)), [10.0 ** at for at in range(first, last + 1)]
    step = 10 ** floor(log10(max(high, 1e-9)))
    step = next(step * part for part in (0.2, 0.5, 1, 2) if high / (step * part) <= 6)
    values = [step * at for at in range(int(high / step) + 2)]
    return (lambda value: value / values[-1]), values


def short(value):
    if value == 0:
        return '0'
    for unit, of in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if value >= of:
            return f'{value / of:g} {unit}'
    return f'{value:g}'
