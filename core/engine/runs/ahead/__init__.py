"""The start of a slot's next run while the present one trains: when it begins, whether it may, and what it costs."""
