"""`python -m thalweg` is the command line."""

from thalweg.cli.main import main

if __name__ == "__main__":
    main()
