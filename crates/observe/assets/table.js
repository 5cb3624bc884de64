// The table of connections. Only the rows in view exist; pages of them are fetched as needed.

import { byId, el, setText } from './dom.js';
import { bytes, count, duration } from './format.js';
import { get } from './api.js';
import { FAMILIES, SHAPES, family } from './outcome.js';
import { svg } from './dom.js';

const PAGE = 100;
const KEPT_PAGES = 6;
const ROW = 38;
const EXTRA = 6;
const REFRESH = 3000;

export class ConnectionTable {
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.query = { ended: false, sort: '-id', search: '', peer: '', service: null };
    this.pages = new Map();
    this.pending = new Set();
    this.total = 0;
    this.round = 0;
    this.rows = [];
    this.paused = false;
    this.box = byId('rows-box');
    this.body = byId('rows');
    this.before = el('tr', { class: 'spacer', 'aria-hidden': 'true' }, el('td', { colspan: 6 }));
    this.after = el('tr', { class: 'spacer', 'aria-hidden': 'true' }, el('td', { colspan: 6 }));
    this.body.replaceChildren(this.before, this.after);
    this.listen();
    setInterval(() => this.refresh(), REFRESH);
  }

  listen() {
    let waiting = null;
    this.box.addEventListener('scroll', () => {
      // Once a tenth of a second while scrolling is enough.
      waiting ??= setTimeout(() => {
        waiting = null;
        this.render();
      }, 60);
    });
    let typing;
    const typed = () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.change({
        search: byId('search').value.trim(), peer: byId('peer').value.trim(),
      }), 300);
    };
    byId('search').addEventListener('input', typed);
    byId('peer').addEventListener('input', typed);
    for (const radio of document.querySelectorAll('input[name=ended]')) {
      radio.addEventListener('change', () => this.change({ ended: radio.value === 'true' }));
    }
    for (const button of document.querySelectorAll('#rows-head button')) {
      button.addEventListener('click', () => this.sortBy(button.dataset.sort));
    }
    this.showSort();
  }

  sortBy(name) {
    // Numbers begin with the largest, addresses with the smallest.
    const first = name === 'peer' ? name : `-${name}`;
    const other = name === 'peer' ? `-${name}` : name;
    this.change({ sort: this.query.sort === first ? other : first });
    this.showSort();
  }

  showSort() {
    const { sort } = this.query;
    for (const button of document.querySelectorAll('#rows-head button')) {
      const name = button.dataset.sort;
      const isThis = sort.replace('-', '') === name;
      const order = sort.startsWith('-') ? 'descending' : 'ascending';
      button.closest('th').setAttribute('aria-sort', isThis ? order : 'none');
    }
  }

  change(query) {
    Object.assign(this.query, query);
    setText(byId('state-head'), this.query.ended ? 'Outcome' : 'State');
    setText(byId('age-head'), this.query.ended ? 'Duration' : 'Age');
    this.box.scrollTop = 0;
    this.announce = true;
    this.forget();
    this.render();
  }

  forget() {
    this.round += 1;
    this.pages.clear();
    this.pending.clear();
  }

  /** The first row in view, and how many there are, with some more at both ends. */
  window() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - EXTRA);
    const number = Math.ceil(this.box.clientHeight / ROW) + 2 * EXTRA;
    return { first, last: Math.min(this.total, first + number) };
  }

  pagesInView() {
    const { first, last } = this.window();
    const pages = [];
    for (let page = Math.floor(first / PAGE); page * PAGE < Math.max(last, 1); page += 1) {
      pages.push(page);
    }
    return pages;
  }

  async fetch(page) {
    if (this.pending.has(page)) {
      return;
    }
    this.pending.add(page);
    const { round } = this;
    try {
      const reply = await get('connections', { ...this.query, limit: PAGE, offset: page * PAGE });
      if (round !== this.round) {
        return;
      }
      this.pages.delete(page);
      this.pages.set(page, reply.connections ?? []);
      while (this.pages.size > KEPT_PAGES) {
        this.pages.delete(this.pages.keys().next().value);
      }
      this.total = reply.total ?? 0;
      // Before the rows are drawn: that none matches is said only when nothing is awaited.
      this.pending.delete(page);
      this.say('');
      this.render();
    } catch (error) {
      if (round === this.round) {
        this.say(error.message);
      }
    } finally {
      if (round === this.round) {
        this.pending.delete(page);
      }
    }
  }

  say(problem) {
    setText(byId('rows-problem'), problem ? `The table could not be read: ${problem}.` : '');
    setText(byId('rows-total'), `${count(this.total)} ${this.query.ended ? 'ended' : 'live'}`);
    // Only after a change by the user: a live region must not chatter.
    if (this.announce && !problem) {
      this.announce = false;
      setText(byId('announce'), `${count(this.total)} connections in the table`);
    }
  }

  /** Reads again what is in view. */
  refresh() {
    if (document.hidden || this.paused || byId('details').open) {
      return;
    }
    const inView = this.pagesInView();
    for (const page of [...this.pages.keys()]) {
      if (!inView.includes(page)) {
        this.pages.delete(page);
      }
    }
    inView.forEach((page) => this.fetch(page));
  }

  render() {
    const { first, last } = this.window();
    for (const page of this.pagesInView()) {
      if (!this.pages.has(page)) {
        this.fetch(page);
      }
    }
    const number = Math.max(0, last - first);
    while (this.rows.length < number) {
      const row = this.row();
      this.rows.push(row);
      this.after.before(row.node);
    }
    while (this.rows.length > number) {
      this.rows.pop().node.remove();
    }
    this.spacer(this.before, first);
    this.spacer(this.after, Math.max(0, this.total - last));
    byId('table').setAttribute('aria-rowcount', String(this.total + 1));
    this.rows.forEach((row, i) => this.fill(row, first + i));
    byId('rows-nothing').hidden = this.total > 0 || this.pending.size > 0;
  }

  spacer(node, rows) {
    node.hidden = rows === 0;
    node.firstChild.style.height = `${rows * ROW}px`;
  }

  row() {
    const open = el('button', { type: 'button', class: 'link' });
    const mark = svg('svg', { class: 'end-mark', viewBox: '-7 -7 14 14', 'aria-hidden': 'true' },
      svg('path', { d: '' }));
    const state = el('span');
    const cells = {
      id: el('th', { scope: 'row' }, open), peer: el('td', { class: 'peer' }),
      state: el('td', { class: 'state' }, mark, state), age: el('td', { class: 'number' }),
      in: el('td', { class: 'number' }), out: el('td', { class: 'number' }),
    };
    const node = el('tr', {}, ...Object.values(cells));
    const row = { node, cells, open, mark, state, data: null };
    open.addEventListener('click', () => row.data && this.onChoose(row.data));
    return row;
  }

  fill(row, index) {
    const data = this.pages.get(Math.floor(index / PAGE))?.[index % PAGE] ?? null;
    row.data = data;
    row.node.setAttribute('aria-rowindex', String(index + 2));
    row.node.classList.toggle('is-loading', data === null);
    setText(row.open, data ? data.id : '…');
    row.open.setAttribute('aria-label', data ? `Connection ${data.id}, details` : 'Loading');
    setText(row.cells.peer, data?.peer ?? '');
    row.cells.peer.title = data?.peer ?? '';
    const outcome = data?.outcome ?? data?.state ?? '';
    setText(row.state, outcome);
    row.cells.state.title = outcome;
    const name = data?.outcome ? family(data.outcome) : null;
    const isKnown = FAMILIES.some((one) => one.name === name);
    row.mark.setAttribute('class', isKnown ? `end-mark end-${name}` : 'end-mark is-live');
    row.mark.firstChild.setAttribute('d', isKnown ? SHAPES[name] : 'M0 0h0.01');
    setText(row.cells.age, data ? duration(data.age_ms / 1000) : '');
    setText(row.cells.in, data ? bytes(data.bytes_in ?? NaN) : '');
    setText(row.cells.out, data ? bytes(data.bytes_out ?? NaN) : '');
  }
}
