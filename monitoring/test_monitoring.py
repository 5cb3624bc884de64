"""Checks the monitoring kit: the alerts with promtool, and all names against docs/monitoring.md."""

import json
import pathlib
import re
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent
DOCUMENT = HERE.parent / 'docs' / 'monitoring.md'

# What Grafana itself replaces in an expression.
BUILT_IN = {'__rate_interval'}

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
        _, *cases = re.split(r'^  - name: ', (HERE / 'alerts.test.yaml').read_text(), flags=re.M)
        cases = dict(case.split('\n', 1) for case in cases)
        expected = {f'{name} {verb}' for name in self.names() for verb in ('fires', 'does not fire')}
        self.assertEqual(set(cases), expected)
        for title, case in cases.items():
            name, verb = title.split(' ', 1)
            self.assertEqual(set(re.findall(r'alertname: (\w+)', case)), {name}, title)
            self.assertEqual('exp_labels:' in case, verb == 'fires', title)

    def test_each_alert_says_what_to_do(self):
        _, *rules = re.split(r'^      - alert: ', (HERE / 'alerts.yaml').read_text(), flags=re.M)
        for rule in rules:
            self.assertRegex(rule, r'(?m)^        for: [1-9]\d*[mh]$')
            self.assertRegex(rule, r'severity: (critical|warning) ')
            self.assertRegex(rule, r'(?m)^          summary: "\S')
            self.assertRegex(rule, r'(?m)^          description: ".*`tine [a-z]+')

    def test_recorded_series_are_used_and_described(self):
        text = (HERE / 'alerts.yaml').read_text()
        recorded = set(re.findall(r'- record: (\S+)', text))
        self.assertEqual(set(re.findall(r'expr: (tine:\S+)', text)), recorded)
        documented = re.findall(r'^\| `(tine:[^`]+)`', DOCUMENT.read_text(), re.M)
        self.assertEqual(set(documented), recorded)

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


class Document(unittest.TestCase):
    def test_metrics_of_the_document_exist(self):
        for line in DOCUMENT.read_text().splitlines():
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
        variables = {variable['name'] for variable in panels()[0]['templating']['list']} | BUILT_IN
        for panel in panels()[1]:
            for target in panel['targets']:
                self.assertLessEqual(set(re.findall(r'\$(\w+)', target['expr'])), variables, panel['title'])
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
        shown = {name for panel in panels()[1] for target in panel['targets'] for name in used(target['expr'])}
        self.assertEqual(shown, families())


if __name__ == '__main__':
    unittest.main()
