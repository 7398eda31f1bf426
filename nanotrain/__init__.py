"""nanotrain: a small GPT trained for a fixed time, and the sealed scorer that judges it."""
