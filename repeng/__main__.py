"""The command line, as `python -m repeng`: what torchrun and accelerate's launcher start."""

from repeng.cli import main

main()
