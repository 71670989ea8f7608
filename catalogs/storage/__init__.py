"""Folders on a disk or in a bucket: the few operations of which everything durable is built."""
