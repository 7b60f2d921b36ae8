"""The dispatcher in a cluster that exists only in its events."""
