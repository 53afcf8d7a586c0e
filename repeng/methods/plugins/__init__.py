"""Other people's methods: folders with train.py and eval.py, and Python objects."""
