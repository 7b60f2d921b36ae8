"""The dispatcher at home on a Dask scheduler; nothing else in ``scheduling`` knows Dask."""
