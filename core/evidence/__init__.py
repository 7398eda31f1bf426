"""What a session's log, commits, sealed files and certificates prove, and whether they fit together"""
