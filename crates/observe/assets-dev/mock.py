#!/usr/bin/env python3
"""Serves the dashboard with the headers of the observer and an API that is made up.

For looking at the dashboard without a server: `python3 mock.py --port 8099 --connections 24`.
"""

import argparse
import bisect
import ipaddress
import json
import math
import pathlib
import random
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

ASSETS = pathlib.Path(__file__).resolve().parent.parent / "assets"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
BOUNDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800]
# Outcome, kind, share. The markup in one of them must be shown as it is, never be parsed.
OUTCOMES = [
    ("exit 0", "success", 76),
    ("reset", "reset", 7),
    ("client gone", "client_gone", 5),
    ("timeout idle", "timeout", 4),
    ("exit 1", "exit", 3),
    ("signal SEGV", "signal", 1.4),
    ("signal KILL", "signal", 0.5),
    ("panic index out of bounds: the len is 4 but the index is 7", "panic", 0.7),
    ("error cannot read the header: <b onclick=alert(1)>bad</b> magic", "error", 1.2),
    ("killed", "killed", 0.9),
]
REASONS = [("source", 9), ("rate", 5), ("full", 2), ("banned", 4), ("denied", 1)]


def rfc3339(seconds):
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Histogram:
    def __init__(self):
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, value):
        self.counts[bisect.bisect_left(BOUNDS, value)] += 1
        self.sum += value

    def json(self):
        return {"bounds": BOUNDS, "counts": list(self.counts), "sum": round(self.sum, 4)}


class Service:
    """One service, advanced by a step of time."""

    def __init__(self, name, target, now):
        self.name, self.target, self.phase = name, target, "serving"
        self.bans = {"198.51.100.0/24": None, "2001:db8:7::/48": now + 5400}
        self.started = now - 26 * 3600
        self.live, self.ended = {}, []
        self.next_id, self.peak = 1, 0
        self.accepted, self.kinds, self.signals = 0, {}, {}
        self.rejected, self.delayed, self.waiting = {}, {}, 0
        self.duration, self.start, self.first_byte = Histogram(), Histogram(), Histogram()
        self.bytes_in = self.bytes_out = 0
        self.last_ended = []
        self.mean = 12.0 if target < 1000 else 110.0
        self.hosts = [self.host() for _ in range(60)]

    @staticmethod
    def host():
        if random.random() < 0.2:
            return f"[2001:db8:{random.randrange(16):x}::{random.randrange(1, 4096):x}]"
        return random.choice(["192.0.2.", "198.51.100.", "203.0.113."]) + str(random.randrange(1, 255))

    def open(self, accepted):
        host = random.choice(self.hosts)
        life = random.lognormvariate(math.log(self.mean), 1.5) if random.random() < 0.8 else 0.2
        outcome, kind, _ = random.choices(OUTCOMES, [row[2] for row in OUTCOMES])[0]
        fork = random.lognormvariate(math.log(0.0011), 0.5)
        self.live[self.next_id] = {
            "id": self.next_id, "peer": f"{host}:{random.randrange(1024, 65536)}",
            "pid": 2000 + self.next_id % 30000, "accepted": accepted, "until": accepted + life,
            "outcome": outcome, "kind": kind, "in": 0, "out": 0,
            "speed": random.lognormvariate(math.log(9000), 1.5), "fork": fork,
        }
        self.start.add(fork)
        self.first_byte.add(random.lognormvariate(math.log(0.02), 1))
        self.next_id += 1
        self.accepted += 1

    def step(self, now, seconds):
        wave = 1 + 0.35 * math.sin(now / 240) + 0.2 * math.sin(now / 37)
        rate = self.target / (self.mean * 2.2) * wave
        for _ in range(poisson(rate * seconds)):
            self.open(now - random.random() * seconds)
        self.last_ended = []
        for key in [key for key, row in self.live.items() if row["until"] <= now]:
            self.close(self.live.pop(key))
        for row in self.live.values():
            count = row["speed"] * seconds * random.random()
            row["in"] += int(count / 12)
            row["out"] += int(count)
            self.bytes_in += int(count / 12)
            self.bytes_out += int(count)
        self.ended = self.ended[-10000:]
        self.peak = max(self.peak, len(self.live))
        burst = 6 if math.sin(now / 90) > 0.8 else 0.4
        for reason, share in REASONS:
            count = poisson(share * burst * seconds / 6)
            if count:
                self.rejected[reason] = self.rejected.get(reason, 0) + count
        self.waiting = poisson(burst)
        if self.waiting:
            self.delayed["source"] = self.delayed.get("source", 0) + 1

    def close(self, row):
        self.kinds[row["kind"]] = self.kinds.get(row["kind"], 0) + 1
        if row["kind"] == "signal":
            name = row["outcome"].split()[1]
            self.signals[name] = self.signals.get(name, 0) + 1
        self.duration.add(row["until"] - row["accepted"])
        self.ended.append(row)
        self.last_ended.append(row)

    def processes(self):
        rows = [{"role": f"forker {n}", "pid": 1200 + n, "restarts": 1 if n == 3 else 0,
                 "cpu_ms": self.accepted // 3 + n, "rss_kib": 1840 + 16 * n} for n in range(1, 5)]
        rows += [{"role": "rejector", "pid": 1210, "restarts": 0, "cpu_ms": 820, "rss_kib": 1404},
                 {"role": "delayer", "pid": 1211, "restarts": 0, "cpu_ms": 310, "rss_kib": 1412}]
        return [{"role": "supervisor", "pid": 1200, "restarts": 0, "cpu_ms": self.accepted // 2,
                 "rss_kib": 5120}] + rows

    def sample(self):
        return {
            "service": self.name, "phase": self.phase, "connections": len(self.live),
            "accepted": self.accepted, "ended_by_kind": dict(self.kinds),
            "rejected_by_reason": dict(self.rejected), "delayed_by_reason": dict(self.delayed),
            "waiting": self.waiting, "bytes_in": self.bytes_in, "bytes_out": self.bytes_out,
            "duration": self.duration.json(), "start": self.start.json(), "spares": 3,
            "processes": self.processes(),
        }

    def limit(self):
        return max(128, 2 ** math.ceil(math.log2(self.target * 1.6)))

    def metrics(self):
        return self.sample() | {
            "ended_by_signal": dict(self.signals), "first_byte": self.first_byte.json(),
            "max_connections": self.limit(), "bans": len(self.bans), "fork_failures": 0,
            "log_lines_dropped": 0, "generation": 3,
            "listeners": [{"address": "0.0.0.0:9999", "queued": poisson(1), "backlog": 4096, "overflows": 0},
                          {"address": "[::]:9999", "queued": 0, "backlog": 4096, "overflows": 2}],
        }

    def status(self, now):
        ended = sum(self.kinds.values())
        good = sum(self.kinds.get(kind, 0) for kind in ("success", "reset", "client_gone"))
        return {
            "version": "0.1.0", "service": self.name, "pid": 1200, "phase": self.phase,
            "started": rfc3339(self.started), "uptime_ms": int((now - self.started) * 1000),
            "addresses": ["0.0.0.0:9999", "[::]:9999"], "connections": len(self.live),
            "peak": self.peak, "max_connections": self.limit(), "spares": 3,
            "accepted": self.accepted, "ended": ended, "failed": ended - good,
            "rejected": sum(self.rejected.values()), "rejected_by_reason": dict(self.rejected),
            "limits": "enforce", "reported": 0, "reported_by_reason": {}, "unrecorded": 0,
            "delayed": sum(self.delayed.values()), "waiting": self.waiting, "bans": len(self.bans),
            "rates": {key: {"accepted": self.accepted // 9, "rejected": 5} for key in ("60", "300", "900")},
            "processes": [{key: row[key] for key in ("role", "pid", "restarts")}
                          for row in self.processes()[1:]],
            "settings": self.settings(),
        }

    def settings(self):
        limit = str(self.limit())
        rows = [
            ("limits", "enforce", "enforce", "enforce", "enforce or report"),
            ("max-connections", limit, limit, "1024", "a number, up to that of the start"),
            ("max-connections-per-source", "8", "4", "none", "a number, or none"),
            ("max-connections-per-prefix", "none", "none", "none", "a number, or none"),
            ("rate-per-source", "10/s:50", "10/s:50", "none", "a rate, as in 10/s:50, or none"),
            ("rate-per-prefix", "none", "none", "none", "a rate, as in 10/s:50, or none"),
            ("per-source-penalties", "crash:90s grace-exceeded:20s", "crash:90s", "none", "penalties"),
            ("drain-timeout", "7s", "7s", "7s", "a time, as in 10s"),
            ("idle-timeout", "5min", "5min", "none", "a time, as in 10s, or none"),
            ("max-lifetime", "none", "none", "none", "a time, as in 10s, or none"),
            ("first-byte-timeout", "10s", "10s", "none", "a time, as in 10s, or none"),
            ("log-level", "normal", "normal", "normal", "quiet, normal or verbose"),
        ]
        keys = ("name", "value", "at_start", "default", "takes")
        return [{"service": self.name} | dict(zip(keys, row)) for row in rows]


def poisson(mean):
    if mean > 50:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, random.random()
    while product > limit:
        count += 1
        product *= random.random()
    return count


class World:
    """All services, their samples of the last hour, and those who wait for the next one."""

    def __init__(self, names, target, history, still):
        now = time.time()
        self.still = still
        self.services = [Service(name, target, now) for name in names]
        self.changed = threading.Condition()
        self.samples, self.number = [], 0
        # The hour before the start, at most 3600 samples, so that plots have something to show.
        for service in self.services:
            for _ in range(target):
                service.open(now - history - random.random() * 5)
        for back in range(history, 0, -1):
            self.step(now - back)
        threading.Thread(target=self.run, daemon=True).start()

    def step(self, now):
        for service in self.services:
            if not self.still:
                service.step(now, 1.0)
        self.number += 1
        self.samples.append((self.number, {"time": now, "services": [s.sample() for s in self.services]}))
        self.samples = self.samples[-3600:]

    def run(self):
        while True:
            time.sleep(1)
            with self.changed:
                self.step(time.time())
                self.changed.notify_all()

    def event(self):
        now = time.time()
        live, ended = [], []
        for service in self.services:
            newest = sorted(service.live.values(), key=lambda row: -row["id"])[:200]
            live += [{"id": row["id"], "service": service.name, "pid": row["pid"], "peer": row["peer"],
                      "age_ms": int((now - row["accepted"]) * 1000), "state": "serving"} for row in newest]
            ended += [{"id": row["id"], "service": service.name, "peer": row["peer"],
                       "outcome": row["outcome"], "kind": row["kind"],
                       "age_ms": int((row["until"] - row["accepted"]) * 1000)}
                      for row in service.last_ended[-100:]]
        live.sort(key=lambda row: row["age_ms"])
        return self.samples[-1][1] | {"live": live[:200], "ended": ended[:100]}

    def connection(self, service, row, ended, now):
        until = row["until"] if ended else now
        name = f"{service.name}:{row['id']}" if service.name else row["id"]
        record = {
            "id": name, "service": service.name, "peer": row["peer"], "pid": row["pid"],
            "state": "ended" if ended else "serving", "accepted": rfc3339(row["accepted"]),
            "started": rfc3339(row["accepted"] + row["fork"]), "first_byte_ms": 12,
            "age_ms": int((until - row["accepted"]) * 1000), "bytes_in": row["in"],
            "bytes_out": row["out"], "bytes_source": "sample" if ended else "kernel",
        }
        if not ended:
            return record | {"tcp_state": "ESTAB"}
        return record | {"ended": rfc3339(row["until"]), "outcome": row["outcome"], "cpu_ms": 3,
                         "peak_kib": 2104}

    def connections(self, query):
        now, ended = time.time(), query.get("ended") == "true"
        rows = []
        for service in self.services:
            if query.get("service") and service.name != query["service"]:
                continue
            source = service.ended if ended else list(service.live.values())
            rows += [(service, row) for row in source]
        if query.get("peer"):
            block = ipaddress.ip_network(query["peer"], strict=False)
            rows = [item for item in rows
                    if ipaddress.ip_address(item[1]["peer"].rsplit(":", 1)[0].strip("[]")) in block]
        text = query.get("search", "").lower()
        if text:
            rows = [(s, r) for s, r in rows
                    if text in f"{r['id']} {r['peer']} {r['outcome'] if ended else ''}".lower()]
        order = query.get("sort", "id")
        keys = {"id": "id", "peer": "peer", "bytes_in": "in", "bytes_out": "out"}
        name = order.lstrip("-")

        def key(item):
            row = item[1]
            if name == "age":
                return (row["until"] if ended else now) - row["accepted"]
            return row[keys[name]]

        rows.sort(key=key, reverse=order.startswith("-"))
        first = int(query.get("offset", 0))
        page = rows[first:first + int(query.get("limit", 1000))]
        return {"total": len(rows), "connections": [self.connection(s, r, ended, now) for s, r in page]}


    def kill(self, wanted):
        """Ends the connections that a body of `POST kill` selects. Returns how many."""
        now, ids = time.time(), wanted.get("ids")
        block = ipaddress.ip_network(wanted["peer"]) if wanted.get("peer") else None
        count = 0
        for service in self.services:
            if wanted.get("service") not in (None, service.name):
                continue
            for row in list(service.live.values()):
                name = f"{service.name}:{row['id']}" if service.name else str(row["id"])
                host = ipaddress.ip_address(row["peer"].rsplit(":", 1)[0].strip("[]"))
                if (ids is None or name in map(str, ids)) and (block is None or host in block):
                    row |= {"outcome": "killed", "kind": "killed", "until": now}
                    service.close(service.live.pop(row["id"]))
                    count += 1
        return count

    def steer(self, method, path, query, body):
        """Does what a request asks for. Returns the count; None if there is no such path."""
        parts = path.removeprefix("/api/v1/").split("/")
        services = [s for s in self.services if body.get("service", query.get("service")) in (None, s.name)]
        match method, parts:
            case "POST", ["kill"]:
                return self.kill(body)
            case "POST", ["connections", name, "kill"]:
                return self.kill({"ids": [name]})
            case "POST", ["bans"]:
                block = str(ipaddress.ip_network(body["block"]))
                until = time.time() + body["for_ms"] / 1000 if body.get("for_ms") else None
                for service in services:
                    service.bans[block] = until
                return self.kill({"peer": block}) if body.get("kill") else len(services)
            case "DELETE", ["bans"]:
                return sum(s.bans.pop(query["block"], 0) != 0 for s in services)
            case "POST", [*named, "pause" | "resume" as order]:
                chosen = [s for s in self.services if named in ([], ["services", s.name])]
                for service in chosen:
                    service.phase = "paused" if order == "pause" else "serving"
                return len(chosen)
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world = token = None
    control = False

    def log_message(self, *_):
        pass

    def reply(self, code, kind, body):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def json(self, value, code=200):
        self.reply(code, "application/json", json.dumps(value).encode())

    def do_GET(self):
        try:
            self.answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "{}")
        url = urlparse(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            return self.json({"error": "the token is missing or wrong"}, 401)
        if not self.control:
            return self.json({"error": "clients may only read, without --observe-control"}, 403)
        try:
            with self.world.changed:
                count = self.world.steer(self.command, url.path, query, body)
        except (KeyError, ValueError) as why:
            return self.json({"error": str(why), "code": 100}, 400)
        if not count:
            return self.json({"error": "there is no such thing", "code": 111}, 409)
        return self.json({"done": True, "count": count})

    do_DELETE = do_POST

    def answer(self):
        url = urlparse(self.path)
        if not url.path.startswith("/api/"):
            return self.file(url.path)
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            return self.json({"error": "the token is missing or wrong"}, 401)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if url.path == "/api/v1/events":
            return self.events()
        with self.world.changed:
            services, now = self.world.services, time.time()
            if url.path == "/api/v1/status":
                value = {"server": {"name": "9999", "version": "0.1.0", "control": self.control},
                         "services": [service.status(now) for service in services]}
            elif url.path == "/api/v1/metrics":
                value = {"services": [service.metrics() for service in services]}
            elif url.path == "/api/v1/bans":
                value = {"bans": [{"type": "ban", "service": service.name, "block": block,
                                   "left_ms": until and int((until - now) * 1000)}
                                  for service in services for block, until in service.bans.items()]}
            elif url.path == "/api/v1/connections":
                value = self.world.connections(query)
            else:
                return self.json({"error": "there is no such resource"}, 404)
        return self.json(value)

    def file(self, path):
        name = "index.html" if path == "/" else path.removeprefix("/assets/")
        file = (ASSETS / name).resolve()
        if not file.is_relative_to(ASSETS) or not file.is_file():
            return self.reply(404, "text/plain", b"not found\n")
        return self.reply(200, TYPES.get(file.suffix, "text/plain; charset=utf-8"), file.read_bytes())

    def events(self):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        after = int(self.headers.get("Last-Event-ID") or 0)
        with self.world.changed:
            past = [sample for number, sample in self.world.samples if number > after]
            number = self.world.number
        self.event(number, "history", past)
        while True:
            with self.world.changed:
                self.world.changed.wait()
                number, value = self.world.number, self.world.event()
            self.event(number, "sample", value)

    def event(self, number, name, value):
        text = f"id: {number}\nevent: {name}\ndata: {json.dumps(value)}\n\n"
        self.wfile.write(text.encode())
        self.wfile.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8099, help="0: a free one")
    parser.add_argument("--connections", type=int, default=24, help="about how many at a time")
    parser.add_argument("--services", default="", help="names, separated by commas")
    parser.add_argument("--control", action="store_true", help="requests may steer")
    parser.add_argument("--token", help="the bearer token that requests must have")
    parser.add_argument("--history", type=int, default=3600, help="seconds of samples at the start")
    parser.add_argument("--still", action="store_true", help="no connection begins or ends")
    options = parser.parse_args()
    names = options.services.split(",") if options.services else [None]
    Handler.world = World(names, options.connections, options.history, options.still)
    Handler.token = options.token
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    Handler.control = options.control
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
