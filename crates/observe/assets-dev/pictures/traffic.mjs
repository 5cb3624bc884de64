// A small load as a server has it on a quiet day: clients from some networks, that come at random,
// stay for different times and end in different ways. The addresses are those for documentation.

import net from 'node:net';

export const HOST = '203.0.113.10';
export const NETWORKS = ['192.0.2', '198.51.100'];

/** What `tine serve --config` gets. */
export const CONFIG = `
name = 'orchard'
observe = '${HOST}:9100'
observe-token = '{token}'
control = '{control}'
log-file = '{log}'

[defaults]
max-connections = 128

[services.git]
listen = ['${HOST}:9418', '[2001:db8::10]:9418']
program = ['sh', '-c', '''{program}''']
max-connections-per-source = 6

[services.mail]
listen = '${HOST}:25'
program = ['sh', '-c', '''{program}''']
idle-timeout = '12s'
rate-per-source = '1/s:5'
deny = ['192.0.2.192/26']

[services.chat]
listen = '${HOST}:6667'
service = 'echo'
spares = 3
`;

/** The program: a client asks for bytes, or says how its process shall end. */
export const PROGRAM = `while read -r word number; do
  case $word in
    get) head -c "$number" /dev/zero ;;
    fail) exit "$number" ;;
    crash) kill -s "$number" $$ ;;
  esac
done`;

const random = (list) => list[Math.floor(Math.random() * list.length)];
const between = (least, most) => Math.exp(Math.log(least) + Math.random() * Math.log(most / least));

/** Which service, and how a client of it ends: the more often it is named, the likelier. */
const KINDS = [
  ...Array(8).fill(['git', 9418, 'close']), ...Array(5).fill(['chat', 6667, 'close']),
  ...Array(4).fill(['mail', 25, 'close']), ['mail', 25, 'silent'], ['mail', 25, 'silent'],
  ['git', 9418, 'reset'], ['chat', 6667, 'reset'], ['git', 9418, 'fail 128'], ['mail', 25, 'fail 75'],
  ['git', 9418, 'crash SEGV'],
];

/** A client that comes now, exchanges something now and then, and ends after its time. */
function come(from = `${random(NETWORKS)}.${1 + Math.floor(Math.random() * 60)}`) {
  const [service, port, end] = random(KINDS);
  const isNew = service === 'git' && Math.random() < 0.25;
  const [host, localAddress] = isNew ? ['2001:db8::10', '2001:db8::7'] : [HOST, from];
  const socket = net.connect({ host, port, localAddress });
  socket.on('error', () => {});
  socket.resume();
  const talk = () => end !== 'silent' && socket.write(service === 'chat'
    ? 'x'.repeat(between(10, 2000)) : `get ${Math.round(between(200, 60000))}\n`);
  talk();
  const talking = setInterval(talk, between(400, 6000));
  const ending = setTimeout(() => {
    if (end === 'close' || end === 'silent') {
      socket.end();
    } else if (end === 'reset') {
      socket.resetAndDestroy();
    } else {
      socket.write(`${end}\n`);
    }
  }, between(80, end === 'silent' ? 100000 : 150000));
  socket.once('close', () => {
    clearInterval(talking);
    clearTimeout(ending);
  });
}

/** One that comes too often, and one whose network is denied. */
function knock(from) {
  const socket = net.connect({ host: HOST, port: 25, localAddress: from });
  socket.on('error', () => {});
  socket.resume();
  setTimeout(() => socket.end(), 300);
}

/** Loads the server for these seconds. */
export async function load(seconds) {
  const until = Date.now() + 1000 * seconds;
  for (let second = 0; Date.now() < until; second += 0.25) {
    // Busier and quieter, as in a day.
    if (Math.random() < 0.5 + 0.25 * Math.sin(second / 9)) {
      come();
    }
    if (second % 40 > 20 && second % 40 < 28) {
      knock('198.51.100.77');
    }
    if (Math.random() < 0.04) {
      knock('192.0.2.201');
    }
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}
