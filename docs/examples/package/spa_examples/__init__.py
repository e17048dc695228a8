"""What this package adds to spa-bench: pyproject.toml has the names."""

CALM = "calm.toml"  # paths of cards begin in the folder of the module that names them
MORE_LISTS = "more-lists.toml"
