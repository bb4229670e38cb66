"""Starting jobs: on this machine through DeepSpeed's launcher, or on a SLURM cluster."""
