"""`python -m thalweg.benchmarks.startup`."""

import click

from thalweg.benchmarks.startup.startup import startup


@click.command()
@click.option("--runs", type=click.IntRange(min=1), default=15, show_default=True, help="How often each command runs.")
def main(runs: int) -> None:
    """Measure how soon the commands answer."""
    document = startup(runs)
    columns = ("min_ms", "median_ms", "max_ms", "cpu_median_ms", "goal_ms")
    print(f"{'':16}" + "".join(f"{name:>14}" for name in columns))
    for name, found in document["commands"].items():
        print(f"{name:16}" + "".join(f"{found.get(column, ''):>14}" for column in columns))


if __name__ == "__main__":
    main()
