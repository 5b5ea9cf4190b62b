"""What Prometheus would see: the metrics port of every node of the service's own Ray cluster."""

from __future__ import annotations

import httpx
import psutil

from tests.conftest import Service

HEAD_PORTS = {44217, 44227}


def scrape(service: Service) -> set[str]:
    """Names of all samples that Ray serves for the service's processes."""
    names: set[str] = set()
    for port in ports(service)["ray"]:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=2).text
        names |= {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line.startswith("ray_")}
    return names


def ports(service: Service) -> dict[str, list[int]]:
    """Where the service's own processes serve metrics.

    "ray": Ray's agent of each node. "haproxy": what takes the requests. "ray-head": autoscaler and dashboard, whose ports
    are the same for every cluster of a machine, so that only one has them.
    """
    found: dict[str, list[int]] = {"ray": [], "haproxy": [], "ray-head": []}
    for process in psutil.Process(service.pid).children(recursive=True):
        try:
            program = " ".join(process.cmdline()[:1])
            listening = {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        job = "ray" if "DashboardA" in program else "haproxy" if program.endswith("haproxy") else "ray-head"
        wanted = listening & HEAD_PORTS if job == "ray-head" else listening
        found[job] += [port for port in wanted if _serves_metrics(port)]
    return found


def _serves_metrics(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=2)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and "# TYPE" in answer.text
