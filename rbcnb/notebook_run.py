"""One notebook, run headlessly with parameters."""

import sys
from pathlib import Path
from typing import Any


class ReproductionError(RuntimeError):
    """A notebook failed; what was done before it is kept, and the next call carries on from there."""


def run_notebook(source: Path, target: Path, parameters: dict[str, Any]) -> None:
    """Runs the notebook at *source* with *parameters* into *target*, its output on this process's stderr.

    Raises:
        ReproductionError: a cell failed, or the kernel died.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            _verbatim(source),
            _verbatim(target),
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(source.parent),
            stdout_file=_Indented(sys.stderr),
            # The kernel's advice on encrypted transports is no news for a kernel on this machine's loopback.
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
    except PapermillExecutionError as error:
        raise ReproductionError(
            f"{source.stem}, cell {error.cell_index} (In [{error.exec_count}]): {error.ename}: {error.evalue}\n"
            f"The notebook as far as it came: {target}\n"
            "What is finished is kept; the same command carries on from there."
        ) from None
    except DeadKernelError:
        raise ReproductionError(
            f"{source.stem}: its kernel died, most often for want of memory; try --jobs 1. "
            "What is finished is kept; the same command carries on from there."
        ) from None


def _verbatim(path: Path) -> str:
    """papermill fills in braces in a path; doubled ones stay as they are."""
    return str(path).replace("{", "{{").replace("}", "}}")


class _Indented:
    """A text stream that sets every line it passes on apart from the runner's own."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write("".join(f"      {line}" for line in text.splitlines(keepends=True)))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()
