"""The promises: bench/promises.toml holds them, docs/promises.md is generated from it.

A promise has an id, the group and text of its row, the number that is promised, what shows it
(sections of bench/run and bench/load, tests), and what was measured last: value, date, machine.
`at_least` and `at_most` bound the value, so that a run can tell whether the promise is missed. A
note stands below the table. A point is a row of the last table: what a test suite of another
super-server checks, and the tests here that do."""

import json, pathlib, re, sys, textwrap, tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / 'bench' / 'promises.toml'
DOCUMENT = ROOT / 'docs' / 'promises.md'
WIDTH = 100

KEYS = [
    'id',
    'group',
    'promise',
    'number',
    'at_least',
    'at_most',
    'shown_by',
    'value',
    'missed',
    'date',
    'machine',
    'note',
]
POINT_KEYS = ['point', 'tests']
GROUPS = {'server': 'The server', 'shared': 'Shared state of the library', 'load': 'The load client'}

HEADER = """# What tine promises. docs/promises.md is generated from this file: by `bench/run --write` and
# `bench/load --write`, which record values here, and after an edit by `python3 bench/promises.py`.
# bench/promises.py describes the keys.
"""

INTRODUCTION = """<!-- Generated from bench/promises.toml; do not edit. -->

# Promises

Each promise with its number, the test or the section of `bench/run` or `bench/load` that shows it,
and what was measured last. Ratios are medians of interleaved rounds, with their range; a value in
bold misses its promise. `measuring.md` describes how to measure, and why some numbers are missed.
CI runs the tests; "holds" means that they pass.
"""


def load():
    return tomllib.loads(DATA.read_text())


def toml(key, value):
    """One line of TOML, or several for a note. A JSON string is a TOML string, too."""
    if key == 'note':
        text = textwrap.fill(
            value.replace('\\', '\\\\'), WIDTH, break_long_words=False, break_on_hyphens=False
        )
        return f'note = """\n{text}"""\n'
    if isinstance(value, list):
        return f'{key} = [{", ".join(json.dumps(one, ensure_ascii=False) for one in value)}]\n'
    return f'{key} = {json.dumps(value, ensure_ascii=False)}\n'


def save(data):
    tables = [
        (kind, keys, one) for kind, keys in (('promise', KEYS), ('point', POINT_KEYS)) for one in data[kind]
    ]
    text = HEADER
    for kind, keys, one in tables:
        text += f'\n[[{kind}]]\n' + ''.join(toml(key, one[key]) for key in keys if key in one)
    DATA.write_text(text)


def shown(reference):
    """A reference for a table: `bench/run rate`, `leaks.rs`, or `program.rs`: `name_of_a_test`."""
    path, _, test = reference.partition('::')
    name = f'`{path.removeprefix("tests/e2e/tests/")}`'
    return f'{name}: `{test}`' if test else name


def table(head, lines):
    escaped = ([cell.replace('|', '\\|') for cell in line] for line in lines)
    return (
        '\n'.join(
            [
                '| ' + ' | '.join(head) + ' |',
                '|' + ' --- |' * len(head),
                *('| ' + ' | '.join(line) + ' |' for line in escaped),
            ]
        )
        + '\n'
    )


def render(data):
    """The text of docs/promises.md."""
    notes, parts = [], [INTRODUCTION]
    for group, title in GROUPS.items():
        lines = []
        for one in data['promise']:
            if one['group'] != group:
                continue
            text = one['promise']
            if 'note' in one:
                notes.append(' '.join(one['note'].split()))
                text += f' ({len(notes)})'
            value = f'**{one["value"]}**' if one.get('missed') else one['value']
            lines.append(
                [
                    text,
                    one['number'],
                    ', '.join(map(shown, one['shown_by'])),
                    value,
                    one['date'],
                    one['machine'],
                ]
            )
        parts.append(
            f'## {title}\n\n'
            + table(['promise', 'number', 'shown by', 'last value', 'date', 'machine'], lines)
        )
    points = [[one['point'], ', '.join(map(shown, one['tests']))] for one in data['point']]
    parts.append(
        '## What test suites of other super-servers check\n\nThe tests are those of `tests/e2e/tests/`.\n\n'
        + table(['point', 'test'], points)
    )
    numbered = (
        textwrap.fill(
            f'{number}. {note}',
            WIDTH,
            subsequent_indent=' ' * len(f'{number}. '),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for number, note in enumerate(notes, 1)
    )
    parts.append('## Notes\n\n' + '\n'.join(numbered) + '\n')
    return '\n'.join(parts)


def record(values, date, machine):
    """Writes values of a run, {id: (number or None, text)}, into the data, and the document
    anew."""
    data = load()
    by_id = {one['id']: one for one in data['promise']}
    for id, (number, text) in values.items():
        one = by_id.get(id) or sys.exit(f'{DATA.name} has no promise {id}')
        one.update(value=text, date=date, machine=machine)
        if number is not None:
            one['missed'] = not one.get('at_least', number) <= number <= one.get('at_most', number)
    save(data)
    DOCUMENT.write_text(render(data))


def faults(data):
    """The references that lead nowhere: sections, files and tests that do not exist."""
    programs = {
        'bench/run': [ROOT / 'bench/run', *ROOT.glob('bench/sections/*.py')],
        'bench/load': [ROOT / 'bench/load'],
    }
    references = [reference for one in data['promise'] for reference in one['shown_by']]
    for reference in references + [reference for one in data['point'] for reference in one['tests']]:
        program, _, section = reference.partition(' ')
        path, _, test = reference.partition('::')
        if program in programs and section:
            function = section.replace('-', '_')
            if not any(f'def section_{function}(' in file.read_text() for file in programs[program]):
                yield f'{reference}: there is no such section'
        elif not (ROOT / path).is_file():
            yield f'{reference}: there is no such file'
        elif test and not re.search(rf'\bfn {test}\b', (ROOT / path).read_text()):
            yield f'{reference}: there is no such test'


def check():
    """Exit code 1, and why, if the document is not what the data gives."""
    data = load()
    found = list(faults(data))
    if DOCUMENT.read_text() != render(data):
        found.append(f'{DOCUMENT.name} is not what {DATA.name} gives; run python3 bench/promises.py')
    for fault in found:
        print(f'promises: {fault}', file=sys.stderr)
    return 1 if found else 0


if __name__ == '__main__':
    DOCUMENT.write_text(render(load()))
