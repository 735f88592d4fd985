"""`thalweg pyfiles`: the package as one file, for Spark."""

from pathlib import Path

import click

from thalweg.cli.reach.reading import WrongCall
from thalweg.jobs.runtime.package import write_package


@click.command(short_help="Write the package as a zip for spark-submit --py-files.")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path), metavar="OUT.zip")
def pyfiles(out: Path) -> None:
    """Write the package as a zip for spark-submit --py-files.

    For applications of your own that call Thalweg in Spark tasks, and for drivers on a machine that lacks it. The jobs
    give it to their executors by themselves. The packages that it needs must be in the executors' Python.

    \b
    Example:
      thalweg pyfiles thalweg.zip
      spark-submit --master spark://... --py-files thalweg.zip application.py
    """
    if out.suffix != ".zip":
        raise WrongCall(f"seen {out}; Spark takes a file for Python's path only if its name ends in .zip")
    try:
        click.echo(write_package(out))
    except OSError as error:
        raise WrongCall(f"{out}: {error}") from error
