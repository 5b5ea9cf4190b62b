"""Ray's environment flags. Ray reads them when its processes start, on every node, so no code can set them later.

The launcher of one machine puts them into its own environment, whoever starts a cluster's nodes into theirs
(`museserve flags`).
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from configs.models import ServerConfig
from museserve.errors import ConfigError
from museserve.runtime import cpu

REPLICA_PORTS = 64  # of ingress replicas: more than run at once, those that end included
RAY_TOKEN = "ray-token"  # the file in a service's folder by which its Ray knows its own
GRPC_CAP = 128 * 2**20  # one upload travels in one message


def node_flags(server: ServerConfig) -> dict[str, str]:
    """For every process of Ray on every node."""
    flags = {
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(GRPC_CAP),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        # Libraries work in the thread that calls them: what goes on side by side are our own pools, as many threads as a
        # replica has cores (`deployments.cores`).
        **cpu.ONE_THREAD_EACH,
        "GLOG_minloglevel": "2",
        # By default whatever else runs on the machine, also a browser that plays the video, would go before all
        # replicas.
        "RAY_worker_niceness": "0",
        # The default, ten times a second, costs a twentieth of a core for nothing.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
        # A busy machine takes longer than the default of 5 to start a proxy.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
    }
    if server.fast_transport:
        flags |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_LOG_TO_STDERR": "0",
            "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
            # A dead HAProxy is started anew after three looks that miss it: by default half a minute, in which its
            # node answers nobody.
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
            # Each change of the ingress replicas replaces HAProxy. The old one keeps its connections for so long: by
            # default it cuts streams and sessions after two minutes. Four hours, as sessions.session_s.
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "14400",
            # Of a caller that sends or reads nothing: an hour by default. Longer than sessions.silent_s, by which the
            # service ends WebSockets itself. `museserve serve` sets shorter ones (museserve/app/haproxy.py).
            "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "120",
            # Ray's default, which sessions are told: how long a stopping ingress replica serves on before it closes
            # their connections. They need one or two seconds of it to move, more where a new replica has to start
            # first. graceful_shutdown_timeout_s and cluster/kuberay (drain.sh) are longer.
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "30",
        }
    return flags


def one_machine_flags(server: ServerConfig, folder: Path | None) -> dict[str, str]:
    """For a private cluster on one machine, beside those of a node.

    folder: its own, which no other service uses; None = shared with others.
    """
    # Draining is for load balancers in front of a cluster; here it only delays Ctrl-C.
    flags = {
        # Whatever the user's environment says: some ports of Ray listen on every address, and run code for whoever has the token.
        "RAY_AUTH_MODE": "token",
        cpu.SHARED: "1",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.1",
    }
    if server.fork_workers:
        # Agents watch the raylet by a pipe, as their parent is another (museserve/app/fork_server.py).
        flags["RAY_enable_pipe_based_agent_to_parent_health_check"] = "1"
    if folder is not None:
        flags["RAY_AUTH_TOKEN_PATH"] = str(folder / RAY_TOKEN)
    if server.fast_transport and folder is not None:
        # Two services on one machine must not share HAProxy's files and ports.
        files = {"CONFIG_FILE_LOC": "haproxy.cfg", "SOCKET_PATH": "admin.sock", "METRICS_SOCKET_PATH": "metrics.sock"}
        flags |= {f"RAY_SERVE_HAPROXY_{name}": str(folder / file) for name, file in files.items()}
        # Where no ingress replica answers, HAProxy asks a proxy of Ray's at a fixed port, which several services
        # would share: one would answer for another. Replicas take ports out of a range, from its beginning.
        first = _free_range(REPLICA_PORTS)
        flags |= {
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + REPLICA_PORTS - 1),
        }
        flags |= {
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        }
    return flags


def _free_range(n: int) -> int:
    """The first of `n` ports in a row, of which nobody listens on any; another service chooses at random, too."""
    below_ephemeral = range(20_000, 32_000 - n, n)
    for first in random.sample(below_ephemeral, len(below_ephemeral)):
        if all(_is_free(port) for port in range(first, first + n)):
            return first
    raise ConfigError(f"there are no {n} free ports in a row between {below_ephemeral.start} and 32000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
