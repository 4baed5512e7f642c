"""Run lists of independent tasks on one machine, on Slurm, on Ray, or on Hugging Face Jobs; tasks are commands."""
