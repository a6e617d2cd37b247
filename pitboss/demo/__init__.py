"""The main job on a fresh namespace: providers that call, a killed worker, and seven checks."""
