"""What every part stands on: files, folders, locks, seeds, the console. It imports nothing of ours but types and errors."""
