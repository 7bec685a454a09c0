"""`python -m gristmill`: the command line."""

from gristmill.cli import app

if __name__ == "__main__":
    app(prog_name="gristmill")
