"""The executor `slurm`: attempts as batch jobs of a Slurm cluster, through its commands."""
