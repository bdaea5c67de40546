"""Figures: the data of each, and how it is drawn. Importing any module of this folder loads matplotlib first."""

from firstorder.report.figures import plain_matplotlib

plain_matplotlib.load()
