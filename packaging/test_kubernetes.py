"""Validates the manifests for Kubernetes without a cluster, and runs their command in namespaces
that are as a pod.

Run as root: python3 -m unittest discover packaging
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

from test_packaging import ROOT, Process, run, wait_until

HERE = Path(__file__).resolve().parent / "kubernetes"
VALIDATE = ROOT / "target/python/bin/kubernetes-validate"
# The oldest version of Kubernetes that the manifests are for, and the newest that is known here.
VERSIONS = ("1.29", "1.37")
# Not of Kubernetes itself.
OTHERS = ("kustomization", "servicemonitor", "prometheus-adapter")
# What the end of connections can take beyond the drain timeout (docs/operating.md): TERM and KILL,
# and the wait for processes that do not die.
END_OF_CONNECTIONS = 9
# The fields of a ServiceMonitor that are used here, by the API of the operator of Prometheus
# (monitoring.coreos.com/v1).
OF_MONITOR = {"jobLabel", "selector", "endpoints"}
OF_ENDPOINT = {"port", "path", "interval", "honorLabels", "authorization"}


def manifest(name):
    return yaml.safe_load((HERE / f"{name}.yaml").read_text())


def pod():
    return manifest("deployment")["spec"]["template"]["spec"]


def container():
    (only,) = pod()["containers"]
    return only


def option(name):
    """The value of an option in the arguments of the container."""
    (value,) = [arg.split("=", 1)[1] for arg in container()["args"] if arg.startswith(f"--{name}=")]
    return value


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def ports():
    """The ports of the container, by their names."""
    return {port["name"]: port["containerPort"] for port in container()["ports"]}


def tine():
    """The command, built as packaging/build does."""
    run("cargo", "build", "--quiet", "--locked", "-p", "tine-cli", cwd=ROOT)
    host = re.search(r"host: (\S+)", run("rustc", "-vV"))[1]
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / host / "debug/tine"


class Manifests(unittest.TestCase):
    def test_they_are_valid(self):
        self.assertTrue(VALIDATE.exists(), f"{VALIDATE} is not installed; scripts/test installs it")
        files = [path for path in sorted(HERE.glob("*.yaml")) if path.stem not in OTHERS]
        files.append(HERE / "load-agents/job.yaml")
        self.assertEqual(len(files), 7, files)
        for version in VERSIONS:
            said = run(VALIDATE, "--strict", "-k", version, *files)
            self.assertEqual(said.count(f"against version {version}"), len(files), said)

    def test_wrong_ones_are_not(self):
        wrong = (HERE / "deployment.yaml").read_text().replace("readinessProbe", "readynessProbe")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(wrong)
            file.flush()
            done = subprocess.run([VALIDATE, "--strict", file.name], capture_output=True, text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("readynessProbe", done.stdout + done.stderr)

    def test_the_base_has_all_of_them(self):
        base = manifest("kustomization")
        self.assertEqual(set(base), {"apiVersion", "kind", "resources"})
        self.assertEqual((base["apiVersion"], base["kind"]), ("kustomize.config.k8s.io/v1beta1", "Kustomization"))
        files = {path.name for path in HERE.glob("*.yaml")} - {"kustomization.yaml", "prometheus-adapter.yaml"}
        self.assertEqual(set(base["resources"]), files)
        self.assertEqual(len(base["resources"]), len(files))

    def test_the_agents_of_a_load_start_together(self):
        self.assertEqual(manifest("load-agents/kustomization")["resources"], ["job.yaml"])
        job = manifest("load-agents/job")["spec"]
        self.assertEqual((job["completionMode"], job["completions"]), ("Indexed", job["parallelism"]))
        (agent,) = job["template"]["spec"]["containers"]
        self.assertEqual(agent["args"][:2], ["load", "agent"])
        # No policy of the base is about them.
        self.assertNotEqual(job["template"]["metadata"]["labels"],
                            manifest("deployment")["spec"]["template"]["metadata"]["labels"])

    def test_a_pod_has_the_time_that_its_end_takes(self):
        end = seconds(option("drain-delay")) + seconds(option("drain-timeout")) + END_OF_CONNECTIONS
        grace = pod()["terminationGracePeriodSeconds"]
        # preStop waits for all of it. Where that fails, TERM begins the same drain.
        self.assertGreater(grace, end)
        # Other pods get the clients before the listener closes: the probe fails, and that spreads.
        probe = container()["readinessProbe"]
        unready = (probe["periodSeconds"] + probe["timeoutSeconds"]) * probe["failureThreshold"]
        self.assertGreater(seconds(option("drain-delay")), unready)

    def test_ports_have_the_same_names_everywhere(self):
        self.assertEqual(ports(), {"tine": int(container()["args"][-1]), "observe": int(option("observe"))})
        for name, port in (("service", "tine"), ("observe", "observe")):
            (only,) = manifest(name)["spec"]["ports"]
            self.assertEqual(only, {"name": port, "port": ports()[port], "targetPort": port})
        ingress = manifest("networkpolicy")["spec"]["ingress"]
        self.assertEqual([port["port"] for rule in ingress for port in rule["ports"]], ["tine", "observe"])
        # The monitoring alone reaches the metrics.
        self.assertEqual(["from" in rule for rule in ingress], [False, True])
        for probe in ("readinessProbe", "livenessProbe"):
            self.assertEqual(container()[probe]["httpGet"]["port"], "observe")
        (endpoint,) = manifest("servicemonitor")["spec"]["endpoints"]
        self.assertEqual(endpoint["port"], "observe")

    def test_all_select_the_same_pods(self):
        labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]
        selectors = [manifest(name)["spec"]["selector"]["matchLabels"] for name in ("deployment", "poddisruptionbudget")]
        selectors += [manifest(name)["spec"]["selector"] for name in ("service", "observe")]
        selectors.append(manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"])
        for selector in selectors:
            self.assertEqual(selector, labels)
        target = manifest("horizontalpodautoscaler")["spec"]["scaleTargetRef"]
        deployment = manifest("deployment")
        self.assertEqual(target, {"apiVersion": deployment["apiVersion"], "kind": deployment["kind"],
                                  "name": deployment["metadata"]["name"]})
        self.assertNotIn("replicas", deployment["spec"], "the autoscaler sets them")

    def test_volumes_are_mounted_where_the_arguments_say(self):
        mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
        self.assertEqual(set(mounts), {volume["name"] for volume in pod()["volumes"]})
        self.assertEqual(Path(option("control")).parent, Path(mounts["run"]))
        self.assertEqual(option("state-directory"), mounts["run"])
        self.assertEqual(Path(option("observe-token")).parent, Path(mounts["observe"]))
        (secret,) = [volume["secret"] for volume in pod()["volumes"] if "secret" in volume]
        (endpoint,) = manifest("servicemonitor")["spec"]["endpoints"]
        credentials = endpoint["authorization"]["credentials"]
        self.assertEqual(credentials, {"name": secret["secretName"], "key": Path(option("observe-token")).name})
        prestop = container()["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(prestop, ["/tine", "drain", f"--control={option('control')}"])

    def test_the_autoscaler_has_a_metric_of_the_adapter(self):
        (metric,) = manifest("horizontalpodautoscaler")["spec"]["metrics"]
        name = metric["pods"]["metric"]["name"]
        (rule,) = manifest("prometheus-adapter")["rules"]["custom"]
        series = re.match(r"\w+", rule["seriesQuery"])[0]
        self.assertEqual(name, series)
        self.assertEqual(set(rule["resources"]["overrides"]), {"namespace", "pod"})
        share = int(metric["pods"]["target"]["averageValue"]) / int(option("max-connections"))
        self.assertTrue(0.5 < share < 0.8, share)

    def test_the_overlay_of_the_document_fits(self):
        text = (ROOT / "docs/fleet.md").read_text().split("```yaml\n# kustomization.yaml\n")[1].split("```")[0]
        overlay = yaml.safe_load(text)
        self.assertEqual([image["name"] for image in overlay["images"]], [container()["image"]])
        secrets = {secret["name"]: secret["files"] for secret in overlay["secretGenerator"]}
        self.assertEqual(secrets, {"tine-observe": [Path(option("observe-token")).name]})
        # Kustomize changes the name of a secret where it knows of one: not in a ServiceMonitor.
        self.assertEqual(overlay["generatorOptions"], {"disableNameSuffixHash": True})
        (patch,) = overlay["patches"]
        deployment = manifest("deployment")
        self.assertEqual(patch["target"], {"kind": deployment["kind"], "name": deployment["metadata"]["name"]})
        added = yaml.safe_load(patch["patch"])
        for one in added:
            self.assertEqual((one["op"], one["path"]), ("add", "/spec/template/spec/containers/0/args/-"))
        words = [one["value"] for one in added]
        self.assertEqual(words[0], "--", "the program comes behind all options")
        self.assertTrue(all(isinstance(word, str) for word in words), words)

    def test_the_monitor_has_known_fields_alone(self):
        """No schema of it is installed: what is checked are the fields that it uses."""
        monitor = manifest("servicemonitor")
        self.assertEqual((monitor["apiVersion"], monitor["kind"]), ("monitoring.coreos.com/v1", "ServiceMonitor"))
        spec = monitor["spec"]
        self.assertEqual(set(spec), OF_MONITOR)
        (endpoint,) = spec["endpoints"]
        self.assertEqual(set(endpoint), OF_ENDPOINT)
        self.assertEqual(set(endpoint["authorization"]), {"type", "credentials"})
        self.assertRegex(endpoint["interval"], r"^\d+s$")
        labels = manifest("observe")["metadata"]["labels"]
        self.assertEqual(spec["selector"], {"matchLabels": labels})
        # The alerts expect this job.
        self.assertIn(f'job="{labels[spec["jobLabel"]]}"', (ROOT / "monitoring/alerts.yaml").read_text())
        # tine's own label `service` stays.
        self.assertIs(endpoint["honorLabels"], True)


class Pod:
    """The container of the deployment: its arguments, files and user, in namespaces of its own."""

    TOKEN = "0123456789abcdef0123456789abcdef"

    def __enter__(self):
        self.root = Path(tempfile.mkdtemp(prefix="tine-pod-"))
        self.root.chmod(0o755)
        for folder in ("proc", "dev", "run/tine", "etc/tine/observe"):
            (self.root / folder).mkdir(parents=True)
        shutil.copy(tine(), self.root / "tine")
        token = self.root / option("observe-token").removeprefix("/")
        token.write_text(self.TOKEN)
        context = pod()["securityContext"]
        self.user = (context["runAsUser"], context["runAsGroup"])
        os.chown(token, 0, self.user[1])
        token.chmod(0o440)
        os.chown(self.root / "run/tine", *self.user)
        mounts = f"mount -t proc proc {self.root}/proc && mount -t devtmpfs dev {self.root}/dev"
        words = ["chroot", f"--userspec={self.user[0]}:{self.user[1]}", self.root, "/tine", *container()["args"]]
        script = f'{mounts} && ip link set lo up && exec "$@"'
        self.log = open(self.root / "log", "w+")
        self.outer = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--net",
             "sh", "-c", script, "sh", *words],
            stdin=subprocess.DEVNULL, stderr=self.log)
        try:
            wait_until("it is ready or has ended",
                       lambda: self.outer.poll() is not None or self.probe("readinessProbe"))
            if self.outer.poll() is not None:
                raise AssertionError(Path(self.log.name).read_text())
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.outer.kill()
        self.outer.wait()
        self.log.close()
        shutil.rmtree(self.root)

    def events(self):
        """The names of the lines of its log."""
        return [json.loads(line)["event"] for line in Path(self.log.name).read_text().splitlines()]

    def enter(self, *namespaces):
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
        return ("nsenter", "--target", children[0] if children else "none", *namespaces)

    def get(self, path, *more):
        """The status and the text that the observer answers; None if it does not."""
        address = f"http://127.0.0.1:{ports()['observe']}{path}"
        words = [*self.enter("--net"), "curl", "-s", "-w", "\n%{http_code}", *more, address]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
        text, _, status = done.stdout.rpartition("\n")
        return (int(status), text) if done.returncode == 0 else None

    def probe(self, name):
        """Whether a probe of the deployment succeeds, as the kubelet understands it."""
        found = self.get(container()[name]["httpGet"]["path"])
        return found is not None and 200 <= found[0] < 400

    def exec(self, words):
        """A command in the container, as the kubelet starts it."""
        user = f"--userspec={self.user[0]}:{self.user[1]}"
        return [*self.enter("--mount", "--pid", "--net"), "chroot", user, self.root, *words]


class TheCommand(unittest.TestCase):
    def test_it_serves_as_the_manifests_expect_and_drains_at_pre_stop(self):
        with Pod() as served:
            self.assertTrue(served.probe("livenessProbe"))
            (endpoint,) = manifest("servicemonitor")["spec"]["endpoints"]
            self.assertEqual(served.get(endpoint["path"])[0], 401)
            status, text = served.get(endpoint["path"], "-H", f"Authorization: Bearer {served.TOKEN}")
            self.assertEqual(status, 200)
            metric = manifest("horizontalpodautoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"]
            self.assertRegex(text, rf'(?m)^{metric}{{service="\d+"}} 0$')
            # A connection that goes on.
            client = served.exec(["/tine", "client", f"127.0.0.1:{ports()['tine']}"])
            with (Process(*client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as held,
                  held.stdin, held.stdout):
                held.stdin.write("before\n")
                held.stdin.flush()
                self.assertEqual(held.stdout.readline(), "before\n")
                prestop = container()["lifecycle"]["preStop"]["exec"]["command"]
                with Process(*served.exec(prestop)) as drain:
                    wait_until("it is not ready", lambda: not served.probe("readinessProbe"))
                    self.assertTrue(served.probe("livenessProbe"))
                    # Who does not know yet is served.
                    self.assertEqual(run(*client, input="late\n"), "late\n")
                    self.assertNotIn("drain", served.events())
                    wait_until("the drain begins", lambda: "drain" in served.events())
                    self.assertIsNone(drain.poll(), "it waits for the connection")
                    held.stdin.write("after\n")
                    held.stdin.flush()
                    self.assertEqual(held.stdout.readline(), "after\n")
                    held.stdin.close()
                    self.assertEqual(served.outer.wait(timeout=30), 0)
                    # It ends with the container, which kills it if it is slower.
                    self.assertIn(drain.wait(timeout=30), (0, 128 + signal.SIGKILL))
                self.assertEqual(served.events()[-1], "stop")


if __name__ == "__main__":
    unittest.main()
