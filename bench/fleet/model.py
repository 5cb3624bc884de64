"""How the load of the bus grows with nodes and sources, and what is used up first. What a node says
is that of crates/bus/src/fleet/own.rs; what it costs is measured (`bench/scale`)."""

from dataclasses import dataclass
from math import ceil, expm1

from fleet.constants import (
    BANS, CHANGES, ENTRIES, HEARTBEAT, NODES, SAY, SOURCES_OF_LINK, SOURCES_OF_NODE, SOURCES_OF_SERVER, SUMS,
    SUMS_AFTER, WHOLE,
)

# Bytes of a delivered message without sources, and of each source in it.
HEAD = 165
SOURCE = 24
# Times that a node tells others of a connection: that it has begun, and that it has ended.
TOLD = 2

# What is there to be used up: processors and the network of the machine of the NATS server, in
# bytes a second; a link and a supervisor have one thread each.
PROCESSORS = 8
NETWORK = 1.25e9


@dataclass(frozen=True)
class Costs:
    """Processor time in seconds. Of the NATS server: for deliveries, `delivered` times their number
    in a second to the power `power`, as it writes several at a time where there are many; no less
    for each beyond `measured_to` of them, the most that was measured; for each delivered byte; and
    for each ban, once and for each node. Of a link: for each message that it hears, and each source
    in one. Of a supervisor: for each source that it knows, in a second. Memory of a link: bytes at
    rest, and for each source."""

    delivered: float
    power: float
    measured_to: float
    byte: float
    ban: float
    ban_of_node: float
    heard: float
    source: float
    known: float
    link: float
    link_source: float

    def deliveries(self, number):
        """Processors that so many deliveries in a second keep busy."""
        most = min(number, self.measured_to)
        return self.delivered * most**self.power * max(1, number / self.measured_to)


@dataclass(frozen=True)
class Fleet:
    """A fleet. A source is a client's address, as limits count them; it comes to one node at a
    time."""

    nodes: int
    # New connections in a second, over all nodes.
    rate: float
    # Sources with connections at a time, over all nodes.
    sources: float
    # Bans in a second, and bans that are known.
    bans: float = 0
    known_bans: float = 0

    def sources_of_node(self):
        return self.sources / self.nodes

    def changes(self):
        """Sources that a node tells in a second because their use has changed."""
        return min(TOLD * self.rate / self.nodes, CHANGES * ENTRIES / SAY)

    def parts(self):
        """Messages of a whole, and how many of them a node says in a second."""
        parts = int(self.sources_of_node() / ENTRIES) + 1
        return parts, parts / max(WHOLE, parts * SAY)

    def messages_of_node(self):
        """Messages that a node says in a second."""
        at_once = self.changes() * SAY
        changes = ceil(at_once / ENTRIES) if at_once > ENTRIES else -expm1(-at_once)
        changes /= SAY
        # A sign of life comes after half a second without anything else.
        of_silence = 1 / HEARTBEAT - 1 / WHOLE
        signs = min(of_silence, changes / expm1(changes * HEARTBEAT)) if changes else of_silence
        return changes + signs + self.parts()[1]

    def sources_said(self):
        """Sources in the messages of a node, in a second."""
        parts, each = self.parts()
        return self.changes() + self.sources_of_node() * each / parts

    def received(self):
        return self.nodes * self.messages_of_node()

    def delivered(self):
        """Each node hears all, itself included: so it finds others of its name."""
        return self.received() * self.nodes

    def bytes_delivered(self):
        return self.nodes**2 * (HEAD * self.messages_of_node() + SOURCE * self.sources_said())

    def cpu_of_bus(self, costs):
        """Processors that the NATS server keeps busy."""
        said = costs.deliveries(self.delivered())
        bans = self.bans * (costs.ban + self.nodes * costs.ban_of_node)
        return said + self.bytes_delivered() * costs.byte + bans

    def cpu_of_link(self, costs):
        """The share of a processor that a link needs to hear the others."""
        return self.nodes * (self.messages_of_node() * costs.heard + self.sources_said() * costs.source)

    def known_sources(self):
        """Sources that a link keeps: those of all nodes, as far as there is room."""
        return min(self.sources, SOURCES_OF_LINK, self.nodes * SOURCES_OF_NODE)

    def cpu_of_supervisor(self, costs):
        """The share of a processor that a supervisor needs for the limits of the fleet."""
        return min(self.known_sources(), SOURCES_OF_SERVER) * costs.known

    def memory_of_link(self, costs):
        return costs.link + self.known_sources() * costs.link_source

    def changes_told(self):
        """Sources whose use elsewhere a link tells its server, in a second, if it can tell all."""
        return TOLD * self.rate * (1 - 1 / self.nodes)

    def shares(self, costs):
        """What is there to be used up, and which share of it is: above 1, it is too small. The
        largest first."""
        shares = {
            'nodes of a fleet': self.nodes / NODES,
            'sources of a node': self.sources_of_node() / SOURCES_OF_NODE,
            'sources of a link': self.sources / SOURCES_OF_LINK,
            'sources of a server': self.sources / SOURCES_OF_SERVER,
            'changes that a link tells': self.changes_told() * SUMS_AFTER / SUMS,
            'bans': self.known_bans / BANS,
            'NATS server': self.cpu_of_bus(costs) / PROCESSORS,
            'network of the NATS server': self.bytes_delivered() / NETWORK,
            'processor of a link': self.cpu_of_link(costs),
            'processor of a supervisor': self.cpu_of_supervisor(costs),
        }
        return sorted(shares.items(), key=lambda share: -share[1])

    def sharded(self, shards):
        """The fleet that one of several is, if each source always comes to the same one."""
        return Fleet(self.nodes // shards, self.rate / shards, self.sources / shards, self.bans, self.known_bans)


def fit(rows):
    """The factors of a sum by least squares of the relative errors: each row has the numbers that
    they belong to, and the sum. A factor that would be negative is nothing."""
    rows = [[number / row[-1] for number in row] for row in rows]
    used = list(range(len(rows[0]) - 1))
    while True:
        found = solve([[row[i] for i in used] + [1] for row in rows])
        if min(found) >= 0:
            return [dict(zip(used, found)).get(i, 0.0) for i in range(len(rows[0]) - 1)]
        used.pop(found.index(min(found)))


def solve(rows):
    """The factors with the least squares, whatever their signs."""
    width = len(rows[0]) - 1
    table = [[sum(row[i] * row[j] for row in rows) for j in range(width + 1)] for i in range(width)]
    for i in range(width):
        pivot = max(range(i, width), key=lambda k: abs(table[k][i]))
        table[i], table[pivot] = table[pivot], table[i]
        for k in range(width):
            if k != i:
                factor = table[k][i] / table[i][i]
                table[k] = [one - factor * other for one, other in zip(table[k], table[i])]
    return [table[i][width] / table[i][i] for i in range(width)]
