"""What the demonstration runs on: a corpus that is on any machine with Python."""
