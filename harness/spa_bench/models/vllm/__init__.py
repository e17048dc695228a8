"""vLLM as an engine that draws and scores: in a process of its own on this machine, or over HTTP."""
