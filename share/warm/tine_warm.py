"""For Python programs that tine starts warm: executed once, and copied for each connection.

    import sys
    sys.path.insert(0, "/usr/share/tine/warm")
    import tine_warm
    # Imports and whatever else is the same for each connection.
    tine_warm.ready()
    # From here on, for one connection: os.environ, sys.stdin, sys.stdout.
    tine_warm.done()

ready() is the point at which the program is copied. After it these are new for each connection: the
variables of the connection in os.environ, and the generators of `random` and `numpy.random` (the
functions of the module), if they are loaded by then.

These stay as they were at the point: what was read from a variable before, hash seeds, generators
that are objects of their own, process ids that were read before. Functions of os.register_at_fork
are not called.

Executed for each connection, without a warm start, the program works as well: the variables are
the same before and after ready(). The generators are seeded there, too.
"""

import os
import sys

__all__ = ["ready", "done"]


def _variables():
    """The environment as the server has written it; None if /proc does not show one of a server."""
    try:
        with open("/proc/self/environ", "rb", buffering=0) as file:
            text = file.readall()
    except OSError:
        return None
    entries = (entry.partition(b"=") for entry in text.split(b"\0"))
    # The first of a name counts, as for getenv(3).
    found = {name: value for name, _, value in reversed(list(entries)) if name}
    return found if b"TINE_CONNECTION" in found else None


def _renew(before):
    after = _variables()
    if after is None:
        raise RuntimeError("cannot read /proc/self/environ: the variables would be those of nobody")
    # What the program itself has changed is not touched.
    for name, value in after.items():
        if before.get(name) != value:
            os.environb[name] = value
    for name in before.keys() - after.keys():
        os.environb.pop(name, None)


def ready():
    """Says that all that comes before is the same for each connection."""
    before = _variables()
    # The second path says that the variables are renewed.
    os.path.exists("/.tine/ready" if before is None else "/.tine/ready/variables")
    if before is not None:
        _renew(before)
    for name in "random", "numpy.random":
        if name in sys.modules:
            sys.modules[name].seed()


def done(code=0):
    """Ends the process without the interpreter's tidying-up, which would write to each page.

    Standard output and standard error are flushed. Other files are not: close them before.
    Functions of atexit are not called.
    """
    for stream in sys.stdout, sys.stderr:
        if stream is not None:
            stream.flush()
    os._exit(code)
