"""Where and when tasks run."""
