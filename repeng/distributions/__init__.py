"""What is asked: examples, distributions, shifts, and how a prompt and response become text."""
