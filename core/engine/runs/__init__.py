"""From a commit to a metric: slots, runs and device readings."""
