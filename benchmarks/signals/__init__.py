"""Ways by which two sandboxes could signal, and what goes through each."""
