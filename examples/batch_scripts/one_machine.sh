#!/usr/bin/env bash
# A scheduler and two workers on this machine, for as long as one pipeline runs.
# Usage: one_machine.sh PIPELINE [OPTION of sage-dask run]...
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

pipeline=${1:?name a pipeline, such as wordcount.yaml}
shift
folder=$(mktemp -d)
pids=()
# Only what was started here is stopped, by its process id, however the script ends: workers first,
# since they would look for their scheduler for a while.
stop() {
    set +e
    kill "${pids[@]:1}" 2>/dev/null
    wait "${pids[@]:1}"
    kill "${pids[0]}" 2>/dev/null
    wait "${pids[0]}"
    rm -rf "$folder"
}
trap stop EXIT

# Everything listens on loopback, on any free port.
dask scheduler --host 127.0.0.1 --port 0 --dashboard-address 127.0.0.1:0 \
    --scheduler-file "$folder/scheduler.json" 2>scheduler.log &
pids+=($!)
for name in worker-0 worker-1; do
    dask worker --scheduler-file "$folder/scheduler.json" --host 127.0.0.1 \
        --dashboard-address 127.0.0.1:0 --name "$name" --nthreads 1 --memory-limit 2GiB \
        --local-directory "$folder" --death-timeout 60 2>"$name.log" &
    pids+=($!)
done

address=$(wait_for_workers "$folder/scheduler.json" 2)
sage-dask run "$pipeline" --scheduler "$address" "$@"
