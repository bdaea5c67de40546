"""The benchmark: every engine's speed on this machine, beside the machine's own limit."""
