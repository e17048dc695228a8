"""`python -m spa_bench` is the command line."""

from spa_bench.cli.main import entry

if __name__ == "__main__":
    entry()
