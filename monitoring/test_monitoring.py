"""Checks the monitoring kit: the alerts with promtool, and all names against docs/monitoring.md."""

import json
import pathlib
import re
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent
DOCUMENT = HERE.parent / 'docs' / 'monitoring.md'

# What a family of distributions, or of counts, has behind its name.
SUFFIXES = ('_bucket', '_count', '_sum')


def families():
    """The names in the table of the document."""
    names = re.findall(r'^\| `(tine_\w+)`', DOCUMENT.read_text(), re.M)
    assert len(names) > 30, names
    return set(names)


def used(text):
    """The names of metrics in an expression or a text."""
    for name in re.findall(r'\btine_\w+', text):
        base = next((name[: -len(end)] for end in SUFFIXES if name.endswith(end)), name)
        yield base if base in families() else name


def promtool(*words):
    done = subprocess.run(['promtool', *words], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def panels():
    dashboard = json.loads((HERE / 'grafana.json').read_text())
    return dashboard, [panel for panel in dashboard['panels'] if panel['type'] != 'row']


class Alerts(unittest.TestCase):
    def names(self):
        return re.findall(r'- alert: (\w+)', (HERE / 'alerts.yaml').read_text())

    def test_promtool_accepts_the_rules(self):
        code, said = promtool('check', 'rules', str(HERE / 'alerts.yaml'))
        self.assertEqual(code, 0, said)

    def test_each_alert_fires_and_does_not_fire(self):
        code, said = promtool('test', 'rules', str(HERE / 'alerts.test.yaml'))
        self.assertEqual(code, 0, said)
        tests = (HERE / 'alerts.test.yaml').read_text()
        for name in self.names():
            self.assertIn(f'- name: {name} fires\n', tests)
            self.assertIn(f'- name: {name} does not fire\n', tests)

    def test_each_alert_has_its_section(self):
        headings = re.findall(r'^### (\w+)$', DOCUMENT.read_text(), re.M)
        self.assertEqual(sorted(headings), sorted(self.names()))
        text = (HERE / 'alerts.yaml').read_text()
        for name in self.names():
            self.assertIn(f'docs/monitoring.md#{name.lower()}"', text)

    def test_metrics_of_alerts_exist(self):
        for line in (HERE / 'alerts.yaml').read_text().splitlines():
            for name in used(line):
                self.assertIn(name, families(), line)


class Dashboard(unittest.TestCase):
    def test_panels_are_told_apart(self):
        dashboard, _ = panels()
        ids = [panel['id'] for panel in dashboard['panels']]
        self.assertEqual(len(ids), len(set(ids)))
        for panel in dashboard['panels']:
            self.assertLessEqual(panel['gridPos']['x'] + panel['gridPos']['w'], 24, panel['title'])

    def test_expressions_are_accepted(self):
        rules = []
        for panel in panels()[1]:
            for target in panel['targets']:
                expression = target['expr'].replace('$__rate_interval', '1m')
                expression = re.sub(r'\$\w+', '.*', expression)
                rules.append({'record': f'panel:{panel["id"]}:{target["refId"]}', 'expr': expression})
                for name in used(expression):
                    self.assertIn(name, families(), panel['title'])
        self.assertGreater(len(rules), 30)
        with tempfile.NamedTemporaryFile('w', suffix='.yaml') as file:
            # JSON is YAML, too.
            json.dump({'groups': [{'name': 'panels', 'rules': rules}]}, file)
            file.flush()
            code, said = promtool('check', 'rules', file.name)
        self.assertEqual(code, 0, said)

    def test_each_family_is_shown(self):
        text = json.dumps(panels()[1])
        # What the others are related to, or what a table of instances shows.
        beside = {'tine_generation', 'tine_start_time_seconds', 'tine_phase', 'tine_connections_peak', 'tine_spares'}
        for name in families() - beside:
            self.assertIn(name, text)


if __name__ == '__main__':
    unittest.main()
