"""The same objects answered by other networks: pairs, groups of seeds, the papers' tests."""
