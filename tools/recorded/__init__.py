"""Recordings of the authors' own code on made-up images, and their repetition by this package."""
