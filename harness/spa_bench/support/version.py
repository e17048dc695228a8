"""The version of spa-bench, for every part that prints it; users read `spa_bench.__version__`."""

__version__ = "0.1.0"
