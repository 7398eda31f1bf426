"""Commands that send a request to a running engine."""
