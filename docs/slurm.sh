#!/bin/bash
# ELF of 105M parameters on two nodes of eight GPUs. UNTESTED: there was no cluster to try it on.
#   sbatch docs/slurm.sh
#SBATCH --job-name=elf_105m
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=6
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=SIGUSR1@600
set -euo pipefail
source .venv/bin/activate

# Lightning reads ranks and addresses from SLURM's own variables. Ten minutes before the time is over, all processes
# get SIGUSR1: the run saves a checkpoint and has the job started again. A job that is started again, for whatever
# reason, continues from the newest checkpoint of its run.
srun elf fit --config elf_105m --trainer.num_nodes 2 --trainer.devices 8
