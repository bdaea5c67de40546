"""Records as data frames."""
