"""From a brief to a committed proposal."""
