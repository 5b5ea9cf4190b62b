"""The graph on several nodes of this machine, and what clients see when one of its parts is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from benchmarks.cluster.kills import SETTINGS, lose
from benchmarks.cluster.nodes import ROOT, Cluster, cluster_of, missing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    if why := missing():
        pytest.skip(why)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of({"w1": {"cpus": 8}, "w2": {"cpus": 8}}) as made:
        made.deploy(made.document(*SETTINGS))
        yield made


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, to be somebody else")
def test_who_is_not_root_is_told() -> None:
    command = ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-m", "benchmarks.cluster", "kills"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "need root" in done.stderr


def test_nothing_of_a_cluster_is_left() -> None:
    network = os.readlink("/proc/thread-self/ns/net")
    with pytest.raises(ZeroDivisionError), cluster_of({"w1": {"cpus": 1}}, redis=True) as made:
        folder, namespaces = made.folder, [node.namespace for node in made.nodes.values()]
        assert os.readlink("/proc/thread-self/ns/net") != network and len(namespaces) == 2
        assert all(node.processes("ray::|.*raylet") for node in made.nodes.values())
        raise ZeroDivisionError
    known = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert os.readlink("/proc/thread-self/ns/net") == network and not folder.exists()
    assert not [name for name in namespaces if name in known]
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]


@pytest.mark.parametrize("name", ["LipSync", "TTS", "Mux", "controller"])
def test_streams_and_sessions_outlive(cluster: Cluster, name: str) -> None:
    seen = lose(cluster, name)
    assert seen["whole_again_after_s"] is not None and seen["left_over"] == {"live_utterances": 0.0, "processes": {}}
    assert seen["streams"]["count"] == seen["streams"]["whole"] and not seen["new_requests"]["failed"]
    sessions = seen["sessions"]
    assert sessions["utterances"] and not (sessions["frames_missing_or_repeated"] or sessions["failed"])


def test_sessions_outlive_their_ingress(cluster: Cluster) -> None:
    """They go on in mid-sentence on another replica; streams through the one that is lost are cut, and known as cut."""
    seen = lose(cluster, "Ingress")
    sessions, streams = seen["sessions"], seen["streams"]
    assert sessions["closes"] and sessions["begun_anew"], "no session was on the replica that was killed"
    assert not (sessions["frames_missing_or_repeated"] or sessions["said_again_from_the_start"] or sessions["failed"])
    assert streams["whole"] + streams["cut"] == streams["count"] and not seen["new_requests"]["failed"]
