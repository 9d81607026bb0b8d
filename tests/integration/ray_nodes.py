"""Run a Ray cluster on 127.0.0.1 in a process of its own, and lose nodes of it on request.

`python -m tests.integration.ray_nodes COUNT` starts a head without CPUs and COUNT nodes of one CPU,
and says its address. It then reads lines: `lose PID` kills all of the node that has the process, as
when a machine goes away; `add FOLDER` starts a node whose Python looks for packages in a folder
first, and `drop` stops that. It answers each with the same line.
"""

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import psutil

from tests.integration.conftest import ROOT, environment

# Nodes and drivers then take 127.0.0.1 for their address, where they listen and look for others.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
SETTINGS = LOOPBACK | {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else workers stand still beside anything else that runs
    "RAY_agent_register_timeout_ms": "300000",
}


@dataclass(frozen=True)
class Nodes:
    """A running cluster. address: HOST:PORT of its head; requests, answers: lines, as above."""

    address: str
    requests: IO[str]
    answers: IO[str]

    def lose(self, pid):
        """Kill the node on which a process runs."""
        self._ask(f"lose {pid}")

    @contextmanager
    def another(self, folder):
        """Start one more node, whose Python looks for packages in a folder first."""
        self._ask(f"add {folder}")
        try:
            yield
        finally:
            self._ask("drop")

    def _ask(self, line):
        print(line, file=self.requests, flush=True)
        assert self.answers.readline() == f"{line}\n"


@contextmanager
def running(count, folder):
    """A cluster of `count` nodes; `folder` takes what it says."""
    with (folder / "nodes.stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.ray_nodes", str(count)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment() | SETTINGS,
        )
    requests, answers = process.stdin, process.stdout
    assert requests and answers
    with answers, process:
        address = answers.readline().strip()
        assert address, (folder / "nodes.stderr").read_text()[-3000:]
        with requests:  # at whose end it stops its nodes
            yield Nodes(address, requests, answers)


def main(count):
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(count)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "add":
            nodes.append(cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": rest}))
        elif word == "drop":
            cluster.remove_node(nodes.pop())
        else:
            (lost,) = [node for node in nodes if int(rest) in {p.pid for p in _processes(node)}]
            for process in _processes(lost):
                process.kill()
            nodes.remove(lost)
            cluster.remove_node(lost, allow_graceful=False)
        print(line, end="", flush=True)
    cluster.shutdown()


def _processes(node):
    started = [info.process.pid for infos in node.all_processes.values() for info in infos]
    found = [psutil.Process(pid) for pid in started]
    return [*found, *(child for process in found for child in process.children(recursive=True))]


if __name__ == "__main__":
    main(int(sys.argv[1]))
