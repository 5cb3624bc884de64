"""The model of the bus of a fleet, and the simulation of its limits."""

import unittest

from fleet import limit
from fleet.model import Costs, Fleet, fit


class Model(unittest.TestCase):
    def test_messages_follow_from_nodes_rate_and_sources(self):
        for nodes, rate, sources, of_node, delivered in [
            (3, 0, 0, 2, 12),
            # Ten messages about what has changed, and half a list of all.
            (3, 30, 30, 10.5, 63),
            (20, 2_000, 2_000, 10.5, 20 * 19 * 10.5),
            # 2,000 changes and 10,000 sources take several messages.
            (10, 100_000, 100_000, 25, 10 * 9 * 25),
        ]:
            fleet = Fleet(nodes, rate, sources)
            self.assertAlmostEqual(fleet.messages_of_node(), of_node)
            self.assertAlmostEqual(fleet.delivered(), delivered)

    def test_costs_are_found_again(self):
        rows = [(messages, size, 3e-6 * messages + 2e-9 * size)
                for messages, size in [(10, 1e4), (200, 3e6), (5000, 1e6), (900, 9e7)]]
        for found, cost in zip(fit(rows), (3e-6, 2e-9)):
            self.assertAlmostEqual(found, cost, places=12)

    def test_what_breaks_first_depends_on_the_shape(self):
        for fleet, what in [
            (Fleet(3, 1_000, 60_000), 'sources of a node'),
            (Fleet(200, 0, 0), 'nodes of a fleet'),
            (Fleet(100, 1e5, 1e6), 'NATS server'),
        ]:
            self.assertIn(what, fleet.first_to_break(Costs())[0])


class Limit(unittest.TestCase):
    def test_the_bound_holds_while_messages_arrive_in_time(self):
        for nodes in (1, 2, 3, 5, 10):
            for most in (1, 9, 100):
                with self.subTest(nodes=nodes, limit=most):
                    self.assertLess(limit.overshoot(nodes, most, 0.3, runs=2), nodes)

    def test_late_messages_break_it(self):
        self.assertGreater(limit.overshoot(5, 100, 2.0), 4)

    def test_the_whole_limit_is_used(self):
        self.assertGreaterEqual(limit.flood(3, 20, 0.3), 20)


if __name__ == '__main__':
    unittest.main()
