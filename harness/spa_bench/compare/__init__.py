"""Comparisons of runs: leaderboards, gate, studies, statistical power. They read run folders and result files, no torch."""
