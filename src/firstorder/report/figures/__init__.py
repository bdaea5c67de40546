"""The figures: what is gathered and how it is drawn."""
