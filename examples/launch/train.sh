#!/usr/bin/env bash
# One machine:   examples/launch/train.sh 1x8 --recipe showo-512 --data mine --concept rex run.name=rex
# Two machines:  MACHINE=0 MAIN=10.0.0.1 examples/launch/train.sh 2x8 …   and on the other   MACHINE=1 MAIN=10.0.0.1 …
# Without GPUs:  examples/launch/train.sh cpu --recipe world --concept bo rl.prompts_per_step=1 run.device=cpu
# After the layout, fsdp2 or zero1 share memory among the processes: examples/launch/train.sh 1x8 fsdp2 …   (docs/scale.md)
# Both machines need the same data, model and run folder, so output_dir must lie on a file system that they share.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
layout="${1:?give 1x8, 2x8 or cpu, then fsdp2 or zero1 if you like, then the arguments of sync-r1 train}"
shift
case "${1:-}" in
  fsdp2 | zero1)
    sharding="$1"
    shift
    set -- "$@" "run.sharding=$sharding"
    ;;
esac
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"
case "$layout" in
  cpu) exec python -m torch.distributed.run --standalone --nproc-per-node=2 -m sync_r1.cli train "$@" ;;
  1x8) exec accelerate launch --config_file "$here/data_parallel_1x8.yaml" -m sync_r1.cli train "$@" ;;
  2x8)
    exec accelerate launch --config_file "$here/data_parallel_2x8.yaml" --machine_rank "${MACHINE:?0 or 1}" \
      --main_process_ip "${MAIN:?address of machine 0}" --main_process_port "${PORT:-29500}" -m sync_r1.cli train "$@"
    ;;
  *)
    echo "unknown layout $layout; give 1x8, 2x8 or cpu" >&2
    exit 2
    ;;
esac
