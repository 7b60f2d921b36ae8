"""The life of one record of a run, from the run's events and its journal."""
