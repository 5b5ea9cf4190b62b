#!/usr/bin/env bash
# Run a command with Ray's flags in its environment. `serve`, the default, is one Ray node with the graph on it:
# it ends when it is told to, or when the graph cannot be deployed. A cluster's nodes run `ray start` instead.
#
# MUSESERVE_CONFIG          the configuration: its name, or a file that is mounted
# MUSESERVE_SETTINGS        keys of it that shall differ, such as "avatars.uri=s3://bucket/avatars cache.enabled=false"
# MUSESERVE_AUTH            who may use it, where the configuration is one that ships: none = whoever reaches it; keys =
#                           who has one, made by `museserve keys create TENANT --file /var/lib/museserve/keys/keys.json`
# MUSESERVE_PORT            where HTTP is answered
# MUSESERVE_DRAIN_S         how long videos that are being made may take when the service is told to stop
# MUSESERVE_DASHBOARD_HOST  where Ray's dashboard listens: nowhere else by default, because who reaches it can run code
set -euo pipefail

open_files=$(ulimit -Hn)
if [[ $open_files != unlimited && $open_files -lt 16384 ]]; then
  echo "$open_files open files are too few for HAProxy; give it more: docker run --ulimit nofile=65536:65536" >&2
  exit 1
fi
ulimit -Sn "$([[ $open_files == unlimited || $open_files -gt 65536 ]] && echo 65536 || echo "$open_files")"

config=${MUSESERVE_CONFIG:-local} port=${MUSESERVE_PORT:-8001}
flags=$(museserve flags --config "$config")
while IFS='=' read -r name value; do
  [[ -v $name ]] || export "$name=$value" # what the environment says goes first
done <<<"$flags"

[[ $# == 1 && $1 == serve ]] || exec "$@"

dashboard=http://127.0.0.1:8265 health=http://127.0.0.1:$port/health
get() { wget -q -T 5 -t 1 -O - "$1"; } # by default wget waits for minutes, and tries again
stop() { # when the videos that are being made are sent; Serve's own shutdown would cut them
  local end=$((SECONDS + ${MUSESERVE_DRAIN_S:-45}))
  while ((SECONDS < end)) && [[ $(get "$health") == *'"busy":true'* ]]; do
    sleep 1
  done
  kill -TERM "$node"
  wait "$node" || true # its status tells of the signal
  exit 0
}
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # there is no other node to move anything to
# The object store is small because replicas speak gRPC to each other; by default it would take a third of the memory.
ray start --head --block --dashboard-host "${MUSESERVE_DASHBOARD_HOST:-127.0.0.1}" --metrics-export-port 8080 \
  --object-store-memory $((256 * 1024 * 1024)) &
node=$!
trap stop TERM INT

until get "$dashboard/api/version" >/dev/null; do
  kill -0 "$node" # or leave with the node
  sleep 1
done
settings=()
if [[ $config != *.* ]]; then # those that ship name no place for what is kept, and end longer streams than a cluster may
  settings=("avatars.uri=$MUSESERVE_HOME/avatars" "cache.uri=$MUSESERVE_HOME/utterances" "weights.uri=$MUSESERVE_HOME/models"
    "access.keys_file=$MUSESERVE_HOME/keys/keys.json" "server.hosts=[museserve]"
    deployments.{ingress,mux}.graceful_shutdown_timeout_s=900)
  [[ -z ${MUSESERVE_AUTH:-} ]] || settings+=("access.auth=$MUSESERVE_AUTH")
fi
read -ra chosen <<<"${MUSESERVE_SETTINGS:-}"
for setting in "${settings[@]}" "${chosen[@]}"; do
  set -- "$@" --set "$setting"
done
shift # `serve`
museserve serve-config --config "$config" --port "$port" "$@" >/tmp/serve.yaml
serve deploy /tmp/serve.yaml --address "$dashboard"

told=$SECONDS
until get "$health" >/dev/null; do
  kill -0 "$node"
  if ((SECONDS - told >= 60)); then # what it waits for, such as a card
    told=$SECONDS
    serve status --address "$dashboard" >&2
  fi
  if [[ $(get "$dashboard/api/serve/applications/") == *'"DEPLOY_FAILED"'* ]]; then
    serve status --address "$dashboard" >&2
    exit 1
  fi
  sleep 2
done
echo "museserve is ready on port $port"
wait "$node"
