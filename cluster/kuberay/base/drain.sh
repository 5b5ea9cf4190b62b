#!/usr/bin/env bash
# preStop of a worker: Serve moves this node's replicas elsewhere, and the pod waits for the streams that they and its
# proxy still carry. DRAIN_S: the longest wait, seconds; PORT: of the proxy.
ray drain-node --address "${RAY_ADDRESS:?of the head, as KubeRay sets it}" --reason DRAIN_NODE_REASON_PREEMPTION \
  --reason-message "the pod stops" --deadline-remaining-seconds "$DRAIN_S"
port=$(printf '%04X' "$PORT")
sleep 5 # until no Service sends new requests here
for ((waited = 5; waited < DRAIN_S; waited++)); do
  grep -qsa '^ray::ServeReplica' /proc/[0-9]*/cmdline ||
    grep -qsE "^ *[0-9]+: [0-9A-F]+:$port [0-9A-F]+:[0-9A-F]{4} 01 " /proc/net/tcp /proc/net/tcp6 || exit 0
  sleep 1
done
