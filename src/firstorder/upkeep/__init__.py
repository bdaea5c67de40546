"""What keeps a folder of results in order: plan, locks, verification, publishing."""
