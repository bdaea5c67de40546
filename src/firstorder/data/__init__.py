"""Data sets: fetched, checked, packed and cut into pools of classes. No torch."""
