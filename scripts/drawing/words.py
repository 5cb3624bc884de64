"""How wide words are. No font is asked: the widths are those of wide fonts, so that what fits here
fits wherever it is shown."""

from drawing.palette import TEXT

CJK = 0x2E80
LATIN, BOLD, MONO = 0.6, 0.66, 0.61


def parts(line):
    """The parts of a line: (text, whether it is code). Code is between backticks."""
    return [(part, bool(at % 2)) for at, part in enumerate(line.split('`')) if part]


def width(line, kind):
    """The width of a line in pixels."""
    size, weight = TEXT[kind]
    latin = BOLD if weight > 400 else LATIN
    return size * sum(
        1 if ord(char) >= CJK else MONO if code else latin
        for text, code in parts(line)
        for char in text
    )
