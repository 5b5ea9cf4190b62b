#!/usr/bin/env bash
# Ray 2.60.0: processes that are forked after `import ray.serve` draw the same "random" ids as one another.
#
# Ray's generator of ids lives in its C++ library, is seeded when it is used first, and does not notice a fork. `import ray` alone does
# not use it; `import ray.serve` does, because Serve's actor classes take an id each as they are decorated. Whoever forks workers from a
# process with Serve in it, to have them at once and with shared memory, gets workers that name themselves alike. os.urandom and Python's
# own random differ from fork to fork.
#
# Seen: ids of two forks after `import ray`, and after `import ray.serve`. Exits 1 when that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'ray[serve]==2.60.0'
cat >"$work/try.py" <<'PY'
import os, sys
import ray

def drawn_by_a_fork():
    read, write = os.pipe()
    if not (fork := os.fork()):
        os.write(write, ray.WorkerID.from_random().binary())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as drawn:
        number = drawn.read()
    os.waitpid(fork, 0)
    return number.hex()[:12]

before = [drawn_by_a_fork() for _ in range(2)]
import ray.serve
after = [drawn_by_a_fork() for _ in range(2)]
print(f"ray {ray.__version__}, two forks after import ray: {before}; after import ray.serve: {after}")
sys.exit(0 if before[0] != before[1] and after[0] == after[1] else 1)
PY
"$work/venv/bin/python" "$work/try.py"
