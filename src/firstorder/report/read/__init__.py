"""Records as data frames, and the statistics on them."""
