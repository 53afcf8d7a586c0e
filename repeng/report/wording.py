"""Small words of a page's sentences."""


def many(count: int, noun: str) -> str:
    """`1 shift`, `2 shifts`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[0].upper() + text[1:]
