"""The benchmark: every engine's speed on this machine, compared with the machine's own limit."""
