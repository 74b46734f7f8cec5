"""Sliders over pictures that the kernel redraws: for what must be computed in Python, such as a fit.

What is plain arithmetic needs no kernel: see `rbcnb.plotting.explorers`. A plain figure under ipywidgets' own sliders:
`rbcnb.plotting.sliders.explore`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import traitlets

from rbcnb.plotting.explorers import Control, Explorer, asset
from rbcnb.plotting.sliders import with_picture
from rbcnb.plotting.style import Picture


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
        self,
        drawing: Callable[..., Sequence[Picture]],
        controls: Sequence[Control],
        *,
        without_kernel: Explorer | None = None,
    ) -> None:
        """Draws first where the *controls* stand.

        Args:
            drawing: takes the controls' values by name.
            controls: sliders.
            without_kernel: shown by pages that have no kernel; its heading and its caption stand here, too. Without it
                they show the first picture.
        """
        values = {control.name: control.value for control in controls}
        self._drawing, self._without_kernel = drawing, without_kernel
        super().__init__(
            controls=[control.as_dict() for control in controls],
            heading=without_kernel.heading if without_kernel else "",
            reading=without_kernel.caption if without_kernel else "",
            values=values,
            pictures=self._drawn(values),
        )
        self.observe(lambda change: self.set_trait("pictures", self._drawn(change["new"])), names="values")

    def _drawn(self, values: dict[str, Any]) -> list[dict[str, Any]]:
        return [vars(picture) for picture in self._drawing(**values)]

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        if self._without_kernel is not None:
            return data | self._without_kernel._repr_mimebundle_(), metadata
        first = self.pictures[0]
        words = f"{first['title']}. {first['words']}. Run the notebook to move its sliders."
        return with_picture((data, metadata), first["file"], words)
