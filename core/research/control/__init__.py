"""The control: classical optimisation over the constants of the code."""
