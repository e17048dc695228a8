"""spa-bench: which way of sampling gives answers that are both good and different?"""

__version__ = "0.1.0"
