#!/usr/bin/env bash
# Ray Serve 2.60.0: a changed keyword argument of an application's autoscaling policy replaces every replica.
#
# A change of `autoscaling_config` or `user_config` in the document leaves running replicas alone, so one expects the same
# of the policy's `policy_kwargs`, which only the controller reads. But the policy is part of what the application's code
# version is made from, and each deployment is rolled out anew, as if its code had changed. Whoever wants settings that
# can be changed in place must bring them to the policy by another way, such as a metric of the replicas.
#
# Seen: the process id of the one replica stays after a change of autoscaling_config, and differs after one of
# policy_kwargs. Exits 1 when that is no longer so.
set -euo pipefail
work=$(mktemp -d)
head=
cleanup() {
  if [ -n "$head" ]; then kill "$head" && wait "$head" || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check "ray[serve]==2.60.0"
read -r port dashboard http < <(python3 -c '
import socket
probes = [socket.socket() for _ in range(3)]
for probe in probes: probe.bind(("127.0.0.1", 0))
print(*(probe.getsockname()[1] for probe in probes))')
cat >"$work/app.py" <<'PY'
import os
from ray import serve

class Policy:
    def __init__(self, aim=1.0):
        self.aim = aim
    def __call__(self, contexts):
        return {key: 1 for key in contexts}, {key: {} for key in contexts}

@serve.deployment
class Echo:
    def __call__(self):
        return os.getpid()

app = Echo.bind()
PY
cat >"$work/try.py" <<'PY'
import sys, time, urllib.request
import ray
from ray import serve
from ray.serve.schema import ServeDeploySchema
from ray.serve._private.api import serve_start
from ray.serve.context import _get_global_client

def document(aim, most):
    return {"http_options": {"port": int(sys.argv[2])}, "applications": [{
        "name": "app", "route_prefix": "/", "import_path": "app:app",
        "autoscaling_policy": {"policy_function": "app:Policy", "policy_kwargs": {"aim": aim}},
        "deployments": [{"name": "Echo", "autoscaling_config": {"min_replicas": 1, "max_replicas": most}}]}]}

def deployed(aim, most):
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(document(aim, most)), _blocking=True)
    time.sleep(5)
    deadline = time.time() + 60
    while serve.status().applications["app"].status != "RUNNING" and time.time() < deadline:
        time.sleep(0.5)
    return urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[2]}/", timeout=30).read().decode()

for _ in range(60):
    try:
        ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR", namespace="serve")
        break
    except Exception:
        time.sleep(1)
serve_start(http_options={"port": int(sys.argv[2])})
first, scaled, changed = deployed(1.0, 2), deployed(1.0, 3), deployed(2.0, 3)
print("ray", ray.__version__)
print("another autoscaling_config: the replica", "stayed" if first == scaled else "was replaced")
print("another policy_kwargs: the replica", "stayed" if scaled == changed else "was replaced")
sys.exit(not (first == scaled != changed))
PY
cd "$work"
export PYTHONPATH="$work" RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled
"$work/venv/bin/ray" start --head --port "$port" --dashboard-port "$dashboard" --temp-dir "$work/ray" --num-cpus 4 --block \
  >/dev/null 2>&1 &
head=$!
"$work/venv/bin/python" "$work/try.py" "127.0.0.1:$port" "$http" 2>"$work/err" || { tail -20 "$work/err"; exit 1; }
