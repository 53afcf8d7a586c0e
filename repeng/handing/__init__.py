"""Handing on: directions in other tools' formats, and stores and probes to and from a hub repository or a folder."""
