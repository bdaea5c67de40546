"""Whole outer steps of several trainings on the device, captured as CUDA graphs."""
