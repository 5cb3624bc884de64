"""The drawings of the tutorial. `scripts/drawings` writes them."""

from drawing import connection, descriptors, process_tree, states
from drawing.canvas import Canvas
from drawing.labels import LANGUAGES

DRAWINGS = {
    'process-tree': process_tree,
    'descriptors': descriptors,
    'connection': connection,
    'states': states,
}


def drawn(name, language):
    """The canvas of a drawing, with everything on it."""
    drawing = DRAWINGS[name]
    canvas = Canvas(name, language, *drawing.SIZE)
    drawing.draw(canvas)
    return canvas


def file_name(name, language):
    """English has no suffix."""
    return f'{name}.svg' if language == LANGUAGES[0] else f'{name}.{language}.svg'


def files(dark_only=False):
    """The names of all files, and what is in them."""
    return {
        file_name(name, language): drawn(name, language).svg(dark_only)
        for name in DRAWINGS
        for language in LANGUAGES
    }
