"""From pieces of text to token files: on all processors, resumable, and the same bytes whatever their number."""
