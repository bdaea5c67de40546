"""Maintenance of a folder of results: plan, locks, verification, publishing."""
