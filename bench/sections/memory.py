"""Held connections: their memory, their number, and how far they slow new ones."""

import statistics, subprocess, time

import racing
from racing import (
    Contender,
    as_ratio,
    available,
    crr,
    hold,
    limits,
    processes,
    race,
    ratios_of,
    table,
    tine,
    tool,
)


def section_memory():
    contenders = available(
        [
            limits('fork {port}'),
            Contender('tiny', tool('tiny') + ' {port}'),
            Contender('tine', tine('-c 20000')),
        ]
    )

    def measure(one):
        hold(one.port, 500)  # The kernel's own caches grow with the first connections, and stay.
        time.sleep(1)
        return hold(one.port, 3000)

    results = race(contenders, measure, racing.ARGS.rounds)
    done = table(
        'Memory of a held connection, both ends, 3,000 held', results, 'limits fork', 'kib', 'KiB', ('held',)
    )
    number, text = as_ratio(ratios_of(results, 'tine', 'limits fork', 'kib'))
    kib = [statistics.median(one['kib'] for one in results[name]) for name in ('tine', 'limits fork')]
    done['values'] = {'memory': (number, f'{text}: {kib[0]:.0f} KiB against {kib[1]:.0f}')}
    return done


def grown(one, number, connections):
    """A server's rate with `number` connections held, against its rate with none."""
    bare = crr(one.port, connections, racing.ARGS.seconds)['rate']
    holder = subprocess.Popen(
        [tool('hold'), str(one.port), str(number), '3600'], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(processes(one.process.pid)) < number and time.monotonic() < deadline:
        time.sleep(0.2)
    held = crr(one.port, connections, racing.ARGS.seconds)
    holder.kill()
    holder.wait()
    return {'ratio': held['rate'] / bare, 'bare': bare, 'held': held['rate'], 'bad': held['bad']}


def section_growth():
    """The rate with 8,000 connections held against the rate with none, in alternating pairs."""
    contenders = [limits('fork {port}'), Contender('tine', tine('-c 20000'))]
    results = race(contenders, lambda one: grown(one, 8000, 16), max(racing.ARGS.rounds, 5))
    done = table(
        'Rate with 8,000 held, as a part of the rate with none',
        results,
        'limits fork',
        'ratio',
        'part',
        ('bare', 'held', 'bad'),
    )
    number, text = as_ratio([one['ratio'] for one in results['tine']])
    done['values'] = {'growth': (number, f'{text}; {done["ratios"]["tine"]:.2f} of what `limits fork` shows')}
    return done


def section_held():
    results = race([Contender('tine', tine('-c 20000'))], lambda one: hold(one.port, 12000), 1)
    done = table('12,000 connections at once', results, 'tine', 'held', 'held', ('kib',))
    held = results['tine'][0]['held']
    done['values'] = {'held': (held, f'{held:,} of 12,000')}
    return done
