"""Do simulated galaxies look like real ones? Pictures side by side, distributions, networks."""
