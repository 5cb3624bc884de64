"""What is wrong with a drawing that nobody looks at: words over words, over lines or over the edge
of a box, arrows that end in the air, boxes that are partly in another."""

MARGIN = 4
PADDING = 6
# How far from the middle of a rail an arrow may end: half of its width, and a gap.
NEAR = 5


class Flaw(Exception):
    """A drawing is not as it should be."""


def overlap(one, other, gap=0):
    return (
        one.left < other.right + gap
        and other.left < one.right + gap
        and one.top < other.bottom + gap
        and other.top < one.bottom + gap
    )


def within(inner, outer, gap=0):
    return (
        inner.left >= outer.left + gap
        and inner.right <= outer.right - gap
        and inner.top >= outer.top + gap
        and inner.bottom <= outer.bottom - gap
    )


def crosses(area, line):
    """Whether a horizontal or vertical line goes through an area."""
    (x1, y1), (x2, y2) = line
    return (
        max(x1, x2) > area.left
        and min(x1, x2) < area.right
        and max(y1, y2) > area.top
        and min(y1, y2) < area.bottom
    )


def on_edge(point, box):
    x, y = point
    beside = box.top <= y <= box.bottom and x in (box.left, box.right)
    above = box.left <= x <= box.right and y in (box.top, box.bottom)
    return beside or above


def on_rail(point, rail):
    (x, top), (_, bottom) = rail
    return abs(point[0] - x) <= NEAR and top <= point[1] <= bottom


def flaws_of_words(canvas):
    for at, words in enumerate(canvas.words):
        if not within(words.area, canvas.area, MARGIN):
            yield f'outside of the drawing: {words.text}'
        if words.inside and not within(words.area, words.inside, PADDING):
            yield f'too wide or too high for its box: {words.text}'
        for other in canvas.words[at + 1 :]:
            if overlap(words.area, other.area):
                yield f'over other words: {words.text}, {other.text}'
        for line in canvas.lines:
            if crosses(words.area, line):
                yield f'over the line {line}: {words.text}'
        for box in canvas.boxes:
            if overlap(words.area, box) and not within(words.area, box, 2):
                yield f'over the edge of a box: {words.text}'


def flaws_of_shapes(canvas):
    for point in canvas.ends:
        edges = any(on_edge(point, box) for box in canvas.boxes)
        if not edges and not any(on_rail(point, rail) for rail in canvas.rails):
            yield f'an arrow ends in the air: {point}'
    for line in canvas.lines:
        for x, y in line:
            if not (0 <= x <= canvas.area.w and 0 <= y <= canvas.area.h):
                yield f'outside of the drawing: {line}'
    for at, box in enumerate(canvas.boxes):
        if not within(box, canvas.area, MARGIN):
            yield f'outside of the drawing: {box}'
        for other in canvas.boxes[at + 1 :]:
            if overlap(box, other) and not within(other, box) and not within(box, other):
                yield f'partly in another box: {box}, {other}'


def check(canvas):
    flaws = [*flaws_of_words(canvas), *flaws_of_shapes(canvas)]
    flaws += [f'a label that is not used: {key}' for key in set(canvas.labels) - canvas.used]
    if flaws:
        raise Flaw('\n'.join(flaws))
