"""Experiments built from the parts: counterfactual skies and the papers' swaps."""
