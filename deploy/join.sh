#!/bin/sh
# Join the Ray cluster whose head is $CLUSTER (host:port), without offering it CPUs or GPUs, then run a command of
# af3stream: join.sh serve --config FILE. Gateways and `af3stream engine` find the cluster through this node.
set -eu
ray start --address "$CLUSTER" --num-cpus 0 --num-gpus 0 --object-store-memory 80000000 --disable-usage-stats
exec af3stream "$@"
