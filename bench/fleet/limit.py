"""The limits of a source over a fleet, as a simulation: nodes that hear each other late, and a
client that takes whatever each of them admits. The rules are those of
crates/tine/src/admission/fleet_use.rs and fleet.rs; here, messages take any time, so that the edge
of what is stated can be seen.

What a supervisor tells at a tick, the link says at its next turn, the bus takes its time, the other
link tells its supervisor at its next turn, and that uses it at its next tick."""

import heapq, math, random

from fleet.constants import SAY, SETTLES_IN, SUMS_AFTER, TICK

# Seconds of a step of the simulation.
STEP = 0.01


class Way:
    """What nodes tell each other, under way. `latency`: seconds that the bus takes at most; half of
    it at least."""

    def __init__(self, nodes, latency, chance):
        self.latency, self.chance = latency, chance
        self.says = [chance.uniform(0, SAY) for _ in range(nodes)]
        self.tells = [chance.uniform(0, SUMS_AFTER) for _ in range(nodes)]
        # Messages of one node to another do not overtake each other.
        self.last = [[0.0] * nodes for _ in range(nodes)]
        self.messages, self.number = [], 0

    def tell(self, now, sender, what):
        for receiver in range(len(self.says)):
            if receiver == sender:
                continue
            at = turn(now, self.says[sender], SAY) + self.latency * self.chance.choice((0.5, 1, 1))
            at = max(self.last[sender][receiver], turn(at, self.tells[receiver], SUMS_AFTER))
            self.last[sender][receiver] = at
            self.number += 1
            heapq.heappush(self.messages, (at, self.number, sender, receiver, what))

    def arrived(self, now):
        while self.messages and self.messages[0][0] <= now:
            yield heapq.heappop(self.messages)[2:]


def turn(now, first, period):
    """The first turn that is not before now."""
    return first + period * math.ceil((now - first) / period - 1e-9)


class Connections:
    """What a node knows of a source, and the connections that it may have there."""

    def __init__(self, nodes, limit):
        self.nodes, self.limit = nodes, limit
        self.held = 0
        self.reserved = self.since = None
        self.cap = self.share = -(-limit // nodes)
        # What each other node has said last, and what this one has.
        self.heard, self.told = {}, 0

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
        if now < self.since + SETTLES_IN - 1e-9:
            # Less is told at once: others may need it.
            self.reserved = min(self.reserved, max(wanted, self.held))
            self.cap = min(self.reserved, room)
        else:
            self.reserved, self.since = wanted, now
            self.cap = self.reserved
        return max(self.reserved, self.held)


def flood(nodes, limit, latency, seed=1, seconds=10, spread=1.0, churn=0.2, rate=math.inf, visited=None):
    """The most connections at a time. The client comes to the nodes within the first seconds
    (`spread`), opens `rate` connections a second at random ones, and ends one in a tick with the
    chance `churn`. `visited`: it comes to so many of the nodes."""
    chance = random.Random(seed)
    all_nodes = [Connections(nodes, limit) for _ in range(nodes)]
    begins = [chance.uniform(0, spread) if at < (visited or nodes) else math.inf for at in range(nodes)]
    ticks = [chance.uniform(0, TICK) for _ in all_nodes]
    way = Way(nodes, latency, chance)
    most, owed = 0, 0.0
    for number in range(int(seconds / STEP)):
        now = number * STEP
        for sender, receiver, reserved in way.arrived(now):
            all_nodes[receiver].heard[sender] = reserved
        owed = min(owed + rate * STEP, 10.0 * limit * nodes)
        while owed >= 1:
            wants = [one for one, begin in zip(all_nodes, begins) if now >= begin and one.held < one.cap]
            if not wants:
                break
            # A fast client takes everything at once.
            one = wants[0] if rate == math.inf else chance.choice(wants)
            taken = one.cap - one.held if rate == math.inf else 1
            one.held += taken
            owed -= 0 if rate == math.inf else 1
        most = max(most, sum(one.held for one in all_nodes))
        for at, one in enumerate(all_nodes):
            if now < ticks[at]:
                continue
            ticks[at] += TICK
            if one.held and chance.random() < churn:
                one.held -= 1
            reserved = one.tick(now)
            if reserved != one.told:
                one.told = reserved
                way.tell(now, at, reserved)
    return most


def overshoot(nodes, limit, latency, runs=5, **more):
    """How many connections over the limit a source has at most, over several runs."""
    most = max(flood(nodes, limit, latency, seed, spread=(0, 1)[seed % 2], **more) for seed in range(runs))
    return max(0, most - limit)


class Tokens:
    """What a node may admit of a source's rate: its own bucket, which is a share, and the bucket of
    the fleet as it knows it."""

    def __init__(self, nodes, rate, burst):
        self.nodes, self.rate, self.burst = nodes, rate, burst
        self.own = self.own_burst = max(1, burst // nodes)
        self.fleet, self.at = float(burst), 0.0
        self.taken = self.remote = 0
        self.since, self.is_settled, self.heard_at = None, False, -math.inf

    def take(self, seconds):
        """The connections that are admitted after this time without any."""
        self.own = min(self.own_burst, self.own + self.rate / self.nodes * seconds)
        admitted = int(self.own + 1e-9)
        self.own -= admitted
        self.taken += admitted
        return admitted

    def tick(self, now):
        """Returns what was taken here since the last tick."""
        taken, self.taken = self.taken, 0
        filled = min(self.burst, self.fleet + self.rate * (now - self.at))
        if self.remote:
            self.heard_at = now
        debt = 2 * max(self.burst, self.nodes) + self.rate * SETTLES_IN
        self.fleet = max(-debt, filled - taken - self.remote)
        self.at, self.remote = now, 0
        if self.since is None:
            self.since = now
        is_alone = self.is_settled and self.fleet >= 1 and now >= self.heard_at + SETTLES_IN + debt / self.rate - 1e-9
        if is_alone or now >= self.since + SETTLES_IN - 1e-9:
            self.since, self.is_settled = now, True
            part = self.fleet / self.nodes
            self.own = min(self.own_burst, max(part, 1 if self.fleet >= 1 else 0))
        return taken


def rate_flood(nodes, rate, burst, latency, seed=1, seconds=20, spread=1.0, visited=None):
    """How many connections are admitted beyond the burst and the rate, at most, and the part of the
    rate that is admitted in the second half of the time."""
    chance = random.Random(seed)
    all_nodes = [Tokens(nodes, rate, burst) for _ in range(nodes)]
    begins = [chance.uniform(0, spread) if at < (visited or nodes) else math.inf for at in range(nodes)]
    ticks = [max(begin, 0) + chance.uniform(0, TICK) for begin in begins]
    # Nothing is known of a source before it comes.
    ticks = [at if at < math.inf else chance.uniform(0, TICK) for at in ticks]
    way = Way(nodes, latency, chance)
    # One server would have a single bucket: how far below nothing is it?
    bucket, lowest, late = float(burst), 0.0, 0
    for number in range(int(seconds / STEP)):
        now = number * STEP
        bucket = min(burst, bucket + rate * STEP)
        for _, receiver, taken in way.arrived(now):
            all_nodes[receiver].remote += taken
        admitted = sum(one.take(STEP) for one, begin in zip(all_nodes, begins) if now >= begin)
        bucket -= admitted
        lowest = min(lowest, bucket)
        late += admitted if now >= seconds / 2 else 0
        for at, one in enumerate(all_nodes):
            if now < ticks[at]:
                continue
            ticks[at] += TICK
            if taken := one.tick(now):
                way.tell(now, at, taken)
    return abs(lowest), late / (seconds / 2) / rate


def rate_overshoot(nodes, rate, burst, latency, runs=3):
    """The worst of several runs."""
    return max(rate_flood(nodes, rate, burst, latency, seed, spread=(0, 1)[seed % 2])[0] for seed in range(runs))
