"""The lesson as a page: notebook 3 under Voila."""

from collections.abc import Callable

from rbcnb.page import show_page
from rbcnb.reproduce import notebooks_folder

NOTEBOOK = "03_loss_exploration.ipynb"


def show_lesson(*, port: int = 0, browse: bool = True, say: Callable[[str], None] = print) -> None:
    """Serves a copy of the lesson until interrupted; see `rbcnb.page.show_page` for the arguments and errors."""
    notebook = (notebooks_folder() / NOTEBOOK).read_text(encoding="utf-8")
    hint = f"Ctrl-C ends it; to do the exercises, open {NOTEBOOK} in JupyterLab"
    show_page("lesson", notebook, hint=hint, port=port, browse=browse, say=say)
