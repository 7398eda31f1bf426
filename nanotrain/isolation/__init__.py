"""What a scored model's process may do: all that loading needs, then, once shown rows, nothing that leaves traces."""
