"""A real cluster on one machine: each node a network, process and mount namespace, with an address, a disk, a shared
memory and proxies of its own.

    with Cluster() as cluster:
        cluster.start("head", head=True)
        cluster.start("w1", cpus=8)
        cluster.deploy(document)
        cluster.nodes["w1"].kill()

Two bridges that lead nowhere join them, so no packet leaves the machine: one for what nodes say to each other, one for
clients, so that both can be counted. Inside the `with`, the thread that entered it and those that it starts are in the
namespace of the bridges, and reach the nodes as another machine would.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from configs.models import ServerConfig, load_config
from museserve.app.ray_flags import node_flags
from museserve.app.serve_config import check_document, parse_overrides, serve_document
from tests.sleepy_graph import FRAME_MS

ROOT = Path(__file__).resolve().parents[2]
# Of 198.18.0.0/15, which is set aside for benchmarks. This process has the first address of both.
INNER, OUTER = "198.18.0", "198.18.1"
LINKS = {"eth0": ("br0", INNER), "eth1": ("br1", OUTER)}
PORT = 8000
REDIS_PORT, REDIS_PASSWORD = 6379, "museserve"
SLEEPY = "tests.sleepy_graph:build"
MS_A_FRAME = 2.0  # unless `flags` say otherwise
CLONE_NEWNET = 0x40000000
START_S, DEPLOY_S = 180.0, 480.0


def missing() -> str:
    """Why no nodes can be made here; empty when they can."""
    if sys.platform != "linux":
        return "nodes are Linux namespaces"
    if os.geteuid() != 0:
        return "namespaces for nodes need root"
    absent = [name for name in ("ip", "unshare", "mount") if shutil.which(name) is None]
    if absent:
        return f"nodes need {', '.join(absent)} (Debian's packages iproute2, util-linux)"
    tried = subprocess.run(["ip", "netns", "add", probe := f"muse{os.getpid()}-try"], capture_output=True, text=True)
    if tried.returncode:
        return f"network namespaces cannot be made here: {tried.stderr.strip()}"
    _ip("netns", "del", probe)
    return ""


@dataclass
class Node:
    """One machine of the cluster. `process` is None while it does not run."""

    name: str
    namespace: str
    number: int
    folder: Path
    command: list[str]
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    silent: bool = False

    @property
    def address(self) -> str:
        """Among nodes."""
        return f"{INNER}.{self.number}"

    @property
    def front(self) -> str:
        """For clients."""
        return f"{OUTER}.{self.number}"

    @property
    def url(self) -> str:
        return f"http://{self.front}:{PORT}"

    def boot(self) -> None:
        """Run its command as the first process of a namespace of its own; all others end with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        inside = 'mount -t tmpfs -o size=1g tmpfs /dev/shm && exec "$@"'
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace]
                + ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", inside, self.name, *self.command],
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self, pattern: str = "") -> list[psutil.Process]:
        """Those whose command line matches `pattern` from its beginning."""
        if self.process is None:
            return []
        found = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if re.match(pattern, " ".join(process.cmdline())):
                        found.append(process)
        return found

    def run(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        """Run something beside what runs on it. Its output goes to the node's log."""
        assert self.process is not None
        (first,) = psutil.Process(self.process.pid).children()
        inside = ["nsenter", "--target", str(first.pid), "--mount", "--net", "--pid"]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([*inside, *command], env={**self.env, **env}, stdout=log, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        """SIGKILL for everything on it at once. Its connections are closed by the kernel; see `silence`."""
        if self.process is not None:
            running = self.processes()
            self.process.kill()
            self.process.wait()
            psutil.wait_procs(running, timeout=10)
            self.process = None

    def silence(self, silent: bool = True) -> None:
        """Pull its cables: everything on it runs on, and nothing closes a connection."""
        for link in LINKS:
            _ip("-n", self.namespace, "link", "set", link, "down" if silent else "up")
        self.silent = silent

    def traffic(self) -> tuple[int, int]:
        """Bytes that came from and went to other nodes, without clients, since it was made."""
        (link,) = json.loads(_ip("-n", self.namespace, "-j", "-s", "link", "show", "eth0"))
        return link["stats64"]["rx"]["bytes"], link["stats64"]["tx"]["bytes"]

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


@dataclass
class Cluster:
    """redis: keep the head's state, so that another head may take its place. flags: environment of all nodes, beside
    what `museserve flags` prints. keep: leave the nodes' folders, with Ray's logs, behind.
    """

    redis: bool = False
    flags: dict[str, str] = field(default_factory=dict)
    keep: bool = False
    nodes: dict[str, Node] = field(default_factory=dict)
    _redis: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Cluster:
        if why := missing() or (self.redis and not shutil.which("redis-server") and "no redis-server (Debian's package of that name)"):
            raise RuntimeError(why)
        self._prefix = f"muse{os.getpid()}"
        self.folder = Path(tempfile.mkdtemp(prefix="muse"))  # short: sockets lie in it, and their paths may have 107 bytes
        self.shared = self.folder / "shared"  # the folder that all nodes mount
        self.shared.mkdir()
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _ip("netns", "add", self._prefix)
            _ip("-n", self._prefix, "link", "set", "lo", "up")
            for bridge, range_ in LINKS.values():
                _ip("-n", self._prefix, "link", "add", bridge, "type", "bridge")
                _ip("-n", self._prefix, "addr", "add", f"{range_}.1/24", "dev", bridge)
                _ip("-n", self._prefix, "link", "set", bridge, "up")
            self._enter_network()
            if self.redis:
                options = f"--bind {INNER}.1 --port {REDIS_PORT} --requirepass {REDIS_PASSWORD} --appendonly no"
                with (self.folder / "redis.log").open("wb") as log:
                    self._redis = subprocess.Popen(["redis-server", *options.split(), "--save", "", "--dir", str(self.folder)], stdout=log)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes.values():
            with suppress(OSError):
                node.kill()
        if self._redis is not None:
            self._redis.kill()
            self._redis.wait()
        _setns(self._outside)
        os.close(self._outside)
        for namespace in [*(node.namespace for node in self.nodes.values()), self._prefix]:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(
        self, name: str, *, head: bool = False, cpus: int = 0, gpus: int = 0, resources: dict[str, float] | None = None, wait: bool = True
    ) -> Node:
        """A new node, or one that was killed, once more. gpus: only counted, no card is looked for.

        Raises RuntimeError, with the end of its log, when it does not join.
        """
        node = self.nodes.get(name) or self._made(name, head, cpus, gpus, resources or {})
        for tries_left in (1, 0):  # a busy machine may be too slow for Ray's patience with itself
            node.boot()
            if not wait or self.joined(node):
                return node
            node.kill()
            if not tries_left:
                raise RuntimeError(f"node {name} did not join the cluster:\n{node.log()[-3000:]}")
        return node

    @property
    def workers(self) -> list[Node]:
        """Those that run, without the head."""
        return [node for node in self.nodes.values() if node.name != "head" and node.process is not None]

    def urls(self) -> list[str]:
        return [node.url for node in self.workers]

    def document(self, *settings: str, import_path: str = SLEEPY) -> dict[str, Any]:
        """The Serve document of `configs/cluster.yaml` with what all nodes share in a folder of their own, and room for 20
        streams on each LipSync. settings: KEY=VALUE.
        """
        ours = [f"avatars.uri={self.shared}/avatars", f"cache.uri={self.shared}/cache", "cache.enabled=false", "server.log_format=text"]
        ours += ["capacity.lipsync_streams=20", "access.auth=none"]
        document = serve_document(load_config("cluster", parse_overrides([*ours, *settings])), port=PORT)
        document["applications"][0]["import_path"] = import_path
        return document

    def deploy(self, document: dict[str, Any], wait: bool = True) -> float:
        """Seconds until it runs and the proxy of each worker that has a replica knows the way.

        Raises RuntimeError, with what Serve says, when it fails.
        """
        check_document(document)
        began = time.monotonic()
        answer = httpx.put(self._dashboard("/api/serve/applications/"), json=document, timeout=60)
        if answer.is_error:
            raise RuntimeError(answer.text[-3000:])
        if wait:
            self.until(self.runs, DEPLOY_S, "the application runs")
            self.until(self.reachable, 60, "every proxy knows the way")
        return time.monotonic() - began

    def status(self) -> dict[str, Any]:
        """As the dashboard has it; {} while there is no head. `proxies` is made anew by each."""
        with suppress(httpx.HTTPError, ValueError):
            answer = httpx.get(self._dashboard("/api/serve/applications/"), timeout=5)
            if not answer.is_error:
                return dict(answer.json())
        return {}

    def runs(self) -> bool:
        application = self.status().get("applications", {}).get("museserve", {})
        if application.get("status") == "DEPLOY_FAILED":
            raise RuntimeError(f"DEPLOY_FAILED: {application['message'][-3000:]}")
        return bool(application.get("status") == "RUNNING")

    def replicas(self, deployment: str = "") -> list[Replica]:
        """Those that run, of one deployment or of all."""
        applications = self.status().get("applications", {})
        found = []
        for name, of in applications.get("museserve", {}).get("deployments", {}).items():
            for replica in of["replicas"] if deployment in ("", name) else ():
                node = next((n for n in self.nodes.values() if n.address == replica.get("node_ip")), None)
                if replica["state"] == "RUNNING" and node is not None:
                    found.append(Replica(replica["replica_id"], name, node, replica["pid"]))
        return found

    def reachable(self) -> bool:
        """Whether every worker with a replica answers for the service; others have no proxy."""
        with_replica = {replica.node.name for replica in self.replicas()}
        return bool(with_replica) and all(self.answers(self.nodes[name]) for name in with_replica - {"head"})

    def answers(self, node: Node) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{node.url}/health", timeout=5).is_success
        return False

    def gauge(self, name: str) -> float:
        """Sum over all replicas on nodes that run, as Prometheus would scrape it."""
        total = 0.0
        for node in self.workers:
            with suppress(httpx.HTTPError):
                text = httpx.get(f"http://{node.front}:8080/metrics", timeout=10).text
                total += sum(float(value) for value in re.findall(rf"^ray_{name}{{[^}}]*}} (\S+)", text, re.M))
        return total

    def until(self, true: Callable[[], bool], seconds: float, what: str) -> float:
        """Seconds until `true()`. Raises RuntimeError after so many."""
        began = time.monotonic()
        while not true():
            if time.monotonic() - began > seconds:
                raise RuntimeError(f"not after {seconds:g} s: {what}; status: {json.dumps(self.status())[-3000:]}")
            time.sleep(0.25)
        return time.monotonic() - began

    def _made(self, name: str, head: bool, cpus: int, gpus: int, resources: dict[str, float]) -> Node:
        namespace = f"{self._prefix}-{name}"
        folder = self.folder / name
        _ip("netns", "add", namespace)
        node = Node(name, namespace, 10 + len(self.nodes), folder, [], {})
        self.nodes[name] = node  # from here on its namespace is removed in the end
        _ip("-n", namespace, "link", "set", "lo", "up")
        for link, (bridge, range_) in LINKS.items():
            cable = f"{bridge}-{name}"
            _ip("-n", self._prefix, "link", "add", cable, "type", "veth", "peer", "name", link, "netns", namespace)
            _ip("-n", self._prefix, "link", "set", cable, "master", bridge, "up")
            _ip("-n", namespace, "addr", "add", f"{range_}.{node.number}/24", "dev", link)
            _ip("-n", namespace, "link", "set", link, "up")
        for part in ("home", "tmp", "museserve"):
            (folder / part).mkdir(parents=True)
        ray = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--node-ip-address", node.address, "--temp-dir", str(folder / "ray")]
        ray += ["--num-cpus", str(cpus), "--num-gpus", str(gpus), "--resources", json.dumps({name: 1000, **resources})]
        ray += ["--metrics-export-port", "8080", "--object-store-memory", str(128 * 2**20)]
        if head:
            ray += ["--head", "--port", "6379", "--dashboard-host", "0.0.0.0", "--dashboard-port", "8265"]
            ray += ["--redis-password", REDIS_PASSWORD] if self.redis else []
        else:
            ray += ["--address", f"{self.nodes['head'].address}:6379"]
        node.command, node.env = ray, self._env(folder)
        return node

    def _env(self, folder: Path) -> dict[str, str]:
        state = self.folder / "h"  # each node makes a folder in it; its sockets' paths may have 97 bytes
        files = {"CONFIG_FILE_LOC": "haproxy.cfg", "SOCKET_PATH": "admin.sock", "METRICS_SOCKET_PATH": "metrics.sock"}
        files |= {"SERVER_STATE_BASE": "", "SERVER_STATE_FILE": "server-state"}
        redis = {"RAY_REDIS_ADDRESS": f"{INNER}.1:{REDIS_PORT}", "RAY_external_storage_namespace": "museserve"} if self.redis else {}
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "MUSESERVE_HOME": str(folder / "museserve"),
            "RAY_AUTH_MODE": "disabled",
            "RAY_raylet_start_wait_time_s": "120",
            **node_flags(ServerConfig()),
            **{f"RAY_SERVE_HAPROXY_{name}": str(state / file) for name, file in files.items()},
            **redis,
            FRAME_MS: str(MS_A_FRAME),
            **self.flags,
        }

    def joined(self, node: Node) -> bool:
        """Wait until the head knows it; False when it ends before, or takes too long."""
        began = time.monotonic()
        while time.monotonic() - began < START_S and node.process is not None and node.process.poll() is None:
            with suppress(httpx.HTTPError, ValueError):
                answer = httpx.get(self._dashboard("/nodes?view=summary"), timeout=5).json()
                known = (answer.get("data") or {}).get("summary", ())  # of a node that it has just heard of it knows little
                if any(seen.get("ip") == node.address and seen.get("raylet", {}).get("state") == "ALIVE" for seen in known):
                    return True
            time.sleep(0.5)
        return False

    def _dashboard(self, path: str) -> str:
        return f"http://{self.nodes['head'].front}:8265{path}"

    def _enter_network(self) -> None:
        with open(f"/run/netns/{self._prefix}") as network:
            _setns(network.fileno())


@dataclass(frozen=True)
class Replica:
    """pid: in the node's namespace."""

    id: str
    deployment: str
    node: Node
    pid: int

    def send(self, number: signal.Signals) -> None:
        for process in self.node.processes(f"ray::ServeReplica:museserve:{self.deployment}"):
            seen = re.search(r"^NSpid:.*\s(\d+)$", Path(f"/proc/{process.pid}/status").read_text(), re.M)
            if seen and int(seen.group(1)) == self.pid:
                process.send_signal(number)
                return
        raise RuntimeError(f"{self.deployment} {self.id} does not run on {self.node.name}")


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _setns(network: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(network, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def cluster_of(workers: dict[str, dict[str, Any]], redis: bool = False, flags: dict[str, str] | None = None) -> Iterator[Cluster]:
    """A head without processors, and workers: name -> cpus, gpus, resources; joined, with nothing deployed."""
    with Cluster(redis, flags or {}) as cluster:
        cluster.start("head", head=True)
        for name, options in workers.items():
            cluster.start(name, wait=False, **options)
        for name in workers:
            node = cluster.nodes[name]
            if not cluster.joined(node):
                node.kill()
                cluster.start(name)
        yield cluster
