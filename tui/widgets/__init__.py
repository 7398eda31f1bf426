"""Panes and lines of the screens. They read the session view, never the client."""
