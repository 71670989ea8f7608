"""Networks, each citing the table or section that it follows."""
