"""Experiment trackers, each through its own package and off by default: `--log wandb|mlflow|trackio` and `spa-bench log`.

A tracker is told of a run and does not change it: it runs in a process of its own, reads the run folder, and may fail or
hang without harm. docs/how-to/trackers.md says what is logged, and how to add a tracker.
"""
