"""Dask: which cluster is meant, starting or reaching it, and handing out the work.

::

    spec.py     what --cluster says: local, cuda, an address, or a TOML file
    deploy.py   from there to a client of a running cluster
    crew.py     work handed out to workers that come, go and die; nothing is lost or waited for
                for ever
"""
