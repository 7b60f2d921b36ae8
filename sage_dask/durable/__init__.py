"""Runs that go on: their folder, what is done in it, and the output that is made of it."""
