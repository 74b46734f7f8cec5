"""Do synthetic smears look like real ones? Statistics of both as populations, and a contact sheet, on Chula RBC-12.

    python benchmarks/population.py --chula DIR [--smears 150] [--out DIR]

What a smear's image shows as numbers (`describe`): the middle 96 % of Chula's images beside those of synthetic smears
of difficulty drawn from 0..1, and the share of Chula's images within the synthetic 1 to 99 % range.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from rbcnb.segmentation.diameter import estimate_diameter
from rbcnb.smears.chula import chula_smears
from rbcnb.smears.images import Smear
from rbcnb.smears.synthetic.render import PAPER_COUNTS, SmearSpec, render_smear


def synthetic(n: int, *, seed: int, ratio: tuple[float, ...], n_cells: int) -> Iterator[Smear]:
    """*n* smears of all difficulties, magnifications and densities, as a laboratory's archive would hold."""
    rng = np.random.default_rng([seed, n, n_cells])
    for i in range(n):
        diameter_px, cover = rng.uniform(32, 50), rng.uniform(0.15, 0.5)
        height_px = int(diameter_px * np.sqrt(n_cells * np.pi / 4 / cover * 3 / 4))
        spec = SmearSpec(
            height_px=height_px,
            width_px=height_px * 4 // 3,
            n_cells=n_cells,
            diameter_px=diameter_px,
            class_ratio=ratio,
            difficulty=rng.random(),
        )
        image, truth = render_smear(spec, seed=[seed, i])
        yield Smear(f"synthetic_{i}", image, truth, f"synthetic_{i}")


def describe(image: np.ndarray) -> dict[str, float] | None:
    """What one smear shows: colours of the background, densities of the cells, sharpness and so on; None if no cell."""
    try:
        diameter = estimate_diameter(image)
    except ValueError:
        return None
    green = cv2.GaussianBlur(image[..., 1], (0, 0), 0.7)
    _, stained = cv2.threshold(green, 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(stained, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(stained), contours, -1, 1, cv2.FILLED)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    reach = max(1, round(0.08 * diameter))
    background = cv2.dilate(filled, kernel, iterations=reach) == 0
    body = cv2.erode(stained, kernel, iterations=max(1, reach // 2)) > 0
    if background.sum() < 500 or body.sum() < 500:
        return None
    white = np.median(image[background], axis=0) + 1
    density = np.log10(white / (image + 1.0))
    cells = np.median(density[body], axis=0)
    smooth = cv2.GaussianBlur(density[..., 1], (0, 0), 0.7)
    slope = np.hypot(*np.gradient(smooth))
    edge = (cv2.dilate(filled, kernel) > 0) & (cv2.erode(filled, kernel, iterations=2) == 0)
    grain = image[..., 1] - cv2.GaussianBlur(image[..., 1].astype(float), (0, 0), 2)
    low, high = np.percentile(density[..., 1][body], [10, 90])
    thirds = [
        np.median(part[..., 1][mask])
        for part, mask in zip(_tiles(image), _tiles(background), strict=True)
        if mask.sum() > 100
    ]
    return {
        "diameter_px": diameter,
        "background_red": white[0],
        "background_green": white[1],
        "background_blue": white[2],
        "density_green": cells[1],
        "density_red_to_green": cells[0] / cells[1],
        "density_blue_to_green": cells[2] / cells[1],
        "density_p10": low / cells[1],
        "density_p90": high / cells[1],
        "edge_slope": np.percentile(slope[edge], 90) * diameter / cells[1],
        "grain": grain[background].std(),
        "uneven_light": (max(thirds) - min(thirds)) / np.median(thirds),
        "cover": filled.mean(),
    }


def population(real: list[np.ndarray], n: int) -> pd.DataFrame:
    """One row per statistic: quantiles of both populations, the share of real ones in the synthetic 98 %."""
    drawn = [smear.image for smear in synthetic(n, seed=11, ratio=PAPER_COUNTS, n_cells=90)]
    ours, theirs = (pd.DataFrame([row for image in images if (row := describe(image))]) for images in (drawn, real))
    low, high = ours.quantile(0.01), ours.quantile(0.99)
    columns = {
        f"{name}_{round(100 * q):02d}": table.quantile(q)
        for name, table in (("real", theirs), ("synthetic", ours))
        for q in (0.02, 0.5, 0.98)
    }
    return pd.DataFrame(columns | {"real_within": ((theirs >= low) & (theirs <= high)).mean()})


def sheet(real: list[np.ndarray]) -> np.ndarray:
    """Rows of four smears: difficulty 0, 0.5 and 1, and (where there are) two rows of real ones."""
    specs = [SmearSpec(480, 640, 90, 41.0, (1, 1, 4), difficulty) for difficulty in (0.0, 0.5, 1.0)]
    images = [[render_smear(spec, seed=[21, i])[0] for i in range(4)] for spec in specs]
    images += [real[i : i + 4] for i in range(0, min(len(real), 8), 4) if len(real[i : i + 4]) == 4]
    return np.vstack([np.hstack(row) for row in images])


def _tiles(image: np.ndarray) -> list[np.ndarray]:
    return [tile for row in np.array_split(image, 3) for tile in np.array_split(row, 3, axis=1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chula", type=Path, required=True, help="folder of Chula RBC-12 (rbcnb fetch chula)")
    parser.add_argument("--smears", type=int, default=150, help="synthetic ones to describe")
    parser.add_argument("--out", type=Path, help="folder for the table and the contact sheet")
    options = parser.parse_args()

    table = population([smear.image for smear in chula_smears(options.chula, types="all")], options.smears)
    print(table.round(3).to_string())
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out / "population.csv")
        real = [smear.image for smear in chula_smears(options.chula, n=8, seed=3)]
        cv2.imwrite(str(options.out / "sheet.png"), sheet(real)[..., ::-1])


if __name__ == "__main__":
    main()
