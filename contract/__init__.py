"""What producers and workers must agree on, and nothing else."""
