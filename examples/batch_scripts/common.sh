# What the three scripts share: Dask's settings, TLS, and waiting for workers.  To be sourced.
# shellcheck shell=bash

# Dask's defaults wait five minutes for a worker that hangs, and give up on workers that are slow
# to come back.
export DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL=60s
export DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=0
export DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT=1h
export DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP=15s

# What each worker supplies, for stages with resources: {LLM: 1}.  As a whole: Dask turns the names
# of single settings into small letters, and "llm" is another resource.
export DASK_DISTRIBUTED__WORKER__RESOURCES="{'LLM': ${LLM:-4}}"

# use_tls FOLDER: encrypt all connections, and admit only who can read the key in FOLDER.
# Whoever reaches a Dask scheduler can run code on its workers, so anything but loopback needs it.
# Only paths stand in the environment; the key itself stays in its file.
use_tls() {
    local folder=$1 role
    if [[ ! -e $folder/key.pem ]]; then
        mkdir -m 700 "$folder"
        (umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
            -days 7 -subj /CN=dask -keyout "$folder/key.pem" -out "$folder/certificate.pem") \
            2>"$folder/openssl.log" || {
            cat "$folder/openssl.log" >&2
            return 1
        }
    fi
    export DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME=tls
    export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True
    export DASK_DISTRIBUTED__COMM__TLS__CA_FILE=$folder/certificate.pem
    for role in SCHEDULER WORKER CLIENT; do
        export "DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=$folder/certificate.pem"
        export "DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=$folder/key.pem"
    done
}

# wait_for_workers FILE NUMBER: print the address of FILE's scheduler once it has its workers.
# A run needs one worker at least, and sizes its window by those that are there when it begins.
wait_for_workers() {
    timeout "${START_TIMEOUT_S:-300}" python - "$@" <<'PYTHON' || {
import sys
from distributed import Client

with Client(scheduler_file=sys.argv[1]) as client:
    client.wait_for_workers(int(sys.argv[2]))
    print(client.scheduler.address)
PYTHON
        echo "no cluster of $2 workers within ${START_TIMEOUT_S:-300} s; see the *.log files" >&2
        return 1
    }
}
