"""`python -m gsplatloc COMMAND ...`: what the console command `gsplatloc` does."""

from gsplatloc.cli import main

if __name__ == "__main__":
    main()
