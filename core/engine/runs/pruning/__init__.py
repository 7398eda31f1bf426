"""Early stopping of hopeless runs."""
