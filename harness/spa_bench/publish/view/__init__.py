"""`spa-bench view`: shows a folder of growing runs in the browser, on this machine alone. It only reads files."""
