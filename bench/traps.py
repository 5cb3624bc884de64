"""Configurations in which an import can permit more than the original, or less: bench/imports
serves each by both, and compares which clients get an answer."""

NECESSARY = {
    'type': 'UNLISTED',
    'port': '8001',
    'socket_type': 'stream',
    'wait': 'no',
    'server': '/usr/sbin/witnessed',
    'user': 'daemon',
}

HOSTS = '10.1.2.3 gate.example gate\n192.0.2.7 far.example\n2001:db8::7 gate.example\n'

# Rules with names have `flags = IPv4`: at a socket of both families, xinetd finds no name in
# /etc/hosts for a client of IPv4.
#
# Attributes that replace the necessary ones, or come after them; `without NAME` removes one.
XINETD = '''
umask = 027
flags = IPv4
flags = IPv6
flags = IPv4 IPv6
flags = ipv4
flags = NEW
flags =
flags = IPv4 | flags = IPv6
flags += IPv4
v6only = yes
v6only = no
v6only = yes | flags = IPv4
v6only = maybe
bind = 127.0.0.1
bind = 10.1.2.3
bind = ::1
bind = localhost
bind = gate.example
bind = gate.example | flags = IPv4
bind = far.example
bind = no-such-host.invalid
interface = 127.0.0.1 | bind = 10.1.2.3
bind = 127.1
bind = 0.0.0.0
bind = ::
bind = 127.0.0.1 | flags = IPv6
only_from = 127.0.0.1
only_from = 127.0.0.0
only_from = 127.5
only_from = 127.5.0
only_from = 127
only_from = 0.0.0.0
only_from = 10
only_from = 10.1.{2,3}
only_from = 10.1.{2.3}
only_from = {10,127}
only_from = 10.{1}
only_from = 010.1.2.3
only_from = 0x7f.0.0.1
only_from = ::
only_from = ::/0
only_from = ::1
only_from = ::1/128
only_from = 2001:db8::/32
only_from = 2001:db8::
only_from = 127.0.0.1/8
only_from = 127.0.0.1/33
only_from = 127.0.0.1/0
only_from = 127.0.0.1,10.1.2.3
only_from = 127.0.0.1, 10.1.2.3
only_from = loopback
only_from = localhost | flags = IPv4
only_from = gate.example | flags = IPv4
only_from = gate | flags = IPv4
only_from = GATE.example | flags = IPv4
only_from = .example | flags = IPv4
only_from = .EXAMPLE | flags = IPv4
only_from = example | flags = IPv4
only_from =
only_from = 10.0.0.0 | only_from = 127.0.0.0
only_from = 10.0.0.0 | only_from += 127.0.0.0
only_from = 10.0.0.0 127.0.0.0 | only_from -= 127.0.0.0
only_from = 10.0.0.0 127.0.0.0 | only_from -= 127.0.0.0/8
only_from += 10.0.0.0
only_from = 127.5.0.1 | no_access = 127.0.0.0
only_from = 127.0.0.0 | no_access = 127.5.0.1
only_from = 10.1.2.3 | no_access = gate.example | flags = IPv4
only_from = 10.1.2.3 | no_access = .example | flags = IPv4
only_from = 10.0.0.0 | no_access = .example | flags = IPv4
only_from = .example | no_access = 10.0.0.0 | flags = IPv4
only_from = gate.example | no_access = 10.0.0.0 | flags = IPv4
only_from = gate.example | no_access = .example | flags = IPv4
only_from = .example | no_access = gate.example | flags = IPv4
only_from = 127.0.0.0 10.0.0.0 | no_access = 127.5 gate.example | flags = IPv4
no_access = 127.0.0.0
no_access = 127.5
no_access = 127.5.0.1
no_access = gate.example | flags = IPv4
no_access = gate | flags = IPv4
no_access = .example | flags = IPv4
no_access = 127.0.0.1,10.1.2.3
no_access = no-such-host.invalid
no_access = 10.0.0.0 | no_access = 127.0.0.0
no_access = 10.0.0.0 | no_access += 127.0.0.0
no_access = ::/0
no_access = 0.0.0.0
access_times = 0:00-23:59
access_times = 1:00-1:01
access_times = 1:00-1:01 0:00-23:59
access_times = 24:00-25:00
access_times = 23:59-0:00
access_times = nonsense
access_times =
instances = 0
instances = 5
instances = unlimited
instances = UNLIMITED
instances = -1
instances = 5 6
per_source = 0
per_source = unlimited
per_source = -1
cps = 5 60
cps = 0 0
cps = 5
cps = 5 many
max_load = 100000
max_load = 0
max_load = 0.000001
max_load = much
wait = No
wait = yes
without wait
without user
without server
without socket_type
without type
without port
user = no-such-user
user = 1
user = 1 | group = 2
user = 4
user = 4711
user = 4711 | groups = yes
user = root
user = daemon root
group = no-such-group
group = 2
group = mail
groups = yes
groups = no
groups = Yes
type = unlisted
type = UNLISTED NEW
type =
port = http
port = 0
port = 70000
port = 8001 8002
socket_type = STREAM
socket_type = seqpacket
protocol = tcp
protocol = TCP
protocol = tcp6
protocol = udp
protocol = tcp | without socket_type
server = /usr/sbin/witnessed-not
server = witnessed
server_args = a b
server_args =
flags = NAMEINARGS
flags = NAMEINARGS | server_args = kitty a
flags = NODELAY KEEPALIVE REUSE NORETRY
flags = SENSOR
flags = LABELED
flags = IDONLY
flags = IDONLY | log_on_success = USERID
flags = INTERCEPT
flags = NOLIBWRAP
disable = no
disable = No
disable = yes
disable =
env = A=1
env = A
env = A=1 | env = B=2
env = REMOTE_HOST=nobody
env = LD_PRELOAD=
passenv = PATH
passenv =
passenv = NOTHING
passenv = PATH | passenv = INHERITED
nice = 5
nice = x
umask = 0
umask = 888
umask = 0777
umask = 1777
rlimit_files = 64
rlimit_files = unlimited
rlimit_files = UNLIMITED
rlimit_files = 64G
rlimit_as = 64M
rlimit_cpu = 10
rlimit_cpu = 10M
rlimit_stack = 1M
rlimit_data = x
log_type = SYSLOG daemon
log_type = SYSLOG nowhere
log_type = FILE /dev/null
log_type = nothing
log_on_success = HOST
log_on_success = TRAFFIC
log_on_success = NEW
log_on_failure = HOST ATTEMPT
log_on_failure = NEW
log_on_failure = RECORD
deny_time = 5
deny_time = ever
redirect = 127.0.0.1 8009
redirect = 127.0.0.1 8009 | flags = NAMEINARGS | server_args = a
redirect = 127.0.0.1 nowhere
redirect = no-such-host.invalid 80
banner = /etc/hostname
banner = /nowhere
banner_success = /etc/hostname
banner_fail = /etc/hostname | only_from = 192.0.2.1
libwrap = other
mdns = yes
mdns = maybe
rpc_version = 1
id = other
colour = blue
USER = root
'''

DEFAULTS = '''
only_from = 127.0.0.1
no_access = 127.0.0.1
instances = 5
per_source = many
cps = 1 many
umask = 077
umask = 999
groups = yes
bind = 127.0.0.1
bind = localhost
v6only = yes
v6only = no
enabled = other
enabled = it
disabled = it
user = root
access_times = 1:00-1:01
passenv = PATH
log_type = nothing
only_from = 10.0.0.0 | only_from = 127.0.0.1
colour = blue
'''

# Of the text after a service of that name; `%s` is the service.
AROUND = {
    'the defaults come after the service': '%s\ndefaults\n{\n\tonly_from = 10.0.0.0\n\tumask = 077\n}\n',
    'a second service of the same port': '%s\nservice other\n{\n\ttype = UNLISTED\n\tport = 8001\n'
    '\tsocket_type = stream\n\twait = no\n\tserver = /usr/sbin/witnessed\n\tuser = root\n}\n',
    'a second service of the same port, disabled': '%s\nservice other\n{\n\ttype = UNLISTED\n\tport = 8001\n'
    '\tsocket_type = stream\n\twait = no\n\tserver = /usr/sbin/witnessed\n\tuser = root\n\tdisable = yes\n}\n',
    'a second service of the same name': '%s\nservice it\n{\n\ttype = UNLISTED\n\tport = 8002\n'
    '\tsocket_type = stream\n\twait = no\n\tserver = /usr/sbin/witnessed\n\tuser = root\n}\n',
    'services of both families': '%s\nservice other\n{\n\ttype = UNLISTED\n\tport = 8001\n\tflags = IPv4\n'
    '\tsocket_type = stream\n\twait = no\n\tserver = /usr/sbin/witnessed\n\tuser = root\n}\n',
    'two defaults': 'defaults\n{\n\tinstances = 5\n}\ndefaults\n{\n\tonly_from = 10.0.0.0\n}\n%s',
    'a fault of the defaults': 'defaults\n{\n\tonly_from 10.0.0.0\n}\n%s',
    'a fault after only_from in the defaults': 'defaults\n{\n\tonly_from = 10.0.0.0\n\tinstances\n}\n%s',
}

INETD = '''
8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
8001 stream tcp4 nowait daemon /usr/sbin/witnessed witnessed
8001 stream tcp6 nowait daemon /usr/sbin/witnessed witnessed
8001 stream tcp46 nowait daemon /usr/sbin/witnessed witnessed
8001 stream tcp6only nowait daemon /usr/sbin/witnessed witnessed
8001 stream tcp5 nowait daemon /usr/sbin/witnessed witnessed
8001 stream TCP nowait daemon /usr/sbin/witnessed witnessed
8001 STREAM tcp nowait daemon /usr/sbin/witnessed witnessed
8001 stream tcp,sndbuf=16k nowait daemon /usr/sbin/witnessed witnessed
8001 stream tcp,rcvbuf=x nowait daemon /usr/sbin/witnessed witnessed
8001 stream tcp nowait.5 daemon /usr/sbin/witnessed witnessed
8001 stream tcp nowait.0 daemon /usr/sbin/witnessed witnessed
8001 stream tcp nowait:5 daemon /usr/sbin/witnessed witnessed
8001 stream tcp nowait/5 daemon /usr/sbin/witnessed witnessed
8001 stream tcp nowait.x daemon /usr/sbin/witnessed witnessed
8001 stream tcp wait daemon /usr/sbin/witnessed witnessed
8001 stream tcp maybe daemon /usr/sbin/witnessed witnessed
8001 stream tcp nowait daemon.mail /usr/sbin/witnessed witnessed
8001 stream tcp nowait daemon:mail /usr/sbin/witnessed witnessed
8001 stream tcp nowait daemon.no-such-group /usr/sbin/witnessed witnessed
8001 stream tcp nowait no-such-user /usr/sbin/witnessed witnessed
8001 stream tcp nowait 1 /usr/sbin/witnessed witnessed
8001 stream tcp nowait root /usr/sbin/witnessed witnessed
8001 stream tcp nowait root.mail /usr/sbin/witnessed witnessed
8001 stream tcp nowait daemon /usr/sbin/witnessed
8001 stream tcp nowait daemon /usr/sbin/witnessed other a b
8001 stream tcp nowait daemon /usr/sbin/witnessed-not witnessed
8001 stream tcp nowait daemon witnessed witnessed
127.0.0.1:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
10.1.2.3:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
127.0.0.1,10.1.2.3:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
[::1]:8001 stream tcp6 nowait daemon /usr/sbin/witnessed witnessed
[::1]:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
::1:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
127.0.0.1:8001 stream tcp6 nowait daemon /usr/sbin/witnessed witnessed
localhost:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
localhost:8001 stream tcp4 nowait daemon /usr/sbin/witnessed witnessed
gate.example:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
gate.example:8001 stream tcp4 nowait daemon /usr/sbin/witnessed witnessed
gate.example:8001 stream tcp6 nowait daemon /usr/sbin/witnessed witnessed
no-such-host.invalid:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
*:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
127.0.0.1: | 8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
10.1.2.3: | *:8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
10.1.2.3: | *: | 8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
localhost: | 8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed
8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed | 8001 stream tcp6 nowait root /usr/sbin/witnessed witnessed
8001 stream tcp nowait daemon /usr/sbin/witnessed witnessed | 8001 stream tcp nowait root /usr/sbin/witnessed witnessed
8001 stream tcp4 nowait daemon /usr/sbin/witnessed witnessed | 8001 stream tcp6 nowait root /usr/sbin/witnessed witnessed
'''


def service(attributes):
    """A section with these attributes, which replace the necessary ones of the same name."""
    lines = [line.strip() for line in attributes.split('|')]
    replaced = {line.removeprefix('without ').split()[0] for line in lines if line}
    kept = [f'{name} = {value}' for name, value in NECESSARY.items() if name not in replaced]
    lines = kept + [line for line in lines if line and not line.startswith('without ')]
    return 'service it\n{\n' + ''.join(f'\t{line}\n' for line in lines) + '}\n'


def configurations():
    """Name, kind and text of each."""
    for attributes in XINETD.strip().splitlines():
        yield f'xinetd: {attributes}', 'xinetd', service(attributes)
    for attributes in DEFAULTS.strip().splitlines():
        lines = ''.join(f'\t{line.strip()}\n' for line in attributes.split('|'))
        yield f'xinetd, defaults: {attributes}', 'xinetd', f'defaults\n{{\n{lines}}}\n{service("")}'
    for name, text in AROUND.items():
        yield f'xinetd: {name}', 'xinetd', text % service('')
    for lines in INETD.strip().splitlines():
        yield f'inetd: {lines}', 'inetd', '\n'.join(line.strip() for line in lines.split('|')) + '\n'
