"""What passes from computing to reporting: cells, checkpoints, how they were made, and whether they are up to date."""
