"""The observer: what scrapes and an open dashboard cost, how long a scrape takes, and how much
memory an hour of connections takes."""

import pathlib, re, socket, statistics, subprocess, threading, time

import racing
from racing import OUT, Contender, as_ratio, crr, note, race, ratios_of, rows, table, tine

# Connections of the long scrape.
HELD = 10_000

# Seconds of the long load, and its connections in each.
HOUR, EACH_SECOND = 3600, 5000


def address():
    """The address of an observer that is measured."""
    return OUT / 'observer.sock'


def controlled(*options):
    """The command line of a server with a control socket, as servers have one by default."""
    return tine(f'--control {OUT}/observe-control.sock --state-directory none', *options)


def observed(*options):
    """The command line of one that has an observer, too."""
    return controlled(f'--observe unix:{address()}', *options)


def asked(path, seconds=10):
    """What the observer sends for a path until it ends, or until the time is over."""
    deadline, text = time.monotonic() + seconds, b''
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(address()))
        stream.sendall(f'GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'.encode())
        while (left := deadline - time.monotonic()) > 0:
            stream.settimeout(left)
            try:
                part = stream.recv(1 << 20)
            except TimeoutError:
                break
            if not part:
                break
            text += part
    return text


def scraped(over):
    """Scrapes each second, and counts those that were answered."""
    count = 0
    while not over.wait(1):
        count += asked('/metrics').startswith(b'HTTP/1.1 200')
    return count


def measured(one):
    """The rate of a server, with a scrape each second and a dashboard if it is observed."""
    if one.name == 'without':
        return crr(one.port, 16, racing.ARGS.seconds)
    over, counts = threading.Event(), []
    threads = [
        threading.Thread(target=lambda: counts.append(scraped(over))),
        threading.Thread(target=asked, args=('/api/v1/events', racing.ARGS.seconds)),
    ]
    for thread in threads:
        thread.start()
    result = crr(one.port, 16, racing.ARGS.seconds)
    over.set()
    for thread in threads:
        thread.join()
    result['scrapes'] = counts[0]
    return result


def section_observe():
    """The rate with a scrape each second and an open dashboard against that without an observer; a
    scrape with 10,000 connections."""
    contenders = [Contender('without', controlled()), Contender('observed', observed())]
    results = race(contenders, measured, racing.ARGS.rounds)
    done = table(
        'The cost of scrapes and of an open dashboard, 16 connections kept going',
        results,
        'without',
        'rate',
        'conns/s',
        ('p50', 'p99', 'bad'),
    )
    scrapes = sum(one['scrapes'] for one in results['observed'])
    note(done, f'{scrapes} scrapes were answered meanwhile.')
    done['values'] = {'observe.rate': as_ratio(ratios_of(results, 'observed', 'without', 'rate'))}
    done['values']['observe.scrape'] = long_scrape()
    return done


def long_scrape():
    """Milliseconds of a scrape with 10,000 connections, which send nothing meanwhile."""
    times = []
    with Contender('tine', observed('--max-connections 12000')) as server:
        words = [racing.tool('hold'), str(server.port), str(HELD), '3600']
        holder = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            held = f'tine_connections{{service="{server.port}"}} {HELD}\n'.encode()
            deadline = time.monotonic() + 120
            while held not in asked('/metrics') and time.monotonic() < deadline:
                time.sleep(0.5)
            for _ in range(max(racing.ARGS.rounds, 20)):
                time.sleep(0.2)  # What is remembered is not to be measured.
                start = time.monotonic()
                found = asked('/metrics')
                times.append((time.monotonic() - start) * 1000)
        finally:
            holder.kill()
            holder.wait()
    middle = statistics.median(times)
    rows(
        f'A scrape with {HELD:,} connections',
        ['bytes', 'median ms', 'range'],
        [[f'{len(found):,}', f'{middle:.1f}', f'{min(times):.1f} … {max(times):.1f}']],
    )
    text = f'{middle:.1f} ms ({min(times):.1f} to {max(times):.1f})'
    return (middle if held in found else float('inf'), text)


def followed(over):
    """Reads the events of a dashboard until it is over."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(address()))
        stream.sendall(b'GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n')
        stream.settimeout(1)
        while not over.is_set():
            try:
                if not stream.recv(1 << 20):
                    return
            except TimeoutError:
                continue


def observer_of(server):
    """The process id of the observer of a server."""
    for pid in racing.processes(server.process.pid):
        if pathlib.Path(f'/proc/{pid}/comm').read_text() == 'tine: observer\n':
            return pid
    raise LookupError('the server has no observer')


def resident(pid, which='VmRSS'):
    """KiB of memory of a process: now, or its peak (`VmHWM`). Source: proc_pid_status(5)."""
    return int(re.search(rf'{which}:\s*(\d+)', pathlib.Path(f'/proc/{pid}/status').read_text())[1])


def section_hour():
    """The memory of an observer over an hour of 5,000 connections/s, scraped and followed."""
    with Contender('tine', observed()) as server:
        pid, over, samples = observer_of(server), threading.Event(), []

        def sample():
            while not over.wait(60):
                samples.append(resident(pid))

        watchers = [
            threading.Thread(target=what) for what in (sample, lambda: scraped(over), lambda: followed(over))
        ]
        for thread in watchers:
            thread.start()
        report = racing.load(
            server.port, '-R', f'{EACH_SECOND}/s', '-d', f'{HOUR}s', '--max-lateness', '1s'
        )
        over.set()
        for thread in watchers:
            thread.join()
        peak = resident(pid, 'VmHWM')
    served = report['summary']['connections']
    first, middle, last = samples[0], samples[len(samples) // 2], samples[-1]
    done = rows(
        'The memory of the observer over an hour of connections',
        ['connections', 'a second', 'after a minute', 'half', 'end', 'peak'],
        [[f'{served:,}', f'{served / HOUR:,.0f}', *(f'{kib:,} KiB' for kib in (first, middle, last, peak))]],
    )
    text = f'{peak / 1024:.1f} MiB at its peak ({first / 1024:.1f} after a minute, {last / 1024:.1f} at the end)'
    done['values'] = {'observe.memory': (peak / 1024, f'{text}; {served / HOUR:,.0f} connections/s')}
    return done
