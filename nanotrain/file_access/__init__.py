"""Files in the process of a scored model: all of them until it is shown rows, from then on none but those it holds."""
