"""What follows from measurements: the costs, the tables of docs/scale.md and its pictures."""

from fleet import curves, model
from fleet.constants import BANS, NODES, SOURCES_OF_LINK
from fleet.curves import short
from fleet.model import HEAD, Costs, Fleet

# Nodes, connections in a second, sources at a time, over all nodes.
SIZES = [(3, 1e3, 1e4), (10, 1e4, 5e4), (20, 1e4, 1e5), (50, 2e4, 2e5), (100, 1e5, 1e6), (256, 1e5, 1e6), (1000, 1e6, 1e7)]
SHAPES = {'no connections': (0, 0), '100 connections/s': (100, 1e3), '10,000 connections/s': (1e4, 1e5),
          '1,000,000 connections/s': (1e6, 1e7)}
SHARDS = (1, 4, 10, 20, 50, 100)


def of_deliveries(rows):
    """The power of the number of deliveries that fits best, with its factor and that of a byte."""
    best = None
    for power in (at / 20 for at in range(10, 21)):
        numbers = [[row['delivered'] ** power, row['bytes'], row['processors']] for row in rows]
        delivered, byte = model.fit(numbers)
        off = sum(((delivered * many + byte * size) / found - 1) ** 2 for many, size, found in numbers)
        if not best or off < best[0]:
            best = off, power, delivered, byte
    return best[1:]


def costs(measured):
    """The costs of the model. The sizes that were checked are not used."""
    hearing, bans = measured['hearing'], measured['bans']
    of_link = [[row['heard'], row['bytes'], row['link']] for row in hearing]
    memory = [[1, row['known'], row['memory']] for row in hearing]
    of_bans = [[1, row['nodes'], row['bus']] for row in bans]
    power, delivered, byte = of_deliveries(measured['fitted'])
    most = max(row['delivered'] for row in measured['fitted'])
    heard, heard_byte = model.fit(of_link)
    [known] = model.fit([[row['known'], row['supervisor']] for row in hearing if row['known']])
    ban, ban_of_node = model.fit(of_bans)
    link, link_source = model.fit(memory)
    return Costs(
        delivered, power, most, byte, ban, ban_of_node, heard + HEAD * heard_byte, model.SOURCE * heard_byte, known,
        link, link_source,
    )  # fmt: skip


def checked_fleet(row):
    """The fleet that simulated nodes were."""
    return Fleet(row['nodes'], row['changes'] * row['nodes'] / model.TOLD, row['sources'] * row['nodes'])


def table(heads, rows):
    lines = ['| ' + ' | '.join(heads) + ' |', '| ' + ' | '.join(['---'] + ['--:'] * (len(heads) - 1)) + ' |']
    return '\n'.join([*lines, *('| ' + ' | '.join(map(str, row)) + ' |' for row in rows)])


def both(said, found):
    return f'{short(said)} / {short(found)}'


def error(row, of):
    return checked_fleet(row).cpu_of_bus(of) / row['processors'] - 1


def check_table(measured):
    of, rows = costs(measured), []
    for row in measured['checked']:
        fleet = checked_fleet(row)
        rows.append([
            row['nodes'], f'{row["sources"]:,}', f'{row["changes"]:,}', both(fleet.delivered(), row['delivered']),
            both(fleet.bytes_delivered(), row['bytes']), both(fleet.cpu_of_bus(of), row['processors']),
            f'{error(row, of):+.0%}',
        ])  # fmt: skip
    heads = ['nodes', 'sources of a node', 'changes of a node/s', 'messages delivered/s', 'bytes delivered/s',
             'processors', 'error']
    return table(heads, rows)


def costs_table(measured):
    of, us = costs(measured), 1e6
    rows = [
        ('NATS server, for each delivery of 1,000 in a second', f'{of.deliveries(1e3) / 1e3 * us:.0f} µs'),
        (f'the same, of {round(of.measured_to, -3):,.0f}', f'{of.deliveries(of.measured_to) / of.measured_to * us:.1f} µs'),
        ('NATS server, for each delivered byte', f'{of.byte * 1e9:.1f} ns'),
        ('NATS server, for each ban, and for each node that hears of it', f'{of.ban * us:.0f} µs and {of.ban_of_node * us:.1f} µs'),
        ('link, for each message that it hears, and each source in it', f'{of.heard * us:.0f} µs and {of.source * us:.2f} µs'),
        ('link, memory without sources, and for each source of the others', f'{of.link / 1e6:.1f} MB and {of.link_source:.0f} bytes'),
        ('supervisor, for each source of the others, in a second', f'{of.known * us:.2f} µs'),
    ]  # fmt: skip
    return table(['what', 'cost'], rows)


def node_table(measured):
    rows = [
        [f'{row["known"]:,}', f'{row["heard"]:.0f}', short(row['bytes']), f'{row["link"]:.1%}', f'{row["supervisor"]:.1%}',
         f'{row["memory"] / 1e6:.1f} MB']
        for row in measured['hearing']
    ]  # fmt: skip
    return table(['sources of the others', 'messages heard/s', 'bytes heard/s', 'link', 'supervisor', 'memory of the link'], rows)


def first(fleet, of):
    return ', '.join(f'{what} {float(f"{share:.2g}"):g}' for what, share in fleet.shares(of)[:2])


def sizes_table(measured):
    of, rows = costs(measured), []
    for nodes, rate, sources in SIZES:
        fleet = Fleet(nodes, rate, sources)
        rows.append([nodes, short(rate), short(sources), short(fleet.delivered()), short(fleet.bytes_delivered()),
                     short(fleet.cpu_of_bus(of)), short(fleet.cpu_of_link(of)), first(fleet, of)])
    heads = ['nodes', 'connections/s', 'sources', 'messages delivered/s', 'bytes delivered/s', 'NATS, processors',
             'a link, processors', 'used most, and its share']
    return table(heads, rows)


def shards_table(measured):
    of, rows = costs(measured), []
    for shards in SHARDS:
        fleet = Fleet(*SIZES[-1]).sharded(shards)
        rows.append([shards, fleet.nodes, short(shards * fleet.delivered()), short(shards * fleet.bytes_delivered()),
                     short(shards * fleet.cpu_of_bus(of)), short(fleet.cpu_of_link(of)), first(fleet, of)])
    heads = ['fleets', 'nodes of each', 'messages delivered/s', 'bytes delivered/s', 'NATS, processors', 'a link, processors',
             'used most in each, and its share']
    return table(heads, rows)


def rates_table(measured):
    rows = [
        [row['nodes'], f'{row["rate"]}/s:{row["burst"]}', f'{row["over"]:.0f}', f'{row["all"]:.2f}', f'{row["one"]:.2f}']
        for row in measured['rates']
    ]  # fmt: skip
    return table(['nodes', 'rate and burst', 'at once beyond it', 'rate, at all nodes', 'rate, at one node'], rows)


TABLES = {'check': check_table, 'costs': costs_table, 'node': node_table, 'sizes': sizes_table, 'shards': shards_table,
          'rates': rates_table}  # fmt: skip


END = '<!-- end -->'


def filled(text, measured):
    """A document with its tables made anew."""
    for name, make in TABLES.items():
        begin = f'<!-- bench/scale: {name} -->'
        before, found, rest = text.partition(begin)
        if not found:
            raise SystemExit(f'docs/scale.md has no place for the table {name}')
        text = f'{before}{begin}\n\n{make(measured)}\n\n{END}{rest.partition(END)[2]}'
    return text


def pictures(measured):
    """Each picture by its name."""
    of = costs(measured)
    nodes = [2, 5, 10, 20, 50, 100, 200, 500, 1000]
    fleets = {name: [(count, Fleet(count, *shape)) for count in nodes] for name, shape in SHAPES.items()}
    idle = [row for row in measured['checked'] if not row['sources']]
    dots = lambda what: [('no connections', [(row['nodes'], row[what]) for row in idle], True)]
    lines = lambda value: [
        (name, [(count, value(fleet)) for count, fleet in many], False) for name, many in fleets.items()
    ]
    known = [row for row in measured['hearing'] if row['known']]
    sources = [1000, SOURCES_OF_LINK]
    fleet_of = lambda count: Fleet(known[0]['nodes'], 0, count)
    hears = [('link', [(count, fleet_of(count).cpu_of_link(of)) for count in sources], False),
             ('supervisor', [(count, count * of.known) for count in (1000, 100_000)], False)]
    hears += [(name, [(row['known'], row[name]) for row in known if not row['changes']], True) for name in ('link', 'supervisor')]
    over = [(f'{name} nodes', [tuple(point) for point in points], False) for name, points in measured['limits'].items()]
    return {
        'scale-messages.svg': curves.picture(
            'Messages that the bus delivers', 'nodes', 'messages/s',
            lines(Fleet.delivered) + dots('delivered')),
        'scale-processors.svg': curves.picture(
            'Processors that the NATS server keeps busy', 'nodes', 'processors',
            lines(lambda fleet: fleet.cpu_of_bus(of)) + dots('processors')),
        'scale-node.svg': curves.picture(
            f'What a node spends on {known[0]["nodes"]} others', 'sources of the others', 'processors', hears),
        'scale-overshoot.svg': curves.picture(
            'Connections of a source above a limit of 1,000', 'seconds that a message takes over the bus at most',
            'connections', over, log=False),
    }  # fmt: skip


def says(measured):
    """What was found, in lines."""
    of = costs(measured)
    errors = [error(row, of) for row in measured['checked']]
    return '\n'.join([
        costs_table(measured), '', check_table(measured), '', sizes_table(measured), '', shards_table(measured), '',
        node_table(measured), '', rates_table(measured), '',
        f'for the sizes that it was not fitted to, the model is {min(errors):+.0%} to {max(errors):+.0%} off',
        f'bounds: {NODES} nodes, {SOURCES_OF_LINK:,} sources of a link, {BANS:,} bans',
    ])  # fmt: skip
