"""The benchmark's table and charts."""
