"""What Prometheus would see: the metrics port of every node of the service's own Ray cluster."""

from __future__ import annotations

import httpx
import psutil

from tests.conftest import Service


def scrape(service: Service) -> set[str]:
    """Names of all samples on all metrics endpoints that the service's processes serve."""
    names: set[str] = set()
    for process in psutil.Process(service.pid).children(recursive=True):
        try:
            ports = {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN} if _is_agent(process) else set()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        for port in ports:
            try:
                text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=2).text
            except httpx.HTTPError:
                continue
            names |= {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line.startswith("ray_")}
    return names


def _is_agent(process: psutil.Process) -> bool:
    return "DashboardA" in " ".join(process.cmdline()[:1])
