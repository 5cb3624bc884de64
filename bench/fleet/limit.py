"""The limit of connections of a source over a fleet, as a simulation: nodes that hear each other
late, and a client that opens what each of them admits. The rule is that of
crates/tine/src/admission/fleet_use.rs; here, messages take any time, so that the edge of the stated
bound can be seen."""

import random

TICK = 0.1
SETTLES_IN = 0.8


class Node:
    def __init__(self, nodes, limit):
        self.nodes, self.limit = nodes, limit
        self.held = 0
        self.reserved = self.since = None
        self.cap = self.share = -(-limit // nodes)
        # What each other node has said last.
        self.heard = {}

    def reserve(self, room, held):
        part = max(0, room - held) // self.nodes
        return min(room, held + max(1, part))

    def tick(self, now):
        """Sets the cap. Returns what is reserved."""
        remote = sum(self.heard.values())
        room = max(0, self.limit - remote)
        first = min(self.share, room) if remote == 0 else self.reserve(room, 0)
        if self.held == 0:
            self.reserved, self.cap = None, first
            return 0
        if self.reserved is None:
            self.reserved, self.since = first, now
        wanted = self.reserve(room, self.held)
        if now >= self.since + SETTLES_IN:
            self.reserved, self.since = wanted, now
            self.cap = self.reserved
        else:
            self.reserved = min(self.reserved, max(wanted, self.held))
            self.cap = min(self.reserved, room)
        return max(self.reserved, self.held)


def flood(nodes, limit, delay, seconds=20, churn=0.2, seed=1):
    """The most connections at a time. `delay`: the time from a tick here to its effect there, in
    seconds; each message takes between half of it and all of it. `churn`: the share of ticks in
    which a connection ends."""
    chance = random.Random(seed)
    all_nodes = [Node(nodes, limit) for _ in range(nodes)]
    begins = [chance.uniform(0, 3) for _ in all_nodes]
    ticks = [chance.uniform(0, TICK) for _ in all_nodes]
    under_way = []
    most = now = 0
    step = TICK / 10
    for number in range(int(seconds / step)):
        now = number * step
        for message in [one for one in under_way if one[0] <= now]:
            under_way.remove(message)
            _, sender, receiver, reserved = message
            all_nodes[receiver].heard[sender] = reserved
        for at, node in enumerate(all_nodes):
            if now >= begins[at]:
                node.held = max(node.held, node.cap)
        most = max(most, sum(node.held for node in all_nodes))
        for at, node in enumerate(all_nodes):
            if now < ticks[at]:
                continue
            ticks[at] += TICK
            if node.held and chance.random() < churn:
                node.held -= 1
            reserved = node.tick(now)
            for other in range(nodes):
                if other != at:
                    under_way.append((now + delay * chance.uniform(0.5, 1), at, other, reserved))
    return most


def overshoot(nodes, limit, delay, runs=5):
    """How many connections over the limit a source has at most, over several runs."""
    return max(0, max(flood(nodes, limit, delay, seed=seed) for seed in range(runs)) - limit)
