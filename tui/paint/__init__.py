"""How things are drawn: cells, colours, keys and the changed cells that travel."""
