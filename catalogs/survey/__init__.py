"""Reading tables and images of every kind, and ingesting them into a survey store."""
