"""The model of the bus of a fleet, and the simulation of its limits."""

import json, pathlib, unittest
import xml.etree.ElementTree as ElementTree

from fleet import constants, curves, limit, nodes, report
from fleet.model import HEAD, Costs, Fleet, fit

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEASURED = json.loads((ROOT / 'bench/fleet/measured.json').read_text())

COSTS = Costs(
    delivered=1e-4, power=0.5, measured_to=40_000, byte=2e-9, ban=6e-6, ban_of_node=2e-6, heard=70e-6, source=0.5e-6, known=1e-6,
    link=7e6, link_source=300,
)  # fmt: skip


class Constants(unittest.TestCase):
    def test_they_are_read_from_the_source(self):
        found = [constants.SAY, constants.HEARTBEAT, constants.WHOLE, constants.TICK, constants.SETTLES_IN]
        self.assertEqual(found, [0.1, 0.5, 2, 0.1, 0.8])
        # 64 KiB for sources of 80 bytes each, less than the 1,000 that a message may have.
        self.assertEqual(constants.ENTRIES, 806)

    def test_one_that_is_gone_is_noticed(self):
        with self.assertRaises(SystemExit):
            constants.of_bus('own', 'NOTHING')


class Model(unittest.TestCase):
    def test_messages_follow_from_nodes_rate_and_sources(self):
        for count, rate, sources, of_node, delivered in [
            # Four signs of life in two seconds, one of which says that there are no sources.
            (3, 0, 0, 2, 18),
            # Ten messages about what has changed, and half a list of all.
            (3, 3_000, 2_000, 10.5, 94.5),
            (20, 20_000, 20_000, 11, 20 * 20 * 11),
            # 20,000 sources are 25 messages, one in each tenth of a second.
            (10, 10_000, 200_000, 20, 10 * 10 * 20),
            # No more changes than two messages have.
            (2, 1e6, 0, 20.5, 2 * 2 * 20.5),
        ]:
            with self.subTest(nodes=count, rate=rate, sources=sources):
                fleet = Fleet(count, rate, sources)
                self.assertAlmostEqual(fleet.messages_of_node(), of_node, delta=0.1)
                self.assertAlmostEqual(fleet.delivered() / delivered, 1, delta=0.01)

    def test_simulated_nodes_say_as_much(self):
        for sources, changes in [(0, 0), (100, 20), (1_000, 100), (5_000, 1_000), (20_000, 16_000)]:
            with self.subTest(sources=sources, changes=changes):
                node, said = nodes.Own(3, sources, changes), []
                for turn in range(200):
                    said += node.say(turn * constants.SAY)
                fleet = Fleet(2, changes, 2 * sources)
                size = sum(len(text) + len(f'MSG tine.fleet.sim.node.n3 1 {len(text)}\r\n\r\n') for text in said)
                self.assertAlmostEqual(len(said) / 20 / fleet.messages_of_node(), 1, delta=0.15)
                self.assertAlmostEqual(size / 20 / (fleet.bytes_delivered() / 4), 1, delta=0.06)

    def test_a_real_node_says_as_much(self):
        for row in MEASURED['saying']:
            with self.subTest(**row):
                # A connection that has ended within a tick is told once, else twice.
                told = 1 if not row['held'] else 2
                self.assertAlmostEqual(row['changes'] / row['rate'], told, delta=0.15)
                # The model has two for each.
                fleet = Fleet(1, row['rate'] * told / 2, 0)
                self.assertAlmostEqual(row['messages'] / fleet.messages_of_node(), 1, delta=0.15)
                # Their addresses are shorter than most.
                size = HEAD * row['messages'] + 20 * row['changes']
                self.assertAlmostEqual(row['bytes'] / size, 1, delta=0.1)

    def test_costs_are_found_again(self):
        rows = [{'delivered': many, 'bytes': size, 'processors': 4e-5 * many**0.7 + 2e-9 * size}
                for many, size in [(10, 1e4), (200, 3e6), (5000, 1e6), (900, 9e7)]]  # fmt: skip
        for found, cost in zip(report.of_deliveries(rows), (0.7, 4e-5, 2e-9)):
            self.assertAlmostEqual(found / cost, 1)
        rows = [(messages, size, 3e-6 * messages + 2e-9 * size)
                for messages, size in [(10, 1e4), (200, 3e6), (5000, 1e6), (900, 9e7)]]  # fmt: skip
        for found, cost in zip(fit(rows), (3e-6, 2e-9)):
            self.assertAlmostEqual(found, cost, places=12)

    def test_no_cost_is_negative(self):
        rows = [(one, other, 2 * one - 0.1 * other) for one, other in [(1, 1), (2, 1), (3, 5), (4, 2)]]
        one, other = fit(rows)
        self.assertGreater(one, 1)
        self.assertEqual(other, 0)

    def test_what_is_used_most_depends_on_the_shape(self):
        for fleet, what in [
            (Fleet(3, 500, 50_000), 'sources of a node'),
            (Fleet(200, 0, 0), 'nodes of a fleet'),
            (Fleet(10, 20_000, 20_000), 'changes that a link tells'),
            (Fleet(100, 100, 150_000), 'sources of a server'),
            (Fleet(5, 0, 0, known_bans=100_000), 'bans'),
            (Fleet(1000, 1e6, 1e7), 'network of the NATS server'),
        ]:
            self.assertEqual(fleet.shares(COSTS)[0][0], what)

    def test_costs_of_a_fleet(self):
        fleet = Fleet(20, 0, 0, bans=1_000)
        self.assertAlmostEqual(fleet.cpu_of_bus(COSTS), 1e-4 * 800**0.5 + 800 * 165 * 2e-9 + 1_000 * 46e-6)
        # No cheaper than what was measured.
        self.assertAlmostEqual(COSTS.deliveries(80_000), 2 * COSTS.deliveries(40_000))
        self.assertAlmostEqual(fleet.cpu_of_link(COSTS), 40 * 70e-6)
        full = Fleet(100, 0, 1e6)
        self.assertEqual(full.known_sources(), constants.SOURCES_OF_LINK)
        self.assertEqual(full.cpu_of_supervisor(COSTS), constants.SOURCES_OF_SERVER * 1e-6)
        self.assertEqual(full.memory_of_link(COSTS), 7e6 + 300 * constants.SOURCES_OF_LINK)

    def test_each_of_several_fleets_has_its_part(self):
        whole = Fleet(1_000, 1e6, 1e7)
        part = whole.sharded(10)
        self.assertEqual((part.nodes, part.rate, part.sources_of_node()), (100, 1e5, whole.sources_of_node()))
        self.assertAlmostEqual(10 * part.delivered() * 10, whole.delivered())


class Limits(unittest.TestCase):
    def test_the_bound_holds_while_messages_take_up_to_a_tenth_of_a_second(self):
        for count in (1, 2, 3, 5, 10):
            for most in (1, 9, 100, 1_000):
                for latency in (0, 0.05, 0.1):
                    with self.subTest(nodes=count, limit=most, latency=latency):
                        self.assertLess(limit.overshoot(count, most, latency, runs=4), count)

    def test_later_ones_can_break_it(self):
        # Found among thousands.
        for count, latency, seed, over in [(4, 0.12, 275, 4), (3, 0.15, 587, 3), (3, 0.2, 20, 3)]:
            found = limit.flood(count, 1_000, latency, seed, seconds=6, spread=(0, 0.5, 3)[seed % 3]) - 1_000
            self.assertGreaterEqual(found, over)
        self.assertGreater(limit.overshoot(5, 1_000, 0.6), 100)

    def test_the_whole_limit_is_used(self):
        self.assertGreaterEqual(limit.flood(3, 20, 0.05), 20)
        self.assertEqual(limit.flood(1, 20, 0.05), 20)
        # A source that comes to one node gets there little by little.
        for seconds, found in [(0.5, 7), (1.5, 11), (8, 20)]:
            self.assertEqual(limit.flood(3, 20, 0.05, seconds=seconds, spread=0, churn=0, visited=1), found)

    def test_a_slow_client_gets_what_a_fast_one_does(self):
        self.assertIn(limit.flood(5, 100, 0.05, rate=1_000), range(100, 105))
        self.assertLessEqual(limit.flood(5, 100, 0.05, rate=10, seconds=5), 50)


class Rates(unittest.TestCase):
    def test_a_rate_holds_in_the_long_run(self):
        for count, rate, burst in [(1, 100, 100), (3, 100, 100), (10, 100, 20), (20, 1_000, 100)]:
            for latency in (0.02, 0.2):
                _, part = limit.rate_flood(count, rate, burst, latency)
                self.assertAlmostEqual(part, 1, delta=0.05)

    def test_at_once_a_burst_more_is_admitted_at_most(self):
        for count, rate, burst in [(3, 100, 100), (10, 100, 100), (20, 100, 100), (10, 1_000, 100)]:
            self.assertLess(limit.rate_overshoot(count, rate, burst, 0.5), burst)

    def test_a_source_at_one_node_gets_ten_shares_of_the_burst_in_a_second(self):
        for count, rate, burst in [(3, 100, 100), (10, 100, 100), (20, 100, 100), (20, 10, 10)]:
            _, part = limit.rate_flood(count, rate, burst, 0.02, spread=0, visited=1)
            expected = min(1, max(1, burst // count) / limit.TICK / rate)
            self.assertAlmostEqual(part, expected, delta=0.05)

    def test_more_nodes_than_a_burst_has_tokens_get_no_more_than_the_rate(self):
        for count, rate, burst in [(20, 10, 10), (20, 10, 3), (10, 10, 3)]:
            over, part = limit.rate_flood(count, rate, burst, 0.02, spread=0)
            self.assertLess(part, 1.02)
            self.assertLess(over, 2 * count)


class Pages(unittest.TestCase):
    def test_tables_and_pictures_are_what_bench_scale_makes(self):
        page = (ROOT / 'docs/scale.md').read_text()
        self.assertTrue(report.filled(page, MEASURED) == page, 'run bench/scale --draw')
        for name, text in report.pictures(MEASURED).items():
            found = (ROOT / 'docs/pictures' / name).read_text()
            self.assertTrue(found == text, f'{name}: run bench/scale --draw')
            self.assertIn(f'(pictures/{name})', page)

    def test_pictures_are_svg_for_both_themes(self):
        for name, text in report.pictures(MEASURED).items():
            root = ElementTree.fromstring(text)
            self.assertTrue(root.find('{http://www.w3.org/2000/svg}desc').text, name)
            self.assertIn('prefers-color-scheme: dark', text)

    def test_a_place_is_that_of_its_value(self):
        straight = curves.Scale([0, 55], 100, 200, log=False)
        self.assertEqual([value for value, _ in straight.marks], [0, 10, 20, 30, 40, 50, 60])
        self.assertEqual([straight(0), straight(30), straight(60)], [100, 150, 200])
        powers = curves.Scale([2, 900], 0, 300, log=True)
        self.assertEqual([value for value, _ in powers.marks], [1, 10, 100, 1000])
        self.assertAlmostEqual(powers(10), 100)

    def test_numbers_are_short(self):
        for value, text in [(0, '0'), (0.0123, '0.0123'), (999, '999'), (1_500, '1.5 k'), (2.5e7, '25 M')]:
            self.assertEqual(curves.short(value), text)


if __name__ == '__main__':
    unittest.main()
