"""Vocabulary, pure: events, commands, the fold into State, the metric, budgets and errors."""
