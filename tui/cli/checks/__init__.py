"""Commands that examine a project before a session: `doctor` and `try`."""
