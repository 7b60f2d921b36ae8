"""Operators in subprocesses, which can be killed at a deadline and may crash alone."""
