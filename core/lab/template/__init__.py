"""The template: one process with torch loaded, from which the processes that are scored are forked."""
