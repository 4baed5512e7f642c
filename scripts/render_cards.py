"""Render the static cards and the Space without pictures into ``cards/``, or check that they are up to date.

Example:
    python scripts/render_cards.py --check
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from medmnist_hf import console
from medmnist_hf.cards.readme import stale_cards, update_table, write_static_cards
from medmnist_hf.console.program import Program
from medmnist_hf.errors import BuildError
from medmnist_hf.files import write_atomically
from medmnist_hf.space.site import stale_files, write_site

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
CARDS: Final = ROOT / "cards"
SPACE: Final = CARDS / "space"

app = Program(add_completion=False)


@app.command(epilog="Example: python scripts/render_cards.py --check")
def cards(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if anything is stale.")] = False,
) -> None:
    """Render the cards, the Space and the README's table from the catalog, bibliography and published results."""
    readme = README.read_text(encoding="utf-8")
    if check:
        space = [f"space/{path}" for path in stale_files(SPACE)]
        stale = [*stale_cards(CARDS), *space, *([README.name] if update_table(readme) != readme else [])]
        if stale:
            raise BuildError(f"stale cards: {', '.join(stale)}: run python scripts/render_cards.py")
        print("all cards are up to date")
        return
    for path in write_static_cards(CARDS):
        print(path)
    write_site(SPACE)
    for name in stale_files(SPACE):
        (SPACE / name).unlink()  # of an earlier version of the page
    print(SPACE)
    write_atomically(README, update_table(readme))
    print(README)


if __name__ == "__main__":
    console.run(app)
