"""Push the `evaluate` module to the Hub: shows what would change, and with --yes changes it.

Example: python scripts/push_metric.py --repo-id me/medmnist --tag v1.0 --yes
"""

from typing import Annotated

import typer
from huggingface_hub import HfApi

from medmnist_hf import console
from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.evaluate_module import FOLDER
from medmnist_hf.evaluate_module.push import plan_metric, push_metric

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
    api = HfApi(library_name="medmnist-hf")
    plan = plan_metric(api, repo_id, private=private, tag=tag)
    for line in plan.lines():
        print(line)
    if not yes:
        print("nothing was changed: pass --yes to push")
        return
    done = push_metric(api, plan, private=private, tag=tag, message=message)
    what = f"commit {done.sha[:12]}" if done.committed else f"unchanged, no commit made; at {done.sha[:12]}"
    print(f"{repo_id}: {what}, all files checked{f', tagged {tag}' if tag else ''}")


if __name__ == "__main__":
    console.run(app)
