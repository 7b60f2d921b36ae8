"""The Pipelines page of Dask's dashboard: panels that show one snapshot, and controls."""
