"""`python -m distilscope`: the command, where its folder is not on the path."""

from distilscope.cli.main import main

if __name__ == "__main__":
    main()
