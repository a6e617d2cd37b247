"""The main job end to end on a fresh namespace: traffic, workers, a kill, and six checks over what
is left.
"""
