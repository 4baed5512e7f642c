"""Push the `evaluate` module to the Hub: shows what would change, and with --yes changes it.

Example: python scripts/push_metric.py --repo-id me/medmnist --tag v1.0 --yes
"""

from typing import Annotated

import typer

from medmnist_hf import console
from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.evaluate_module import FOLDER
from medmnist_hf.evaluate_module.push import plan_metric, push_metric
from medmnist_hf.hub.client import hub_api
from medmnist_hf.hub.commit import CommitOptions

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(epilog="Example: python scripts/push_metric.py --repo-id me/medmnist --tag v1.0 --yes")
def main(
    repo_id: Annotated[str, typer.Option(help=f"The Space, NAMESPACE/{FOLDER.name}.")] = f"{NAMESPACE}/{FOLDER.name}",
    yes: Annotated[
        bool, typer.Option("--yes/--dry-run", help="Push; without it, only show what would change.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new Space private.")] = False,
    tag: Annotated[str | None, typer.Option(help="Tag to set once all is checked, e.g. v1.0.")] = None,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
) -> None:
    """Push the metric's module in one commit to the Space from which `evaluate.load` takes it."""
    api = hub_api()
    options = CommitOptions(repo_id, private=private, tag=tag, message=message)
    plan = plan_metric(api, options)
    for line in plan.lines():
        console.echo(line)
    if not yes:
        console.echo("nothing was changed: pass --yes to push")
        return
    console.echo(push_metric(api, plan, options).summary())


if __name__ == "__main__":
    console.run(app)
