"""The annotated catalog on disk: names, atomic writes, HATS metadata, reading back."""
