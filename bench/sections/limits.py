"""Admission: the cost of rules, rates and limits, and a flood beside other clients."""

import json, statistics, subprocess, time

import racing
from racing import OUT, Contender, as_ratio, crr, note, race, ratios_of, rows, table, tine

FLOODS = {
    'one source': ('--rate-per-source 50/s', ['127.9.9.9']),
    '200 sources of one /24': (
        '--rate-per-prefix 50/s',
        ['127.9.9.0/25', '127.9.9.128/26', '127.9.9.192/29'],
    ),
}


def flooded(server, blocks):
    """Another client's summary without and with the flood, and the number of the flood's
    connections."""

    def other():
        return racing.load(server.port, '--rate', '20/s', '-d', '10s', '-p', 1, '--source', '127.9.10.10')[
            'summary'
        ]

    calm = other()
    flood = subprocess.Popen(
        [
            racing.ARGS.tine,
            'load',
            'crr',
            f'127.0.0.1:{server.port}',
            '--rate',
            '5000/s',
            '-d',
            '12s',
            '--json',
            '-',
            *(f'--source={block}' for block in blocks),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    busy = other()
    return calm, busy, sum(json.loads(flood.communicate()[0])['summary']['states'].values())


def section_flood():
    """5,000 connections a second, over the limit of their source or prefix, while a client of
    another source or prefix connects 20 times a second."""

    def milliseconds(summary):
        return ' / '.join(f'{summary["latency_ns"][which] / 1e6:.2f}' for which in ('p50', 'p99', 'max'))

    def p99(summary):
        return summary['latency_ns']['p99'] / 1e6

    lines, pairs = [], []
    for flood, (limit, blocks) in FLOODS.items():
        for action in ('reject', 'delay'):
            with Contender('tine', tine(limit, '-c 200', f'--when-limited {action}')) as server:
                calm, busy, connections = flooded(server, blocks)
            pairs.append((calm, busy))
            lines.append(
                [
                    f'{flood}, {action}',
                    calm['states'],
                    milliseconds(calm),
                    busy['states'],
                    milliseconds(busy),
                    f'{connections} in 12 s',
                ]
            )
    done = rows(
        'Other clients during a flood of 5,000/s',
        [
            'flood from, clients over the limit',
            'others without it',
            'p50 / p99 / max, ms',
            'others with it',
            'p50 / p99 / max, ms',
            'the flood',
        ],
        lines,
    )
    served = min(busy['states'].get('ok', 0) for _, busy in pairs)
    later = max(p99(busy) - p99(calm) for calm, busy in pairs)
    done['values'] = {
        'flood': (
            later if served == 200 else float('inf'),
            f'at least {served} of 200 served; 99th percentile {min(p99(busy) for _, busy in pairs):.2f} to '
            f'{max(p99(busy) for _, busy in pairs):.2f} ms, without the flood '
            f'{min(p99(calm) for calm, _ in pairs):.2f} to {max(p99(calm) for calm, _ in pairs):.2f} ms',
        )
    }
    return done


def section_limits():
    """All of admission against none of it: with 100,000 rules, and after 100,000 sources whose
    buckets the table still holds."""
    rules = OUT / 'rules'
    rules.write_text(''.join(f'10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}:deny\n' for n in range(100_000)))
    limits = [
        f'--rules {rules}',
        '--max-connections-per-source 1000',
        '--max-connections-per-prefix 1000',
        '--rate-per-source 50/d:1000000',
        '--rate-per-prefix 100000/s:1000000',
        '--per-source-penalties crash:90s',
    ]
    seen = {}

    class Seen(Contender):
        """A server after connections of 100,000 sources."""

        def __enter__(self):
            super().__enter__()
            before = racing.holdings(self)
            filled = racing.load(
                self.port, '-n', 100_000, '-c', 16, '--source', '127.64.0.0/15', '--close', 'rst'
            )
            seen.update(before=before, after=racing.holdings(self), states=filled['summary']['states'])
            return self

    full = 'all limits, 100,000 sources seen'
    contenders = [
        Contender('no limits', tine()),
        Contender('all limits', tine(*limits)),
        Seen(full, tine(*limits)),
        Contender('all limits, delay over them', tine(*limits, '--when-limited delay')),
    ]
    results = race(contenders, lambda one: crr(one.port, 16, racing.ARGS.seconds), racing.ARGS.rounds)
    done = table(
        'The cost of admission, 16 connections kept going',
        results,
        'no limits',
        'rate',
        'conns/s',
        ('p50', 'p99', 'bad'),
    )
    note(
        done,
        f'Supervisor and forkers before the 100,000 sources: {seen["before"]}; after: {seen["after"]}; '
        f'{seen["states"]}.',
    )
    mib = (seen['after']['pss_kib'] - seen['before']['pss_kib']) / 1024
    done['values'] = {
        'limits.rate': as_ratio(ratios_of(results, 'all limits', 'no limits', 'rate')),
        'limits.table': (
            None,
            f'{mib:.1f} MiB more after 100,000 sources; rate {done["ratios"][full]:.2f} of '
            f'that without limits',
        ),
    }
    return done
