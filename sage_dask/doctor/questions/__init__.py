"""The questions whose answers are judged beside: clocks, files, networks and Dask end here."""
