"""Tests of drawings: python3 -m unittest discover scripts"""

import collections, pathlib, re, unittest
import xml.etree.ElementTree as ElementTree

import drawing
from drawing import checks, labels, palette, words
from drawing.canvas import Canvas

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURES = ROOT / 'docs/pictures/tutorial'
SVG = '{http://www.w3.org/2000/svg}'
# What WCAG 2 asks of text, and of what else must be seen.
OF_TEXT, OF_LINES = 4.5, 3


def flaws(canvas):
    return [*checks.flaws_of_words(canvas), *checks.flaws_of_shapes(canvas)]


class Files(unittest.TestCase):
    def test_those_of_the_tree_are_what_the_script_makes(self):
        made = drawing.files()
        self.assertEqual(sorted(path.name for path in PICTURES.iterdir()), sorted(made))
        for name, text in made.items():
            # Not assertEqual, whose difference of two drawings nobody wants to read.
            same = (PICTURES / name).read_text(encoding='utf-8') == text
            self.assertTrue(same, f'{name} is not what scripts/drawings makes')

    def test_they_are_svg_that_scales_and_is_described(self):
        for name, text in drawing.files().items():
            with self.subTest(name=name):
                root = ElementTree.fromstring(text)
                self.assertEqual(root.tag, f'{SVG}svg')
                size = [root.get('width'), root.get('height')]
                self.assertEqual(root.get('viewBox').split(), ['0', '0', *size])
                self.assertLessEqual(int(size[0]), 900)
                for tag in ('title', 'desc'):
                    self.assertTrue(root.find(f'{SVG}{tag}').text)

    def test_languages_have_the_same_shapes_and_as_many_labels(self):
        made = drawing.files()
        for name in drawing.DRAWINGS:
            counts = [
                collections.Counter(
                    element.tag
                    for element in ElementTree.fromstring(made[drawing.file_name(name, language)])
                )
                for language in labels.LANGUAGES
            ]
            self.assertEqual(counts[0], counts[1], name)
            self.assertGreater(counts[0][f'{SVG}text'], 10, name)


class Labels(unittest.TestCase):
    def test_each_is_in_all_languages_with_as_many_lines_and_the_same_code(self):
        for name, table in labels.LABELS.items():
            for key, label in table.items():
                with self.subTest(drawing=name, label=key):
                    if isinstance(label, str):
                        self.assertTrue(label)
                        # What is left without code is no word of a language: ACK, FIN, = 0.
                        self.assertNotRegex(re.sub('`.+?`', '', label), '[^ -~]|[a-z]')
                        continue
                    self.assertEqual(len(label), len(labels.LANGUAGES))
                    self.assertEqual(len({text.count('\n') for text in label}), 1)
                    code = [sorted(re.findall('`(.+?)`', text)) for text in label]
                    self.assertEqual(code[0], code[1])
                    self.assertTrue(all(label))

    def test_a_label_is_as_wide_as_its_letters(self):
        self.assertEqual(words.width('', 'body'), 0)
        self.assertAlmostEqual(words.width('ab', 'body'), 2 * 0.6 * 14)
        self.assertAlmostEqual(words.width('套接字', 'body'), 3 * 14)
        self.assertAlmostEqual(words.width('`ab` c', 'body'), (2 * 0.61 + 2 * 0.6) * 14)


class Colours(unittest.TestCase):
    def test_contrast_is_that_of_wcag(self):
        self.assertAlmostEqual(palette.contrast('#000000', '#ffffff'), 21)
        self.assertAlmostEqual(palette.contrast('#777777', '#ffffff'), 4.48, places=2)

    def test_text_is_readable_on_the_page_and_on_each_area(self):
        for at, (theme, page) in enumerate(palette.PAGES.items()):
            for name, ink in palette.INK.items():
                self.assertGreaterEqual(palette.contrast(ink[at], page), OF_TEXT, (theme, name))
                for area, fill in palette.FILL.items():
                    ratio = palette.contrast(ink[at], fill[at])
                    # Coloured words are only on the area of their own colour, or on one of none.
                    own = name in ('text', 'muted') or area in (name, 'gone', 'paper')
                    asked = OF_TEXT if own else OF_LINES
                    self.assertGreaterEqual(ratio, asked, (theme, name, area))

    def test_a_dark_page_changes_each_colour(self):
        light, dark = (palette.colours(theme) for theme in palette.PAGES)
        for one, other in zip(light, dark, strict=True):
            self.assertEqual(one.partition('{')[0], other.partition('{')[0])
            self.assertNotEqual(one, other)
        self.assertIn('@media (prefers-color-scheme: dark)', palette.style())


class Places(unittest.TestCase):
    def test_drawings_have_no_flaws(self):
        for name in drawing.DRAWINGS:
            for language in labels.LANGUAGES:
                with self.subTest(name=name, language=language):
                    self.assertEqual(flaws(drawing.drawn(name, language)), [])

    def test_flaws_are_found(self):
        for flaw, draw in {
            'outside of the drawing': lambda canvas: canvas.label('new', 10, 50),
            'too wide': lambda canvas: canvas.label(
                'new', 100, 100, inside=canvas.box(70, 80, 60, 40, 'client')
            ),
            'over the edge of a box': lambda canvas: (
                canvas.box(100, 80, 60, 40, 'client'), canvas.label('new', 100, 100)
            ),
            'over other words': lambda canvas: (
                canvas.label('new', 100, 100), canvas.label('parent', 120, 110)
            ),
            'over the line': lambda canvas: (
                canvas.rail(100, 50, 150, 'client'), canvas.label('new', 100, 100)
            ),
            'in the air': lambda canvas: canvas.arrow((50, 50), (90, 50)),
            'partly in another box': lambda canvas: (
                canvas.box(50, 50, 60, 40, 'client'), canvas.box(80, 70, 60, 40, 'client')
            ),
        }.items():
            with self.subTest(flaw=flaw):
                canvas = Canvas('process-tree', 'en', 400, 200)
                draw(canvas)
                self.assertIn(flaw, '\n'.join(flaws(canvas)))

    def test_a_label_that_is_not_used_is_a_flaw(self):
        with self.assertRaisesRegex(checks.Flaw, 'not used: waitpid'):
            Canvas('process-tree', 'en', 400, 200).svg()


if __name__ == '__main__':
    unittest.main()
