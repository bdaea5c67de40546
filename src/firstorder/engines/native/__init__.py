"""The inner loop in C, for one core of a CPU."""
