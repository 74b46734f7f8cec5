"""Sliders over pictures that the kernel draws anew: for what must be computed in Python, such as a fit.

What is plain arithmetic needs no kernel: see `rbcnb.plotting.explorers`. A plain figure under ipywidgets' own sliders:
`rbcnb.plotting.sliders.explore`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anywidget
import traitlets

from rbcnb.plotting.explorers import Control, Explorer, asset


@dataclass(frozen=True)
class Picture:
    """One of several that a slider changes.

    Attributes:
        title: printed above it; the same at all places of the sliders.
        words: printed below the title.
        file: a WebP or PNG file.
    """

    title: str
    words: str
    file: bytes


class KernelPictures(anywidget.AnyWidget):
    """Native sliders, with names for screen readers, over pictures in as many columns as there is room for.

    Keys that come faster than pictures do not pile up: the page keeps only the newest values while the kernel draws.
    """

    _esm = asset("explorer.js") + asset("kernel_pictures.js")
    _css = asset("explorer.css")
    controls = traitlets.List().tag(sync=True)
    heading = traitlets.Unicode().tag(sync=True)
    reading = traitlets.Unicode().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)  # name of a control -> where it stands
    pictures = traitlets.List().tag(sync=True)

    def __init__(
        self, drawing: Callable[..., Sequence[Picture]], controls: Sequence[Control], *, without_kernel: Explorer
    ) -> None:
        """Draws first where the *controls* stand.

        Args:
            drawing: takes the controls' values by name.
            controls: sliders.
            without_kernel: shown by pages that have no kernel; its heading and its sentence stand here, too.
        """
        values = {control.name: control.value for control in controls}
        self._drawing, self._without_kernel = drawing, without_kernel
        super().__init__(
            controls=[control.as_dict() for control in controls],
            heading=without_kernel.heading,
            reading=without_kernel.caption,
            values=values,
            pictures=self._drawn(values),
        )
        self.observe(lambda change: self.set_trait("pictures", self._drawn(change["new"])), names="values")

    def _drawn(self, values: dict[str, Any]) -> list[dict[str, Any]]:
        return [vars(picture) for picture in self._drawing(**values)]

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return data | self._without_kernel._repr_mimebundle_(), metadata
