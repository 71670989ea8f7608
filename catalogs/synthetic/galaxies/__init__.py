"""The galaxies of the simulated sky: how they are drawn, how their light is spread."""
