"""Git repository of the project."""
