"""What compares runs: leaderboards, the gate, studies, statistical power. It reads run folders and result files; no torch."""
