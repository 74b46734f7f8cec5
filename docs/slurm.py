"""A whole reproduction on a Slurm cluster, one GPU a worker: sbatch --time=2-00:00 --wrap "python docs/slurm.py"

This job holds the scheduler, runs the notebooks and keeps the results; it needs no GPU. Adapt the six lines of NODE.
"""

import sys

from dask_jobqueue import SLURMCluster

from rbcnb.workflow.notebooks import reproduce

NODE = {
    "queue": "gpu",  # the partition; sinfo lists them
    "account": None,  # where your site wants one
    "walltime": "08:00:00",  # of a worker; a fit that it does not finish goes on from its checkpoint
    "cores": 1,  # one thread: results do not depend on how many work
    "memory": "16GB",
    "job_extra_directives": ["--gres=gpu:1"],  # Slurm then shows each worker its GPU alone
}
WORKERS = 32


def slurm_cluster(**options: object) -> SLURMCluster:
    """The cluster, without any worker yet."""
    return SLURMCluster(
        **NODE | options,
        processes=1,
        python=sys.executable,  # the environment of this script, which all nodes must see
        local_directory="/tmp",
        job_script_prologue=["export OMP_NUM_THREADS=1", "export DASK_DISTRIBUTED__COMM__RETRY__COUNT=3"],
    )


def main() -> None:
    with slurm_cluster() as cluster:
        cluster.adapt(minimum_jobs=1, maximum_jobs=WORKERS)  # asks Slurm for as many as there is work for
        reproduce(out="runs/paper", profile="paper", scheduler=cluster.scheduler_address)


if __name__ == "__main__":
    main()
