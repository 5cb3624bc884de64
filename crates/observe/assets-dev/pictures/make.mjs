// Makes the pictures of the documentation: see scripts/pictures. Arguments: the folder for them,
// and the seconds of load.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch } from '../browser/support/chromium.mjs';
import { Process } from '../browser/support/processes.mjs';
import { tine } from '../browser/support/server.mjs';
import { CONFIG, HOST, load, PROGRAM } from './traffic.mjs';

const [OUT, SECONDS = '150'] = process.argv.slice(2);
const TOKEN = 'token-of-the-pictures';
const TERMINAL = { columns: 100, lines: 30 };
const require = createRequire(import.meta.url);

/** Starts the server of the pictures. Returns its process and its control socket. */
async function serve(folder) {
  // tine top names the server as its socket.
  const control = join(folder, 'orchard.sock');
  const token = join(folder, 'token');
  writeFileSync(token, TOKEN, { mode: 0o600 });
  const config = join(folder, 'tine.toml');
  const values = { token, control, log: join(folder, 'log'), program: PROGRAM };
  writeFileSync(config, CONFIG.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all));
  const server = new Process(tine(), ['serve', '-1', '--config', config]);
  await server.out.find('port', (line) => line);
  return { server, control };
}

async function dashboard(browser, theme, size, name) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  await page.setViewport(size);
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: theme }]);
  await page.goto(`http://${HOST}:9100/#token=${TOKEN}`);
  // Tines grow when the page is opened. Later they move little, and marks of ends have come.
  await page.waitForFunction(() => performance.now() > 8000 && document.querySelectorAll('.tine.is-ended').length > 0
    && document.querySelectorAll('#rows .state').length > 5
    && document.querySelectorAll('#settings tr').length > 3);
  await page.screenshot({ path: join(OUT, name), quality: 88 });
  await context.close();
}

/** What `tine top` has on the screen of a terminal, with its colours. */
async function top(folder, control) {
  const socket = join(folder, 'tmux.sock');
  const config = join(folder, 'tmux.conf');
  writeFileSync(config, 'set -g status off\nset -g default-terminal tmux-256color\n');
  const tmux = (...words) =>
    execFileSync('tmux', ['-S', socket, '-f', config, ...words], { encoding: 'utf8' });
  const server = new Process('tmux', ['-S', socket, '-f', config, '-D']);
  try {
    const size = ['-x', String(TERMINAL.columns), '-y', String(TERMINAL.lines)];
    while (!statSync(socket, { throwIfNoEntry: false })) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    tmux('-N', 'new-session', '-d', ...size, tine(), 'top', '--control', control);
    // Rates are known from the second update on.
    for (const until = Date.now() + 30000; Date.now() < until;) {
      if (/[1-9]\d*\.\d accepted\/s/.test(tmux('-N', 'capture-pane', '-p'))) {
        return tmux('-N', 'capture-pane', '-e', '-p');
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    throw new Error(`tine top has no rates: ${tmux('-N', 'capture-pane', '-p')}`);
  } finally {
    await server.kill();
  }
}

/** Draws a screen with xterm.js, which knows all that a terminal can show. */
async function draw(browser, screen, name) {
  const page = await browser.newPage();
  await page.setViewport({ width: 1100, height: 800, deviceScaleFactor: 1.5 });
  await page.setContent('<body style="margin:0;background:#10151a">'
    + '<div id="screen" style="display:inline-block;padding:14px"></div>');
  await page.addStyleTag({ path: require.resolve('@xterm/xterm/css/xterm.css') });
  await page.addScriptTag({ path: require.resolve('@xterm/xterm') });
  await page.evaluate(async (text, { columns, lines }) => {
    const terminal = new globalThis.Terminal({
      cols: columns, rows: lines, fontSize: 14, fontFamily: '"DejaVu Sans Mono", monospace',
      convertEol: true, cursorInactiveStyle: 'none', scrollback: 0,
      theme: { background: '#10151a', foreground: '#e8edf1' },
    });
    terminal.open(document.getElementById('screen'));
    await new Promise((resolve) => terminal.write(text, resolve));
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  }, screen.replace(/\n$/, ''), TERMINAL);
  await (await page.$('#screen')).screenshot({ path: join(OUT, name), quality: 88 });
}

const folder = mkdtempSync(join(tmpdir(), 'tine-pictures-'));
const browser = await launch();
try {
  const { server, control } = await serve(folder);
  // It goes on while the pictures are made.
  load(Number(SECONDS) + 60);
  await new Promise((resolve) => setTimeout(resolve, 1000 * Number(SECONDS)));
  const desktop = { width: 1440, height: 1440 };
  await dashboard(browser, 'dark', desktop, 'dashboard-dark.webp');
  await dashboard(browser, 'light', desktop, 'dashboard-light.webp');
  const phone = { width: 390, height: 980, deviceScaleFactor: 2 };
  await dashboard(browser, 'dark', phone, 'dashboard-phone.webp');
  await draw(browser, await top(folder, control), 'top.webp');
  await server.kill();
} finally {
  await browser.close();
  rmSync(folder, { recursive: true });
}
for (const name of ['dashboard-dark.webp', 'dashboard-light.webp', 'dashboard-phone.webp', 'top.webp']) {
  console.log(`${name}: ${Math.round(statSync(join(OUT, name)).size / 1024)} KiB`);
}
process.exit();
