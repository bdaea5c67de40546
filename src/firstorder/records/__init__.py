"""What crosses from computing to reporting: cells, checkpoints, how they were made, and whether they still hold."""
