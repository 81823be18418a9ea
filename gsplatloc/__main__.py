"""`python -m gsplatloc COMMAND ...`, the same as the console command `gsplatloc`."""

from gsplatloc.cli import main

if __name__ == "__main__":
    main()
