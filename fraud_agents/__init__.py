"""Fraud detection on the log: windows, detectors, rules, alerts, snapshots."""
