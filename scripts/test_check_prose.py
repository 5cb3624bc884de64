"""Tests of check-prose: python3 -m unittest discover scripts"""

import importlib.machinery, importlib.util, pathlib, unittest

LOADER = importlib.machinery.SourceFileLoader(
    'check_prose', str(pathlib.Path(__file__).with_name('check-prose'))
)
check_prose = importlib.util.module_from_spec(importlib.util.spec_from_loader('check_prose', LOADER))
LOADER.exec_module(check_prose)

WIDE = 'word ' * 20 + 'word'
FITS = WIDE[:90]
TOKEN = 'x' * 120


class CheckProse(unittest.TestCase):
    def check(self, name, cases):
        for text, expected in cases:
            with self.subTest(name=name, text=text):
                self.assertEqual(check_prose.wide_lines(name, text), expected)

    def test_rust_comments(self):
        self.check(
            'a.rs',
            [
                (f'// {WIDE}', [1]),
                (f'    /// {FITS}\n    /// {WIDE}', [2]),
                (f'//! {WIDE}', [1]),
                (f'/* {FITS}\n * {WIDE}\n */\nlet x = "{WIDE}";', [2]),
                (f'let x = "{WIDE}";', []),
                (f'let x = 1; // {WIDE}', []),
                (f'/// ```\n/// {WIDE}\n/// ```\n/// {WIDE}', [4]),
                (f'// {TOKEN}', []),
                (f'// see {TOKEN}', [1]),
            ],
        )

    def test_python_comments_and_docstrings(self):
        self.check(
            'a.py',
            [
                (f'# {FITS}\n# {WIDE}', [2]),
                (f'"""{WIDE}"""', [1]),
                (f'def f():\n    """A.\n\n    {WIDE}\n    """', [4]),
                (f'x = """\n# {WIDE}\n"""', []),
                (f'x = 1  # {WIDE}', []),
            ],
        )

    def test_shell_comments(self):
        self.check('a.sh', [(f'#!/bin/sh {WIDE}\n# {WIDE}\necho {WIDE}', [2])])

    def test_markdown(self):
        self.check(
            'a.md',
            [
                (WIDE, [1]),
                (f'* {FITS}\n  {WIDE}', [2]),
                (f'# {WIDE}\n\n| {WIDE} |\n\n<!-- {WIDE} -->\n\n[a]: {WIDE}', []),
                (f'```console\n{WIDE}\n```\n{WIDE}', [4]),
                (f'````\n```\n{WIDE}\n````', []),
                (f'- {TOKEN}', []),
            ],
        )

    def test_a_script_is_known_by_its_interpreter(self):
        self.check(
            'a',
            [
                (f'#!/usr/bin/env python3\n# {WIDE}', [2]),
                (f'#!/bin/sh\n# {WIDE}', [2]),
                (f'# {WIDE}', []),
            ],
        )
        self.check('a.txt', [(WIDE, [])])


if __name__ == '__main__':
    unittest.main()
