"""Pages, viewer, trackers and exports, without torch: they read runs. The demo and `real` also make those that they show."""
