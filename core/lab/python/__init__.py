"""The Python of the project: virtual environments, and where the edited modules are imported from."""
