"""What is on the sky and on disk: surveys, cutouts, annotated catalogs and their audit.

Nothing here imports torch, dask or onnxruntime, so that a worker or a report loads only
what it needs.
"""
