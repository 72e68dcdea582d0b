"""One file per command of `fleet`; the table in `cli/main.py` names them."""
