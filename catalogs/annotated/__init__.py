"""The annotated catalog on disk: names, HATS metadata, reading back."""
