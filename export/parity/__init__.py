"""Whether a bundle answers what the network that it was made from answers."""
