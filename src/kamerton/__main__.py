"""`python -m kamerton`."""

from kamerton.cli.main import run

if __name__ == "__main__":
    run()
