"""Comparisons of runs: leaderboards, gate, studies, power. Studies make runs; all else reads results, without torch."""
