"""The run pane: output and loss curves."""
