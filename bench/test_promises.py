"""Tests of promises.py: python3 -m unittest discover bench"""

import contextlib, io, pathlib, tempfile, unittest
from unittest import mock

import promises

ONE = {
    'id': 'pool',
    'group': 'server',
    'promise': 'rate | pool',
    'number': 'at least 0.95',
    'at_least': 0.95,
    'shown_by': ['bench/run pool'],
    'value': '0.97',
    'date': '2026-01-02',
    'machine': 'a "machine"',
    'note': 'A note with \\ and "quotes" ' + 'that is longer than a line ' * 5,
}
DATA = {'promise': [ONE], 'point': [{'point': 'a point', 'tests': ['tests/e2e/tests/leaks.rs']}]}


class Promises(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for name in ('DATA', 'DOCUMENT'):
            patch = mock.patch.object(promises, name, pathlib.Path(folder.name) / name.lower())
            patch.start()
            self.addCleanup(patch.stop)
        promises.save(DATA)
        promises.DOCUMENT.write_text(promises.render(promises.load()))

    def failures(self):
        text = io.StringIO()
        with contextlib.redirect_stderr(text):
            code = promises.check()
        self.assertEqual(code, 1 if text.getvalue() else 0)
        return text.getvalue()

    def test_what_is_saved_can_be_loaded(self):
        loaded = promises.load()
        loaded['promise'][0]['note'] = ' '.join(loaded['promise'][0]['note'].split())
        self.assertEqual(loaded, {**DATA, 'promise': [{**ONE, 'note': ONE['note'].strip()}]})
        text = promises.DATA.read_text()
        promises.save(promises.load())
        self.assertEqual(promises.DATA.read_text(), text)

    def test_a_value_is_recorded_and_compared_with_its_bound(self):
        for number, missed in ((0.94, True), (0.95, False), (float('inf'), False)):
            promises.record({'pool': (number, str(number))}, '2026-02-03', 'another')
            one = promises.load()['promise'][0]
            self.assertEqual(
                (one['value'], one['missed'], one['date'], one['machine']),
                (str(number), missed, '2026-02-03', 'another'),
            )
            self.assertEqual(f'**{number}**' in promises.DOCUMENT.read_text(), missed)
            self.assertEqual(self.failures(), '')

    def test_a_value_of_an_unknown_promise_is_an_error(self):
        with self.assertRaisesRegex(SystemExit, 'no promise other'):
            promises.record({'other': (1, '1')}, '2026-02-03', 'another')

    def test_a_bar_does_not_end_a_cell(self):
        self.assertIn('| rate \\| pool (1) |', promises.DOCUMENT.read_text())

    def test_a_document_that_differs_is_found(self):
        self.assertEqual(self.failures(), '')
        promises.DOCUMENT.write_text(promises.DOCUMENT.read_text() + '\n')
        self.assertIn('is not what', self.failures())

    def test_references_that_lead_nowhere_are_found(self):
        for reference, fault in (
            ('bench/run nothing', 'no such section'),
            ('tests/e2e/tests/no.rs', 'no such file'),
            ('tests/e2e/tests/leaks.rs::no_test', 'no such test'),
        ):
            promises.save({**DATA, 'promise': [{**ONE, 'shown_by': [reference]}]})
            promises.DOCUMENT.write_text(promises.render(promises.load()))
            self.assertIn(f'{reference}: there is {fault}', self.failures())


if __name__ == '__main__':
    unittest.main()
