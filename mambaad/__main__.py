"""`python -m mambaad` is the command line."""

from mambaad.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
