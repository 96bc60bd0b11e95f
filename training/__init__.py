"""Everything with a side effect: command line, run folders, checkpoints, reports."""
