"""Everything about a session's folder: paths, options, lock, log, disk space and state folders."""
