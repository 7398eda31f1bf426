"""What the process of a scored model may do: all that loading needs until it is shown rows, then nothing that leaves
traces.
"""
