"""Whole outer steps of several seeds on the device, captured as CUDA graphs."""
