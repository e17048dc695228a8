"""What runs inside a sandbox: standard library only (numpy if a program wants it), nothing else of spa_bench.

`zygote` is the first process there and forks all others; `guard` takes their rights away; `calls` runs tests that are
data, `judge` runs tests that are code; `wire` is how values cross a border between processes.
"""
