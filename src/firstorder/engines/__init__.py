"""Faster ways to compute what `method` defines; `choice` says which is used. Each is tested against `method`."""
