"""`python -m facerec`: the same as the console script `facerec`."""

from facerec.cli.main import main

if __name__ == "__main__":
    main()
