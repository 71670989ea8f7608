"""Streaming annotation: plan, read, decode, infer, write, exactly once."""
