"""From a commit to a number: slots, runs and their readings."""
