"""What a run depends on: what each thing is, whether it is well, and what to do if not."""
