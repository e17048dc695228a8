"""Pages, the viewer, trackers and exports: they show runs to others. They read run folders and result files, without torch."""
