"""The progress pane."""
