"""Is the sky uniform, and if not, what could have been seen? Pure statistics, plots, report."""
