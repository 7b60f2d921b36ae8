#!/usr/bin/env bash
# A scheduler here and a worker on each host that ssh reaches, for as long as one pipeline runs.
# Usage: INTERFACE=eth0 HOSTS="node-1 node-2" plain_hosts.sh PIPELINE [OPTION of sage-dask run]...
# The hosts share this folder and the current one, and let ssh in without a password.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

pipeline=${1:?name a pipeline, such as wordcount.yaml}
shift
interface=${INTERFACE:?name the network between the hosts, such as INTERFACE=eth0}
read -ra hosts <<<"${HOSTS:?name the hosts, such as HOSTS='node-1 node-2'}"
# On the file system that all hosts share, readable by nobody else.
folder=$(mktemp -d "$PWD/cluster-XXXX")
use_tls "$folder/tls"
pids=()
# Workers end with their scheduler, and the ssh connections with them.
trap 'kill "${pids[0]}" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

dask scheduler --protocol tls --interface "$interface" --port 0 \
    --dashboard-address 127.0.0.1:0 --scheduler-file "$folder/scheduler.json" \
    2>scheduler.log &
pids+=($!)
for host in "${hosts[@]}"; do
    # Variables do not travel with ssh, so the settings are read again over there.
    settings=$(printf 'cd %q && PATH=%q && LLM=%q && . %q && use_tls %q' \
        "$PWD" "$PATH" "${LLM:-4}" "$here/common.sh" "$folder/tls")
    worker=$(printf '%q ' dask worker --protocol tls --interface "$interface" \
        --scheduler-file "$folder/scheduler.json" --dashboard-address 127.0.0.1:0 \
        --name "$host" --nthreads "${THREADS:-4}" --memory-limit "${MEMORY:-8GiB}" \
        --death-timeout 60)
    # shellcheck disable=SC2029 # Expanded here on purpose, and quoted for the other side.
    ssh -o BatchMode=yes "$host" "bash -c $(printf %q "$settings && exec $worker")" \
        2>"worker-$host.log" &
    pids+=($!)
done

address=$(wait_for_workers "$folder/scheduler.json" "${#hosts[@]}")
sage-dask run "$pipeline" --scheduler "$address" "$@"
