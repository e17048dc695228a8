"""The public names of `spa_bench` for Python programs and notebooks; `spa_bench/__init__.py` has the table of them."""
