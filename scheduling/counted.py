"""Numbers of things in words that people read: "1 GPU", "2.5 GPUs", "1,024 copies"."""


def counted(number: float, one: str, many: str | None = None) -> str:
    """Say how many: thousands grouped, of a fraction three digits behind the point.

    Args:
        number: of them.
        one: what one of them is called, and with it what agrees: "task waits".
        many: what any other number is called; None for `one` with an s.
    """
    figure = f"{number:,.3f}".rstrip("0").rstrip(".")
    return f"{figure} {one if figure == '1' else many or f'{one}s'}"
