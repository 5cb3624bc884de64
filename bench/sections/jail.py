"""Jails: what one costs a program and a handler."""

import racing
from racing import Contender, as_ratio, crr, race, ratios_of, table, tine

USER = '--user nobody'


def raced(title, command):
    """The rate of a server in a light jail against that of the same server without."""
    contenders = [
        Contender('none', command(USER)),
        Contender('light', command(f'{USER} --jail=light')),
    ]
    results = race(contenders, lambda one: crr(one.port, 4, racing.ARGS.seconds), racing.ARGS.rounds)
    return table(title, results, 'none', 'rate', 'conns/s', ('p50', 'p99', 'bad')), results


def section_jail():
    """The rate in a light jail, of a program and of a handler, with 4 connections at a time."""
    program, of_program = raced(
        'A program in a jail (cat), 4 connections kept going', lambda options: tine(options) + ' -- /bin/cat'
    )
    handler, of_handler = raced('A handler in a jail (echo), 4 connections kept going', tine)
    program['values'] = {
        'jail.program': as_ratio(ratios_of(of_program, 'light', 'none', 'rate')),
        'jail.handler': as_ratio(ratios_of(of_handler, 'light', 'none', 'rate')),
    }
    return [program, handler]
