"""Opening a session: everything that can be refused, checked before anything is made."""
