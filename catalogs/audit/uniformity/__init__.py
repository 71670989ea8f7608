"""Is the fraction the same everywhere? Counts per tile, their tests, and the verdict."""
