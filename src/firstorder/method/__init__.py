"""The method, to be read: tasks, images, architectures, networks, inner loop, algorithms, training, evaluation.

This is the definition of what everything else computes. It knows no engine, no file and no command line.
"""
