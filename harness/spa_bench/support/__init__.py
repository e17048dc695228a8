"""The base of every other part: files, folders, locks, seeds, the console. It imports nothing of ours but types and errors."""
