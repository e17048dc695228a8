"""`spa-bench view`: a folder of runs in the browser, on this machine alone, while they grow. It only ever reads."""
