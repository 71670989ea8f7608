"""Training of the networks: the only folder with torch at import time."""
