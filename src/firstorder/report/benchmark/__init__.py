"""The benchmark's tables and charts."""
