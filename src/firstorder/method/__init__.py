"""The method of the paper. Read: tasks, images, architectures, networks, inner_loop, algorithms, evaluation, training.

This folder defines what every other part computes. It imports no engine, reads no file and prints nothing.
"""
