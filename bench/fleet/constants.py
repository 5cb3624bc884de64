"""Constants of the implementation, read from its source: the model and the simulation follow it."""

import pathlib, re

CRATES = pathlib.Path(__file__).resolve().parents[2] / 'crates'


def constant(file, name):
    """A number, or a time in seconds."""
    text = (CRATES / file).read_text()
    found = re.search(rf'const {name}: \w+ = (Duration::from_(\w+)\()?([\d_ *]+)\)?;', text)
    if not found:
        raise SystemExit(f'{file} has no constant {name}')
    _, unit, product = found.groups()
    number = 1
    for factor in product.split('*'):
        number *= int(factor.strip().replace('_', ''))
    return number * {None: 1, 'secs': 1, 'millis': 1e-3}[unit]


def of_bus(file, name):
    return constant(f'bus/src/fleet/{file}.rs', name)


# What a node says. Times are in seconds.
SAY = of_bus('state', 'SAY') / 1000
HEARTBEAT = of_bus('own', 'HEARTBEAT') / 1000
WHOLE = of_bus('own', 'WHOLE') / 1000
CHANGES = of_bus('own', 'CHANGES')
ENTRIES = min(of_bus('messages', 'MOST'), (of_bus('messages', 'LONGEST') - 1024) // of_bus('messages', 'SOURCE'))

# What is kept and told, at most.
NODES = of_bus('roster', 'NODES')
SOURCES_OF_NODE = min(of_bus('own', 'SOURCES'), of_bus('roster', 'SOURCES'))
SOURCES_OF_LINK = of_bus('sums', 'MOST')
SOURCES_OF_SERVER = constant('tine/src/admission/sources.rs', 'MAX_SOURCES')
BANS = of_bus('bans', 'MOST')
SUMS_AFTER = of_bus('outbox', 'SUMS_AFTER') / 1000
SUMS = min(of_bus('outbox', 'SUMS'), of_bus('outbox', 'LONGEST') // of_bus('outbox', 'LONGEST_SUM'))

# What a node admits of a source.
TICK = constant('tine/src/admission/fleet_use.rs', 'TICK')
SETTLES_IN = constant('tine/src/admission/fleet_use.rs', 'SETTLES_IN') / 1e9
LINK_TICK = constant('bus/src/fleet/link.rs', 'TICK')
