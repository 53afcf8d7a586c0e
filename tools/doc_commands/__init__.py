"""Runs the commands and the Python of README and docs/ as they stand there: `python -m tools.doc_commands`.

`pages.py` reads them out of the pages, `stand_ins.py` has what the pages only name (models, data, results), made up and
small, `tables.py` what is not run and why, `running.py` runs them, `checks.py` looks for options and files that are not
there.
"""
