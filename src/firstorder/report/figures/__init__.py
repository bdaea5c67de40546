"""Figures: the data of each, and how it is drawn. Importing any module of this folder loads matplotlib first."""

from firstorder.data import plain_matplotlib

plain_matplotlib.load()
