#!/usr/bin/env bash
# All that needs a card, in one command of at most ten minutes: what the kernels and networks draw, each way to draw faster with and without it, and
# viewers at once through the graph.
#     benchmarks/gpu_session.sh [RESULTS] [MODELS]
# RESULTS: a folder for tests.log, paired.json and graph.json, benchmarks/results/gpu_session unless named; each is written as far as it got. MODELS:
# a folder that keeps the generated weights (4.5 GB). PYTHON names the interpreter, PARTS (tests paired graph) what runs, SECONDS_IN_ALL (570) what
# it may take. It fails if a part does. Whether it runs, without a card, in minutes and on tiny networks:
#     DEVICE=cpu PAIRED='--tiny --sizes 1 2 --rounds 1' GRAPH='--tiny --rounds 1 --decoders exact' STREAMS=2 benchmarks/gpu_session.sh /tmp/results
set -uo pipefail
cd "$(dirname "$0")/.." || exit
results=${1:-benchmarks/results/gpu_session}
models=${2:-}
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
parts=${PARTS:-tests paired graph}
whole=${SECONDS_IN_ALL:-570}
began=$SECONDS
failed=0
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$results"
if [[ -z $models ]]; then
  models=$(mktemp -d)
  trap 'rm -rf "$models"' EXIT
fi

left() { echo $((whole - (SECONDS - began))); }

part() { # part NAME SECONDS COMMAND...: within what is left
  local name=$1 within=$2
  shift 2
  [[ " $parts " == *" $name "* ]] || return 0
  within=$(($(left) < within ? $(left) : within))
  if ((within < 20)); then
    echo "== $name: no time is left"
    failed=1
    return
  fi
  echo "== $name, within $within s: $*"
  timeout --signal=INT --kill-after=10 "$within" "$@"
  local code=$?
  echo "== $name ended with $code; $(left) s are left"
  ((code == 0)) || failed=1
}

nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv 2>/dev/null
# The networks' own tests need nothing of the service, so they run where only PyTorch, NumPy and OpenCV are.
part tests 150 "$python" -m pytest -m gpu --noconftest -o addopts= -q tests/musetalk/neural >"$results/tests.log" 2>&1
tail -n 15 "$results/tests.log"
budget=$(($(left) - 190)) # for pairs: the graph takes up to 120 s, and the last pair is ended
part paired $((budget + 60)) "$python" -m benchmarks.gpu paired --device "$device" --budget "$budget" --folder "$models" --out "$results/paired.json" ${PAIRED:-}
if "$python" -c 'import ray.serve' 2>/dev/null; then
  part graph 180 "$python" -m benchmarks.gpu graph --device "$device" --streams "${STREAMS:-30}" --folder "$models" --out "$results/graph.json" ${GRAPH:-}
else
  echo "== graph: Ray is not installed, so nothing goes through the graph"
fi
exit $failed
