"""Model bundles: what they are, how they are made, checked and run."""
