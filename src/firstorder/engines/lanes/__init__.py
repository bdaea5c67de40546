"""The inner loop for many lanes at once, as batched matrix products."""
