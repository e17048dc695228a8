"""What shows runs to others: pages, the viewer, trackers, exports. It reads run folders and result files; no torch."""
