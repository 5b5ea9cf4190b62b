"""Whether this replica is being stopped, as its load balancer learns it.

Serve tells a replica's own code nothing before it closes every WebSocket with 1012. But a replica to which HAProxy sends
requests directly answers `GET /-/healthz` itself, on the port where they come in: with 503 and "DRAINING" from the moment
that it is to stop, so that HAProxy sends it no more. It serves on for `RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S`.
A redeploy, a lower number of replicas and a node that is drained all go this way (Ray 2.60).

Without `server.fast_transport` the port is that of Serve's proxy, which does not know: this never returns.

A session may also have come in through the proxy of another node, and when that one leaves, nothing here is stopped. What
Serve's controller says of its proxies tells it (`leaving_proxies`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection

import httpx2
import ray
from ray import serve

LOOK_S = 0.25
PROXIES_LOOK_S = 3.0  # asks the controller
ANSWER_S = 5.0
PERIOD = "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"
RAYS_DEFAULT_S = "30"


def draining_period_s() -> float:
    """How long a replica that is being stopped serves on from the moment that it is known here."""
    return max(0.0, float(os.environ.get(PERIOD, RAYS_DEFAULT_S)) - LOOK_S)


async def until_draining(host: str, port: int) -> None:
    """Returns once the replica that listens there is being stopped."""
    url = httpx2.URL(scheme="http", host=host, port=port, path="/-/healthz")
    async with httpx2.AsyncClient(timeout=ANSWER_S, trust_env=False) as client:
        while True:
            try:
                answer = await client.get(url)
                if answer.status_code == 503 and "DRAINING" in answer.text:
                    return
            except httpx2.HTTPError:
                pass  # it is busy, or at its end
            await asyncio.sleep(LOOK_S)


def leaving_proxies(through: Collection[str]) -> set[str]:
    """Those of the addresses `through` that are nodes whose proxies take nothing new, for a node that is drained or has no
    replica any more. Blocks."""
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}  # type: ignore[no-untyped-call]
    came = {node: address for node, address in nodes.items() if address in through}
    if not came:  # from callers themselves, on one machine
        return set()
    proxies = serve.status().proxies
    return {address for node, address in came.items() if proxies.get(node) == "DRAINING"}
