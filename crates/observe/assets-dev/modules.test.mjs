// Tests of the modules of the dashboard that need no browser: see README.md.

import assert from 'node:assert/strict';
import test from 'node:test';
import { agePoints, byAge, byNetwork, networkOf } from '../assets/groups.js';
import { History, quantile } from '../assets/history.js';
import { family, familyOfKind, isCrash } from '../assets/outcome.js';
import { EventParser } from '../assets/stream.js';
import { bytes, duration } from '../assets/format.js';
import { blockOf, fullId, hostOf, isLive } from '../assets/targets.js';

test('events are the same, whatever the pieces they come in', () => {
  const text = ': hello\nid: 7\nevent: sample\ndata: {"a":\ndata: 1}\n\r\ndata:x\r\n\r\ndata: lost';
  for (let size = 1; size < text.length; size += 1) {
    const events = [];
    const parser = new EventParser((event) => events.push(event));
    for (let at = 0; at < text.length; at += size) {
      parser.feed(text.slice(at, at + size));
    }
    assert.deepEqual(events, [
      { name: 'sample', id: '7', data: '{"a":\n1}' },
      { name: 'message', id: undefined, data: 'x' },
    ]);
  }
});

test('quantiles are of what was added', () => {
  const bounds = [1, 10, 100];
  const before = { bounds, counts: [5, 0, 0, 0] };
  const after = { bounds, counts: [5, 10, 0, 1] };
  const median = quantile(before, after, 0.5);
  // Half of eleven: in the second bucket, whose values are taken to be log-linear.
  assert.ok(median > 3.5 && median < 3.6, `${median}`);
  assert.equal(quantile(before, after, 0.99), 100);
  assert.equal(quantile(before, before, 0.5), null);
  assert.equal(quantile(null, after, 0.5), null);
});

function sample(time, accepted, extra = {}) {
  return { time, services: [{ service: null, connections: 2, accepted, ended_by_kind: { success: accepted },
    rejected_by_reason: {}, processes: [], ...extra }], live: [], ended: [] };
}

test('rates need two samples of one server', () => {
  const history = new History();
  for (let second = 0; second < 30; second += 1) {
    assert.ok(history.add(sample(1000 + second, 3 * second)));
  }
  assert.equal(history.points[0].accepted, null);
  assert.equal(history.points.at(-1).accepted, 3);
  assert.equal(history.add(sample(1029, 90)), false, 'the same time again');
  // Started again: the counter is lower, and there is no rate until the window is filled anew.
  history.add(sample(1030, 0));
  assert.equal(history.points.at(-1).accepted, null);
});

test('not more than an hour is kept', () => {
  const history = new History();
  for (let second = 0; second < 4000; second += 1) {
    history.add(sample(second, second));
  }
  assert.equal(history.samples.length, 3600);
  assert.equal(history.points.length, 3600);
  assert.equal(history.points[0].time, 400);
});

test('the reasons for most rejections, in the order of their names', () => {
  const history = new History();
  assert.deepEqual(history.reasons(2), []);
  history.add(sample(1, 0, { rejected_by_reason: { banned: 0, denied: 1, full: 7, source: 3 } }));
  assert.deepEqual(history.reasons(2), ['full', 'source']);
  assert.deepEqual(history.reasons(9), ['denied', 'full', 'source']);
});

test('histograms without bounds get those of the metrics', () => {
  const history = new History();
  history.add(sample(1, 0, { duration: [0, 0, 0] }));
  history.add(sample(2, 4, { duration: [0, 4, 0] }));
  assert.equal(history.points.at(-1).durationMedian, null);
  history.learnBounds([{ duration: { bounds: [1, 2], counts: [0, 0, 0] } }]);
  const median = history.points.at(-1).durationMedian;
  assert.ok(median > 1 && median < 2, `${median}`);
});

test('groups by age have all connections', () => {
  const live = Array.from({ length: 200 }, (_, i) => ({ peer: '192.0.2.1:5', age_ms: i * 20 }));
  const ranks = [[1000, 30], [5000, 700], [9999, 4000]];
  const groups = byAge(agePoints(live, ranks, 10000));
  assert.equal(groups.reduce((sum, group) => sum + group.number, 0), 10000);
  for (const group of groups) {
    assert.ok(group.ages.length > 0 && group.ages.length < 60);
    assert.ok(group.ages.every((age, i) => i === 0 || age >= group.ages[i - 1]));
  }
  assert.deepEqual(byAge(agePoints([], [], 0)), []);
});

test('networks of peers', () => {
  assert.equal(networkOf('192.0.2.7:80'), '192.0.2.0/24');
  assert.equal(networkOf('[2001:db8:1:2::3]:80'), '2001:db8:1::/48');
  assert.equal(networkOf('[2001:db8::3]:80'), '2001:db8:0::/48');
  assert.equal(networkOf('[::1]:80'), '0:0:0::/48');
  assert.equal(networkOf('uid:0'), 'uid:0');
  const live = Array.from({ length: 20 }, (_, i) => ({ peer: `10.0.${i}.1:9`, age_ms: 5 }));
  assert.equal(byNetwork(live).length, 10);
  assert.equal(byNetwork(live).at(-1).number, 11);
});

test('families of outcomes and kinds', () => {
  assert.equal(family('exit 0'), 'success');
  assert.equal(family('exit 111'), 'exit');
  assert.equal(family('client gone'), 'client');
  assert.equal(family('timeout keep-alive'), 'timeout');
  assert.equal(family('signal SEGV'), 'crash');
  assert.equal(family(undefined, 'killed'), 'killed');
  assert.equal(familyOfKind('client_gone'), 'client');
  assert.equal(familyOfKind('timeout_idle'), 'timeout');
  assert.equal(familyOfKind('something new'), 'exit');
  assert.ok(isCrash('panic x') && isCrash('error y') && !isCrash('exit 1'));
});

test('units', () => {
  assert.equal(bytes(1536), '1.5\u00a0KiB');
  assert.equal(bytes(NaN), '–');
  assert.equal(duration(0.0000005), '1\u00a0µs');
  assert.equal(duration(59.7), '60\u00a0s');
  assert.equal(duration(3661), '1\u00a0h 1\u00a0min');
});

test('what can be killed and banned', () => {
  assert.equal(fullId({ id: 7, service: null }), '7');
  assert.equal(fullId({ id: 7, service: 'git' }), 'git:7');
  assert.equal(fullId({ id: 'git:7', service: 'git' }), 'git:7');
  assert.equal(hostOf('192.0.2.7:80'), '192.0.2.7');
  assert.equal(hostOf('[2001:db8::1]:443'), '2001:db8::1');
  assert.equal(hostOf('[fe80::1%3]:9'), 'fe80::1');
  assert.equal(hostOf('[::ffff:192.0.2.1]:9'), '::ffff:192.0.2.1');
  for (const other of ['uid:0', 'vsock:2:7', '192.0.2.0/24', '', undefined]) {
    assert.equal(hostOf(other), null);
  }
  assert.ok(isLive({ state: 'ending' }) && !isLive({ state: 'ended' }) && !isLive({ outcome: 'exit 0' }));
  assert.deepEqual(blockOf({ peer: '192.0.2.0/24', search: '', service: null }), { peer: '192.0.2.0/24' });
  assert.deepEqual(blockOf({ peer: '::/0', search: '', service: 'git' }), { peer: '::/0', service: 'git' });
  assert.equal(blockOf({ peer: '::/0', search: 'x', service: null }), null);
  assert.equal(blockOf({ peer: '', search: '', service: 'git' }), null);
});
