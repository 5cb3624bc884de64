"""What an imported service permits that the original does not, by reading both configurations.
bench/imports also compares them by their clients; this covers what one client cannot see."""

import re, socket

# Attributes that the defaults of xinetd can have.
BOTH = set(
    'banner banner_fail banner_success bind cps groups instances interface log_on_failure log_on_success '
    'log_type max_load no_access only_from passenv per_source umask v6only'.split()
)
# Attributes that xinetd ignores unless they have one value.
SINGLE = {'instances', 'per_source', 'umask', 'user', 'group', 'groups', 'bind', 'nice', 'port', 'wait'}
# The umask that bench/imports gives the servers.
SERVER = '022'
LIMITS = {
    'rlimit_as': 'limit-as',
    'rlimit_cpu': 'limit-cpu',
    'rlimit_data': 'limit-data',
    'rlimit_files': 'limit-nofile',
    'rlimit_rss': 'limit-rss',
    'rlimit_stack': 'limit-stack',
}


def port_of(text):
    """A port by its number or name; `None` if there is none."""
    try:
        return int(text) if text.isdigit() else socket.getservbyname(text, 'tcp')
    except OSError:
        return None


def xinetd_services(text):
    """The enabled services of a text: port, and attributes with those of the defaults."""
    sections = re.findall(r'^\s*(defaults|service\s+\S+)\s*\{(.*?)^\s*\}', text, re.M | re.S)
    parsed = [
        (
            head.split()[-1],
            [
                (name, operator, values.split())
                for name, operator, values in re.findall(r'^\s*(\w+)\s+([+-]?=)(.*)$', body, re.M)
            ],
        )
        for head, body in sections
    ]
    # xinetd reads the first defaults only.
    first = next((lines for head, lines in parsed if head == 'defaults'), [])
    defaults = {name: values for name, _, values in first if name in BOTH}
    for name, lines in parsed:
        attributes = dict(defaults)
        for key, operator, values in lines:
            if operator == '=' and (len(values) == 1 or key not in SINGLE):
                attributes[key] = values
            elif operator == '+=' and key in ('only_from', 'no_access', 'passenv'):
                attributes[key] = attributes.get(key, []) + values
        if name != 'defaults':
            yield port_of((attributes.get('port') or [name])[0]), attributes


def inetd_services(text):
    """The enabled lines of a text: port, and columns."""
    for line in text.splitlines():
        columns = line.split()
        if len(columns) > 5 and not line.startswith('#') and columns[1] == 'stream':
            yield port_of(columns[0].rsplit(':', 1)[-1]), columns


def listens(imported, port):
    """The hosts at which an imported service listens at a port; '' for all addresses."""
    found = (re.fullmatch(r'(?:(\S+):)?(\d+)', one) for one in imported['listen'])
    return [one[1] or '' for one in found if one and int(one[2]) == port]


def number(text):
    """A number of connections: infinite if it is not limited, 0 if the original refuses it."""
    if text is None or str(text).upper() == 'UNLIMITED':
        return float('inf')
    return int(text) if str(text).isdigit() else 0


def rate(text):
    """A rate in connections a second."""
    per = {'s': 1, 'min': 60, 'h': 3600}
    most, _, unit = (text or 'inf/s').partition('/')
    return float(most) / per[unit.split(':')[0]]


def size(text):
    """The bytes of a size: infinite if it is not limited, 0 if the original refuses it."""
    if str(text).upper() in ('UNLIMITED', 'INFINITY'):
        return float('inf')
    digits, unit = re.fullmatch(r'(\d*)(.*)', str(text)).groups()
    return int(digits or 0) * {'': 1, 'k': 1024, 'm': 1024**2}.get(unit.lower(), 0)


def octal(text):
    """A umask; all bits if the original refuses it."""
    return int(str(text), 8) if re.fullmatch('[0-7]+', str(text)) else 0o777


def of_xinetd(attributes, imported, port):
    """What the imported service permits beyond these attributes."""

    def one(name):
        return (attributes.get(name) or [None])[0]

    is_program = 'program' in imported
    flags = [flag.replace('ipv', 'IPv') for flag in attributes.get('flags', [])]
    hosts = listens(imported, port)
    checks = [
        ('wait', (one('wait') or '').lower() == 'no'),
        ('flags', not {'SENSOR', 'LABELED'} & set(flags)),
        ('flags = IPv4', 'IPv4' not in flags or 'IPv6' in flags or not any(':' in host or not host for host in hosts)),
        ('bind', not (one('bind') or one('interface')) or '' not in hosts),
        ('v6only', one('v6only') != 'yes' or 'IPv4' in flags or imported.get('bind-ipv6-only') == 'ipv6-only'),
        ('only_from', 'only_from' not in attributes or {'allow', 'deny'} & set(imported)),
        ('no_access', not attributes.get('no_access') or imported.get('deny')),
        ('access_times', 'access_times' not in attributes or imported.get('access-times')),
        ('instances', number(imported.get('max-connections')) <= number(one('instances'))),
        ('instances, beyond which clients are rejected',
         number(one('instances')) == float('inf') or imported.get('when-full', '').startswith('reject')),
        ('per_source', number(imported.get('max-connections-per-source')) <= number(one('per_source'))),
        ('per_source, beyond which clients are rejected',
         imported.get('when-limited', 'reject').startswith('reject')),
        ('cps of a source', len(attributes.get('cps', [])) != 2
         or rate(imported.get('rate-per-source')) <= (number(one('cps')) or float('inf'))),
        ('max_load', one('max_load') is None),
    ]
    if is_program:
        # Without one, it has that of the server, to which xinetd adds 022.
        umask, wanted = (octal(text) for text in (imported.get('umask', SERVER), one('umask') or '022'))
        checks += [
            ('user', str(imported.get('user')) == one('user')),
            ('group', one('group') is None or str(imported.get('group')) == one('group')),
            ('groups', (one('groups') or '').lower() == 'yes' or imported.get('supplementary-groups') == 'none'),
            ('umask', umask & wanted == wanted),
            ('nice', one('nice') is None or one('nice') == str(imported.get('nice'))),
            ('passenv', 'passenv' not in attributes or imported.get('clear-env')),
            *(
                (name, one(name) is None or size(imported.get(key, 'infinity')) <= size(one(name)))
                for name, key in LIMITS.items()
            ),
        ]
    return [what for what, fits in checks if not fits]


def of_inetd(columns, imported, port):
    """What the imported service permits beyond this line."""
    service, _, protocol, flags, user, program, *words = columns
    hosts = listens(imported, port)
    user, _, group = user.split('/')[0].replace(':', '.').partition('.')
    protocol = protocol.split(',')[0]
    most = re.fullmatch(r'nowait[.:](\d+)', flags)
    checks = [
        ('wait', flags.startswith('nowait')),
        ('address', ':' not in service or service.startswith('*:') or '' not in hosts),
        ('tcp4', protocol != 'tcp4' or not any(':' in host or not host for host in hosts)),
        ('tcp6', protocol != 'tcp6' or imported.get('bind-ipv6-only') == 'ipv6-only'),
        ('rate of a source', most is None or most[1] == '0' or rate(imported.get('rate-per-source')) <= int(most[1]) / 60),
    ]
    if program != 'internal':
        checks += [
            ('program', imported['program'] == [program, *words[1:]]),
            ('its name, which is what tcpd asks about',
             not words or imported.get('argv0', program) == words[0]),
            ('user', str(imported.get('user')) == user),
            ('group', not group or str(imported.get('group')) == group),
            ('supplementary groups', 'supplementary-groups' not in imported
             or imported['supplementary-groups'] == 'none'),
        ]
    return [what for what, fits in checks if not fits]


def permits_more(kind, text, services):
    """For each imported service of a configuration, what it permits beyond the original."""
    originals = list((xinetd_services if kind == 'xinetd' else inetd_services)(text))
    compare = of_xinetd if kind == 'xinetd' else of_inetd
    for name, imported in services.items():
        ports = {port for port, _ in originals if port and listens(imported, port)}
        for port in sorted(ports):
            # Several originals may have the port (`tcp` and `udp`, or `tcp` and `tcp6`): one of
            # them must permit all that the import does.
            found = [compare(one, imported, port) for at, one in originals if at == port]
            yield from (f'{name}: {what}' for what in min(found, key=len))
        if not ports:
            yield f'{name}: no service of the original has its port'
