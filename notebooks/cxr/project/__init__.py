"""The plumbing: where things are, what made them, how they get here. Nothing in here makes a number of a result."""
