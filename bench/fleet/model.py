"""How the load of the bus grows with nodes and sources. Each node says something ten times a second
while its sources change, else twice; each other node hears it. Times and costs are parameters,
which `bench/scale` measures."""

from dataclasses import dataclass

# As in crates/bus/src/fleet.
CHANGED = 10
SIGNS_OF_LIFE = 2
WHOLE_EVERY = 2
SOURCES_OF_MESSAGE = 1000
MOST_NODES = 256
MOST_SOURCES_OF_NODE = 20_000

# Bytes of a message without sources, and of each source in it.
HEAD = 150
SOURCE = 24


@dataclass(frozen=True)
class Costs:
    """Processor time of the NATS server in seconds: for each message that it receives, and for each
    byte that it delivers. (A delivery has no cost beside that of its bytes that could be measured:
    the server writes many at a time.) Of a link: for each message that it hears, and for each
    source in it."""
    received: float = 50e-6
    byte: float = 6e-9
    heard: float = 20e-6
    source: float = 0.5e-6


@dataclass(frozen=True)
class Fleet:
    nodes: int
    # New connections each second, over all nodes.
    rate: float
    # Sources with connections at a time, over all nodes.
    sources: float

    def changes(self):
        """Sources of a node that have changed in a tenth of a second."""
        of_node = self.sources_of_node()
        begun_or_ended = 2 * self.rate / self.nodes / CHANGED
        return min(begun_or_ended, max(1, of_node)) if self.rate else 0

    def sources_of_node(self):
        """A source comes to one node, or to few: a load balancer gives each connection to any."""
        return self.sources / self.nodes

    def messages_of_node(self):
        """Messages that a node sends each second."""
        changes, whole = self.changes(), self.sources_of_node()
        if not changes:
            return SIGNS_OF_LIFE
        parts = lambda sources: max(1, sources / SOURCES_OF_MESSAGE)
        return CHANGED * parts(changes) + parts(whole) / WHOLE_EVERY

    def bytes_of_node(self):
        sources = self.changes() * CHANGED + self.sources_of_node() / WHOLE_EVERY
        return HEAD * self.messages_of_node() + SOURCE * sources

    def received(self):
        return self.nodes * self.messages_of_node()

    def delivered(self):
        return self.received() * (self.nodes - 1)

    def bytes_delivered(self):
        return self.nodes * (self.nodes - 1) * self.bytes_of_node()

    def cpu_of_bus(self, costs):
        """Processors that the NATS server keeps busy."""
        return self.received() * costs.received + self.bytes_delivered() * costs.byte

    def cpu_of_link(self, costs):
        """The share of a processor that a link needs to hear the others."""
        others = self.nodes - 1
        sources = self.changes() * CHANGED + self.sources_of_node() / WHOLE_EVERY
        return others * (self.messages_of_node() * costs.heard + sources * costs.source)

    def first_to_break(self, costs, processors=4, network=1.25e9):
        """What is used up first, with its share: above 1, it is too small."""
        shares = {
            'nodes of a fleet': self.nodes / MOST_NODES,
            'sources of a node': self.sources_of_node() / MOST_SOURCES_OF_NODE,
            f'the NATS server: {processors} processors': self.cpu_of_bus(costs) / processors,
            'the network of the NATS server: 10 Gbit/s': self.bytes_delivered() / network,
            'the link: one processor': self.cpu_of_link(costs),
        }
        return max(shares.items(), key=lambda share: share[1])


def fit(rows):
    """The costs of the NATS server by least squares: each row is (received, bytes delivered,
    processors), all in a second."""
    width = 2
    normal = [[sum(row[i] * row[j] for row in rows) for j in range(width)] for i in range(width)]
    right = [sum(row[i] * row[2] for row in rows) for i in range(width)]
    for i in range(width):
        pivot = max(range(i, width), key=lambda k: abs(normal[k][i]))
        normal[i], normal[pivot], right[i], right[pivot] = normal[pivot], normal[i], right[pivot], right[i]
        for k in range(i + 1, width):
            factor = normal[k][i] / normal[i][i]
            normal[k] = [a - factor * b for a, b in zip(normal[k], normal[i])]
            right[k] -= factor * right[i]
    found = [0.0] * width
    for i in reversed(range(width)):
        found[i] = (right[i] - sum(normal[i][j] * found[j] for j in range(i + 1, width))) / normal[i][i]
    return found
