"""Rates and latencies of short connections, and the throughput of long ones."""

import pathlib, subprocess

import racing
from racing import Contender, as_ratio, available, crr, limits, race, race_both, ratios_of, table, tine, tool


def section_rate():
    contenders = available(
        [
            limits('fork {port}'),
            Contender('tiny', tool('tiny') + ' {port}'),
            Contender('tine', tine()),
            Contender('tine, 1 forker', tine('--forkers 1')),
            Contender('tine, log to /dev/null', tine().replace('--log off', '--log text')),
            Contender('textbook', tool('textbook_server') + ' {port}'),
            Contender('socat', 'socat TCP-LISTEN:{port},fork,reuseaddr,backlog=4096 PIPE'),
        ]
    )
    results = race_both(contenders, 16)
    done = table(
        'A fresh process per connection, 16 connections kept going',
        results,
        'limits fork',
        'rate',
        'conns/s',
        racing.BY_LOAD,
    )
    done['values'] = {
        f'fresh.{base.split()[-1]}': as_ratio(ratios_of(results, 'tine', base, 'rate'))
        for base in ('limits fork', 'tiny', 'textbook', 'socat')
        if base in results
    }
    number, text = done['values']['fresh.fork']
    logged, _ = as_ratio(ratios_of(results, 'tine, log to /dev/null', 'limits fork', 'rate'))
    done['values']['fresh.fork'] = number, f'{text}; {logged:.2f} with the log on'
    return done


def section_spares():
    contenders = [
        limits('spare {port} 1 32'),
        limits('fork {port}'),
        Contender('tine --spares 32', tine('--spares 32')),
        Contender('tine --spares 32 --forkers 1', tine('--spares 32 --forkers 1')),
        Contender('tine', tine()),
    ]
    results = race_both(contenders, 1)
    done = table(
        'One connection at a time, connect to reply',
        results,
        'limits spare',
        'p50',
        'us',
        ('rate', *racing.BY_LOAD[1:]),
    )
    done['values'] = {
        f'spares.{model}': as_ratio(ratios_of(results, 'tine --spares 32', f'limits {model}', 'p50'))
        for model in ('spare', 'fork')
    }
    return done


def section_pool():
    contenders = [
        limits('pool {port} 1 32'),
        Contender('tine --spares 32 --reuse', tine('--spares 32 --reuse 1000000000')),
    ]
    results = race_both(contenders, 16)
    done = table('A pool', results, 'limits pool', 'rate', 'conns/s', racing.BY_LOAD)
    done['values'] = {'pool': as_ratio(ratios_of(results, contenders[1].name, 'limits pool', 'rate'))}
    return done


def section_stream():
    contenders = [limits('fork {port}'), Contender('tine', tine())]
    tables, ratios = [], []
    for connections, mib, chunk in ((1, 512, 65536), (4, 128, 65536), (4, 64, 4096)):

        def measure(one):
            words = [tool('stream'), str(one.port), str(connections), str(mib), str(chunk)]
            done = subprocess.run(words, capture_output=True, text=True)
            return {'mib': float(done.stdout.split()[0]), 'failed': done.returncode}

        results = race(contenders, measure, racing.ARGS.rounds)
        tables.append(
            table(
                f'Echo of a long stream: {connections} connections, {mib} MiB each, chunks of {chunk}',
                results,
                'limits fork',
                'mib',
                'MiB/s',
                ('failed',),
            )
        )
        ratios.append(tables[-1]['ratios']['tine'])
    one, four, small = ratios
    tables[0]['values'] = {
        'stream': (
            min(ratios),
            f'{one:.2f} (one stream), {four:.2f} (four), {small:.2f} (four, chunks of 4 KiB)',
        )
    }
    return tables


def section_million():
    """A million connections, and what supervisor and forkers hold before and after."""
    with Contender('tine', tine()) as one:
        crr(one.port, 16, 0.1)
        before, served = racing.holdings(one), 0
        while served < 1_000_000:
            served += crr(one.port, 16, 20)['rate'] * 20
        after = racing.holdings(one)
    grown = after['private_kib'] - before['private_kib']
    same = all(after[what] == before[what] for what in ('processes', 'descriptors'))
    done = racing.rows(
        'A million connections', ['', *before], [['before', *before.values()], ['after', *after.values()]]
    )
    racing.note(done, f'{served:,} connections served.')
    done['values'] = {
        'million': (
            grown if same else float('inf'),
            f'{grown} KiB more memory after {served / 1e6:.2f} million; processes and '
            f'descriptors {"as before" if same else "differ"}',
        )
    }
    return done
