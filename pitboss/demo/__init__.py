"""The main job on a fresh namespace: traffic, workers, a killed worker, and six checks."""
