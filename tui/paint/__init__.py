"""Painting: cells, looks, canvases, pane layout, the order of keys."""
