"""`python -m service.executors.slurm.other_node COMMAND...`: becomes a command on another node than the first of a job.

It is the task of a step that has all nodes of the job except the first. Variables of Slurm are removed: Lightning would
take them for its own.
"""

import os
import sys
from collections.abc import Mapping

from pipelines.base.ranks import NODE_RANK

OF_SLURM = ("SLURM_", "SLURMD_", "SRUN_")


def environment_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the launcher of this node."""
    kept = {name: text for name, text in environ.items() if not name.startswith(OF_SLURM)}
    return {**kept, NODE_RANK: str(int(environ["SLURM_NODEID"]) + 1)}


if __name__ == "__main__":
    os.execve(sys.argv[1], sys.argv[1:], environment_of(os.environ))
