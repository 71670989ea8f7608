"""The networks, each citing the paper and table that it follows."""
