"""What became of every record of a run, kept so that a killed run can go on."""
