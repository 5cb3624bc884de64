"""Operators: what the control socket and the history cost, and how long a list takes."""

import json, statistics, subprocess, time

import racing
from racing import OUT, Contender, as_ratio, crr, note, race, ratios_of, rows, table, tine

# Connections of the long list.
HELD = 10_000


def socket():
    """The control socket of a server that is measured."""
    return OUT / 'control.sock'


def controlled(*options):
    """The command line of a server with a control socket."""
    return tine(f'--control {socket()}', '--state-directory none', *options)


def section_control():
    """The rate with a control socket and a history of 1,000 connections against that without."""
    contenders = [Contender('without', tine('--control none')), Contender('with', controlled())]
    results = race(contenders, lambda one: crr(one.port, 16, racing.ARGS.seconds), racing.ARGS.rounds)
    done = table(
        'The cost of the control socket and the history, 16 connections kept going',
        results,
        'without',
        'rate',
        'conns/s',
        ('p50', 'p99', 'bad'),
    )
    done['values'] = {'control.rate': as_ratio(ratios_of(results, 'with', 'without', 'rate'))}
    return done


def listed():
    """Milliseconds that `tine list --json` takes, and its rows."""
    start = time.monotonic()
    done = subprocess.run(
        [racing.ARGS.tine, 'list', '--json', '--control', socket()], capture_output=True, check=True
    )
    return (time.monotonic() - start) * 1000, json.loads(done.stdout)


def section_list():
    """`tine list --json` of 10,000 connections, which send nothing meanwhile."""
    times = []
    with Contender('tine', controlled('--max-connections 12000')) as server:
        holder = subprocess.Popen(
            [racing.tool('hold'), str(server.port), str(HELD), '3600'], stdout=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 120
            while len(listed()[1]) < HELD and time.monotonic() < deadline:
                time.sleep(0.5)
            for _ in range(max(racing.ARGS.rounds, 9)):
                milliseconds, found = listed()
                times.append(milliseconds)
        finally:
            holder.kill()
            holder.wait()
    middle = statistics.median(times)
    done = rows(
        f'`tine list --json` of {HELD:,} connections',
        ['rows', 'median ms', 'range'],
        [[f'{len(found):,}', f'{middle:.0f}', f'{min(times):.0f} … {max(times):.0f}']],
    )
    by_kernel = sum(row['bytes_source'] == 'kernel' for row in found)
    note(done, f'The bytes of {by_kernel:,} of them are from the kernel.')
    done['values'] = {
        'control.list': (
            middle if len(found) == HELD else float('inf'),
            f'{middle:.0f} ms ({min(times):.0f} to {max(times):.0f}) for {len(found):,} connections',
        )
    }
    return done
