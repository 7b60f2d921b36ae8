"""What a pipeline is known by, and what changed: so that a run goes on only with what began it."""
