"""Explorers in a real browser: their numbers are Python's, keys move them, a phone and the dark show them whole.

All of them stand on one page, a file, as a lecturer would hand it out. Slow, and skipped where there is no browser.
"""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import browser
import numpy as np
import pytest
from scipy.stats import norm

from rbcnb.columns import readable
from rbcnb.evaluation.prior_shift import focal_posterior
from rbcnb.evaluation.winners_curse import chance_of_gain, expected_best_of
from rbcnb.losses.focal_curves import focal_curve, focal_gradient, group_shares, loss_shares, modulating_factor
from rbcnb.paper import load_spread
from rbcnb.plotting import explorers, lesson, toy
from rbcnb.plotting.explorers import N_POINTS, Explorer
from rbcnb.study import load_study_answer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(browser.missing()), reason=f"needs a browser: {browser.missing()}"),
]
STEP = 8  # every eighth point of a line is compared, the first and the last among them
T = np.arange(0, N_POINTS, STEP) / (N_POINTS - 1)
N_SETTINGS = 50
WIDTHS_PX = (390, 1100, 1920)  # a phone, a notebook, a projector
LOSSES = ("cross_entropy", "focal", "ldam")
BATCH = ({"normal": 80, "codocyte": 10, "hypochromia": 10}, {"normal": 0.9, "codocyte": 0.4, "hypochromia": 0.3})

Lines = list[tuple[str, Any, Any]]  # name, x and y of each curve of a panel
Numbers = list[tuple[float, int]]  # that a sentence prints, each with its decimals


def loss_terms(*, alpha: float, gamma: float, log_p_t: bool, log_y: bool) -> tuple[list[Lines], Numbers]:
    p = np.where(T < 0.3, 1e-4 * 500 ** (T / 0.3), 0.05 + 0.95 * (T - 0.3) / 0.7)
    pairs = [
        (focal_curve(p, gamma=0), focal_curve(p, alpha=alpha, gamma=gamma)),
        (focal_gradient(p, gamma=0), focal_gradient(p, alpha=alpha, gamma=gamma)),
        (modulating_factor(p, gamma=0), modulating_factor(p, gamma=gamma)),
    ]
    x = np.log10(p) if log_p_t else p
    panels = [
        [
            (name, x, np.log10(np.maximum(y, 1e-9)) if log_y else y)
            for name, y in zip(("cross entropy", "focal loss, yours"), pair, strict=True)
        ]
        for pair in pairs
    ]
    easy, hard = (float(focal_curve(at, alpha=alpha, gamma=gamma)) for at in (0.9, 0.4))
    return panels, [(0.9, 1), (easy, 3), (-np.log(0.9), 3), (0.4, 1), (hard, 3), (-np.log(0.4), 3)]


def loss_budget(*, gamma: float, majority: float, p_easy: float, p_hard: float) -> tuple[list[Lines], Numbers]:
    x, p_t = 6 * T, [p_easy, p_hard]
    shares = {"yours": majority, "33:33:33": 1 / 3, "10:10:80, the paper's": 0.8, "1:1:98": 0.98}
    now = [100 * of[0, 0] for of in group_shares([majority, 1 - majority], p_t, [gamma])]
    panels = []
    for i in (0, 1):  # loss, gradient
        lines = [(name, x, 100 * group_shares([s, 1 - s], p_t, x)[i][:, 0]) for name, s in shares.items()]
        panels.append([*lines, ("", [gamma], [now[i]])])
    return panels, [(100 * majority, 0), (now[0], 1), (now[1], 1)]


def noise_budget(*, gamma: float, noise: float, p_right: float, p_wrong: float) -> tuple[list[Lines], Numbers]:
    x, cells, p_t = 6 * T, [noise, 1 - noise], [p_wrong, p_right]
    now = [100 * of[0, 0] for of in group_shares(cells, p_t, [gamma])]
    panels = [
        [
            ("their share of loss or gradient", x, 100 * group_shares(cells, p_t, x)[i][:, 0]),
            ("their share of the cells", x, np.full_like(x, 100 * noise)),
            ("", [gamma], [now[i]]),
        ]
        for i in (0, 1)
    ]
    return panels, [(100 * noise, 0), (now[0], 0), (now[1], 0)]


def calibration_map(*, gamma: float) -> tuple[list[Lines], Numbers]:
    stated = 1e-4 + (1 - 2e-4) * T

    def true(p: np.ndarray) -> np.ndarray:
        return focal_posterior(np.stack([p, 1 - p], axis=1), gamma=gamma)[:, 0]

    truth, heard = "cross entropy: says the truth", "focal loss: sounds less sure"
    panels = [
        [(truth, T, T), (heard, true(stated), stated)],
        [(truth, T, np.zeros_like(T)), (heard, true(stated), stated - true(stated))],
    ]
    sure, unsure = true(np.array([0.8, 0.6]))
    return panels, [(0.8, 1), (sure, 3), (0.6, 1), (unsure, 3)]


def prior_shift(*, rare_train: float, rare_use: float, separation: float) -> tuple[list[Lines], Numbers]:
    at = -4 + 11 * T
    hit, false = norm.sf(at, separation), norm.sf(at)
    # Where the posteriors of two normal classes of equal spread are equal.
    cuts = [separation / 2 - np.log(rare / (1 - rare)) / separation for rare in (rare_train, rare_use, 0.5)]
    names = ("cut as trained", "cut after the shift of the prior", "cut for equal priors")
    rules = [(name, [cut], None) for name, cut in zip(names, cuts, strict=True)]
    densities = [
        ("majority", at, (1 - rare_use) * norm.pdf(at)),
        ("rare", at, rare_use * norm.pdf(at, separation)),
    ]
    true_positives, found = rare_use * hit, rare_use * hit + (1 - rare_use) * false
    scores = [
        ("F1 of the rare class", at, 2 * true_positives / (rare_use + found)),
        ("balanced accuracy", at, (hit + 1 - false) / 2),
    ]
    numbers = [(100 * rare_train, 0), (cuts[0], 2), (100 * rare_use, 0), (cuts[1], 2)]
    return [[*densities, *rules], [*scores, *rules]], numbers


def best_of(*, k: int, sd: float) -> tuple[list[Lines], Numbers]:
    at, gain, mean = T - 0.5, -0.1 + 0.8 * T, expected_best_of(k, sd)
    density = norm.pdf(at / sd) / norm.pdf(0)
    runs = [
        ("one run", at, density),
        ("best of k", at, k * density * norm.cdf(at / sd) ** (k - 1)),
        ("mean of the best", [mean], None),
    ]
    chances, numbers = [("chance, all being equal", gain, chance_of_gain(gain, k, sd))], [(k, 0), (mean, 3)]
    for row in load_spread().itertuples():
        chance = float(chance_of_gain(row.gain, k, sd))
        name = f"published, {readable(row.architecture)}: +{row.gain:.2f}"
        chances += [(name, [row.gain], None), ("", [row.gain], [chance])]
        numbers += [(row.gain, 2), (chance, 2)]
    return [runs, chances], numbers


ARITHMETIC: dict[str, Callable[..., tuple[list[Lines], Numbers]]] = {
    of.__name__: of for of in (loss_terms, loss_budget, noise_budget, calibration_map, prior_shift, best_of)
}


OPTIMISERS = ("SGD", "Adam, eps = 1e-8")


def made_up_toys() -> dict[str, Explorer]:
    """The explorers of fits, over numbers that no fit made."""
    rng = np.random.default_rng(0)
    alphas, side = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75], 8
    scores = {name: rng.uniform(0.5, 0.8, (3, 7, 4)) for name in OPTIMISERS}
    distances = {name: 10.0 ** -rng.uniform(0, 9, (3, 7)) for name in scores}
    truth = rng.dirichlet([1, 1, 1], 2000)

    def fits(_majority: float) -> SimpleNamespace:
        return SimpleNamespace(
            maps={name: rng.dirichlet([1, 1, 1], (3, side * side)) for name in LOSSES},
            truth=rng.dirichlet([1, 1, 1], side * side),
            x=rng.normal(size=(20, 2)),
            targets=rng.integers(0, 3, 20),
            scores={name: [0.5, 0.6, 0.7] for name in LOSSES},
            balanced={name: [0.4, 0.5, 0.6] for name in LOSSES},
        )

    flat = truth**0.5 / (truth**0.5).sum(axis=1, keepdims=True)
    noisy = {0.0: [[0.7, 0.8], [0.5, 0.6]], 2.0: [[0.7, 0.75], [0.55, 0.6]]}
    return {
        "alpha_lecture": toy.alpha_lecture(scores, distances, alphas, [0, 5, 10]),
        "calibration_fits": toy.calibration_fits({0.0: truth, 2.0: flat}, truth),
        "noise_training": toy.noise_training(
            {0.0: np.array([0.1, 0.3]), 2.0: np.array([0.1, 0.4])}, noisy, steps=[0, 10], noises=[0.0, 0.1]
        ),
        "toy_frames": toy.toy_frames(fits, LOSSES, majorities=[0.5, 0.8], states=[0, 1, 2], every=10),
    }


@pytest.fixture(scope="module")
def shown() -> dict[str, Explorer]:
    """All explorers, by the names of the functions that make them."""
    arithmetic = {name: getattr(lesson, name)() for name in ARITHMETIC}
    fixed = {
        "loss_share_bars": lesson.loss_share_bars(*BATCH),
        "study_answer": lesson.study_answer(load_study_answer()),
    }
    return arithmetic | fixed | made_up_toys()


# Beside the explorers: the numbers that a chart's marks were drawn from. Every eighth point of a line is enough.
_READ_OFF = """
window.explorer = (name) => document.querySelector(`#${name} .rbcnb-explorer`);
window.allTexts = (root) => root.views.flatMap((view) => [...view.container().querySelectorAll("text")]);
window.place = (input) => input.type === "checkbox" ? Number(input.checked) : Number(input.value);
window.readOff = (view) => {
  const found = [];
  const walk = (mark) => {
    if (mark.role === "mark" && mark.items.length > 0 && ["line", "rule", "symbol"].includes(mark.marktype)) {
      const points = mark.items.map(({ datum, x, y }) => ({ datum, x, y }));
      const away = points.map(({ datum, x, y }) => Math.max(
        Math.abs(x - view.scale("x")(datum.x)),
        mark.marktype === "rule" ? 0 : Math.abs(y - view.scale("y")(datum.y)),
      ));
      const some = points.filter((_, i) => i % STEP === 0);
      const [x, y] = ["x", "y"].map((axis) => some.map(({ datum }) => datum[axis]));
      found.push({ name: points[0].datum.name, n: points.length, x, y, away: Math.max(...away) });
    }
    for (const item of mark.items) (item.items ?? []).forEach(walk);
  };
  walk(view.scenegraph().root);
  return found;
};
window.put = (root, places) => {
  const inputs = [...root.querySelectorAll("input")];
  inputs.forEach((input, i) => {
    if (input.type === "checkbox") input.checked = places[i] === 1;
    else input.value = places[i];
  });
  inputs.forEach((input) => input.dispatchEvent(new Event("input", { bubbles: true })));
};
""".replace("STEP", str(STEP))


@pytest.fixture(scope="module")
def page_file(shown, tmp_path_factory):
    """One page with all of them."""
    sections = "".join(f'<section id="{name}">{explorer.html()}</section>' for name, explorer in shown.items())
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>explorers</title>'
    path = tmp_path_factory.mktemp("page") / "explorers.html"
    scripts = f"<script>{explorers.asset('explorer.js')}{_READ_OFF}</script>"
    body = f"<body><a id='top' href='#top'>top</a>{sections}{scripts}</body>"
    path.write_text(f'<!doctype html><html lang="en"><head>{head}</head>{body}</html>', encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(page_file):
    """The page, drawn; the addresses that it asked for, beyond its own file; what went wrong in it."""
    with browser.chromium_page(width_px=1100) as (page, strangers):
        asked, errors = [], []
        page.set_default_timeout(180_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_function("[...document.querySelectorAll('.rbcnb-explorer')].every((root) => root.views)")
        yield SimpleNamespace(page=page, strangers=strangers, asked=asked, errors=errors)


@pytest.fixture
def page(opened):
    """The page as a reader first sees it."""
    opened.page.set_viewport_size({"width": 1100, "height": 1000})
    opened.page.evaluate("document.querySelectorAll('.rbcnb-controls button').forEach((button) => button.click())")
    opened.page.evaluate("document.activeElement.blur()")
    return opened.page


def settings_of(explorer: Explorer, seed: int) -> list[list[int]]:
    """Places on the tracks of all sliders: all low, all high, each end of each, and drawn at random; 50 in all."""
    rng = np.random.default_rng(seed)
    last = np.array([len(control.values) - 1 for control in explorer.controls])
    places = rng.integers(0, last + 1, (N_SETTINGS, len(last)))
    places[0], places[1] = 0, last
    for i in range(len(last)):
        places[2 + 2 * i, i], places[3 + 2 * i, i] = 0, last[i]
    return places.tolist()


def check_sentence(shown: str, start: str, numbers: Numbers) -> None:
    """*shown* has the words of *start*, and *numbers* as they are rounded."""
    number = r"[-−]?\d+(?:\.\d+)?"
    assert re.split(number, shown) == re.split(number, start)
    for text, (value, digits) in zip(re.findall(number, shown.replace("−", "-")), numbers, strict=True):
        assert len(text.partition(".")[2]) == digits, shown
        assert abs(float(text) - value) <= 0.5 * 10.0**-digits + 1e-9, shown  # a tie may be rounded either way


@pytest.mark.parametrize("name", ARITHMETIC)
def test_charts_and_sentence_hold_pythons_numbers(name, page, shown):
    explorer = shown[name]
    places = settings_of(explorer, seed=len(name))
    start = page.evaluate("name => explorer(name).querySelector('.rbcnb-reading').textContent", name)
    found = page.evaluate(
        """([name, settings]) => settings.map((places) => {
          const root = explorer(name);
          put(root, places);
          const texts = [...root.querySelectorAll("output")].map((output) => output.textContent);
          return { texts, reading: root.querySelector(".rbcnb-reading").textContent, panels: root.views.map(readOff) };
        })""",
        [name, places],
    )
    for at, got in zip(places, found, strict=True):
        values = {c.name: c.values[i] for c, i in zip(explorer.controls, at, strict=True)}
        assert got["texts"] == [c.text(values[c.name]) for c in explorer.controls]
        panels, numbers = ARITHMETIC[name](**values)
        check_sentence(got["reading"], start, numbers)
        assert len(got["panels"]) == len(panels)
        for drawn, wanted in zip(got["panels"], panels, strict=True):
            assert [line["name"] for line in drawn] == [line[0] for line in wanted]
            for line, (label, x, y) in zip(drawn, wanted, strict=True):
                assert line["n"] == (N_POINTS if len(x) > 1 else 1), (values, label)
                assert line["away"] < 1e-6, (values, label)  # pixels between a point and where its numbers belong
                # Both sides work in float64; the winner's curse's weights travel with twelve digits, and 1 - cdf loses
                # what is below 1e-16. An axis is a few hundred pixels long.
                for drawn_at, wanted_at in ((line["x"], x), (line["y"], y)):
                    if wanted_at is not None:
                        message = f"{values} {label}"
                        np.testing.assert_allclose(drawn_at, wanted_at, rtol=1e-9, atol=1e-11, err_msg=message)


def test_bars_are_the_shares_of_cells_and_of_loss(page, shown):
    gammas = shown["loss_share_bars"].controls[0].values
    found = page.evaluate(
        """(n) => [...Array(n).keys()].map((place) => {
          const root = explorer("loss_share_bars");
          put(root, [place]);
          const bars = [];
          const walk = (mark) => {
            if (mark.marktype === "rect" && mark.role === "mark") bars.push(...mark.items.map(({ datum, x, width }) =>
              [datum.line, datum.share, width / root.views[0].width() * 100]));
            for (const item of mark.items) (item.items ?? []).forEach(walk);
          };
          walk(root.views[0].scenegraph().root);
          return { bars, reading: root.querySelector(".rbcnb-reading").textContent };
        })""",
        len(gammas),
    )
    counts, p_t = BATCH
    for gamma, got in zip(gammas, found, strict=True):
        wanted = {"cells": list(counts.values()), "loss": 100 * loss_shares(counts, p_t, [gamma])["share"]}
        for line, shares in wanted.items():
            drawn = [(share, width) for name, share, width in got["bars"] if name == line]
            np.testing.assert_allclose([share for share, _ in drawn], shares, rtol=1e-9)
            np.testing.assert_allclose([width for _, width in drawn], shares, atol=0.5)  # a bar has an edge
        words = "The normal cells are 80 % of the batch and pay 1.0 % of its loss."
        check_sentence(got["reading"], words, [(80, 0), (wanted["loss"].iloc[0], 1)])


def test_the_answer_shows_each_contrast_of_the_study(page):
    rows = load_study_answer()
    for places, (method, score, words) in {
        (0, 0): ("focal", "macro_f1", "focal loss minus cross entropy, macro F1"),
        (0, 1): ("focal", "balanced_accuracy", "focal loss minus cross entropy, balanced accuracy"),
        (1, 0): ("cross_entropy_priors_out", "macro_f1", "priors divided out minus cross entropy, macro F1"),
        (1, 1): ("cross_entropy_priors_out", "balanced_accuracy", "priors divided out minus cross entropy, balanced "),
    }.items():
        page.evaluate("places => put(explorer('study_answer'), places)", list(places))
        some = rows[(rows["method"] == method) & (rows["score"] == score)]
        gains, losses = (some["low"] > 0).sum(), (some["high"] < 0).sum()
        got = page.evaluate(
            """() => {
              const root = explorer("study_answer");
              const texts = allTexts(root).map((text) => text.textContent);
              return { texts, reading: root.querySelector(".rbcnb-reading").textContent };
            }"""
        )
        assert any(text.startswith(words) for text in got["texts"]), got["texts"]
        assert got["reading"].startswith(f"Clear gain: {gains} of 4 networks. Clear loss: {losses}.")
        drawn = page.evaluate(
            """() => {
              const found = [];
              const walk = (mark) => {
                if (mark.marktype === "symbol" && mark.role === "mark")
                  found.push(...mark.items.map(({ datum }) => datum));
                for (const item of mark.items) (item.items ?? []).forEach(walk);
              };
              walk(explorer("study_answer").views[0].scenegraph().root);
              return found.map(({ name, low, mean, high }) => [name, low, mean, high]);
            }"""
        )
        wanted = [[readable(row.architecture), row.low, row.mean, row.high] for row in some.itertuples()]
        assert sorted(drawn) == sorted(wanted)


def test_a_chart_that_was_made_while_hidden_is_as_wide_as_its_place_once_it_is_seen(page, shown):
    got = page.evaluate(
        """async (data) => {
          const root = document.createElement("div");
          root.style.display = "none";
          document.body.append(root);
          await showExplorer(root, data, window.rbcnbVega);
          root.style.display = "block";
          await new Promise((resolve) => setTimeout(resolve, 300));
          const widths = root.views.map((view) => [view.container().clientWidth,
            view.container().querySelector("svg").getBoundingClientRect().width]);
          root.remove();
          return widths;
        }""",
        shown["loss_budget"].as_dict(),
    )
    assert len(got) == 2
    assert all(place > 300 and abs(place - drawn) < 2 for place, drawn in got)


def test_labels_that_a_slider_makes_longer_have_room(page):
    for places in ([3, 20, 0, 1], [3, 20, 1, 1], [3, 20, 1, 0], [3, 20, 0, 0]):
        page.evaluate("places => put(explorer('loss_terms'), places)", places)
        assert page.evaluate(_BAD_LETTERS) == []


def test_a_slider_that_moves_before_the_charts_are_there_is_not_forgotten(opened, page, shown):
    got = page.evaluate(
        """async (data) => {
          const root = document.createElement("div");
          document.body.append(root);
          let open;
          const gate = new Promise((resolve) => { open = resolve; });
          const ready = showExplorer(root, data, async (...given) => {
            await gate;
            return window.rbcnbVega(...given);
          });
          const input = root.querySelector("input");
          input.value = 60;
          input.dispatchEvent(new Event("input"));
          open();
          await ready;
          const told = [root.views[0].signal("gamma"), root.querySelector(".rbcnb-reading").textContent];
          root.remove();
          return told;
        }""",
        shown["calibration_map"].as_dict(),
    )
    assert got[0] == 6
    check_sentence(got[1], got[1], calibration_map(gamma=6)[1])
    assert opened.errors == []


def focused(page) -> str:
    return page.evaluate(
        "() => { const at = document.activeElement; return `${at.closest('section')?.id} ${at.name || at.innerText}`; }"
    )


def test_tab_reaches_every_slider_and_reset_in_order(page, shown):
    wanted = [
        f"{name} {place}"
        for name, explorer in shown.items()
        if explorer.controls
        for place in [*(control.name for control in explorer.controls), "Reset"]
    ]
    page.locator("#top").focus()
    found = []
    for _ in wanted:
        page.keyboard.press("Tab")
        found.append(focused(page))
    assert found == wanted
    page.keyboard.press("Shift+Tab")
    assert focused(page) == wanted[-2]


def test_keys_move_by_one_step_and_reset_returns(page, shown):
    state = """name => { const root = explorer(name); return [
      [...root.querySelectorAll("input")].map(place),
      [...root.querySelectorAll("output")].map((output) => output.textContent),
      [...root.querySelectorAll("input")].map((input) => input.getAttribute("aria-valuetext")),
      root.querySelector(".rbcnb-reading").textContent,
      root.views.flatMap((view) => [...view.container().querySelectorAll("text, .role-mark *")].map((drawn) =>
        [drawn.getAttribute("d"), drawn.getAttribute("transform"), drawn.href?.baseVal, drawn.textContent].join(" "))),
    ]; }"""
    for name, explorer in shown.items():
        start = page.evaluate(state, name)
        for i, control in enumerate(explorer.controls):
            at = control.values.index(control.value)
            box, last = isinstance(control.value, bool), at == len(control.values) - 1
            to = at - 1 if last else at + 1
            page.locator(f"#{name} input").nth(i).focus()
            page.keyboard.press("Space" if box else "ArrowLeft" if last else "ArrowRight")
            places, texts, spoken, _, pictures = page.evaluate(state, name)
            assert places[i] == to, (name, control.name)
            assert texts[i] == control.text(control.values[to])
            assert spoken[i] == (None if box else texts[i])
            assert pictures != start[4], (name, control.name)
        if explorer.controls:
            page.locator(f"#{name} button").focus()
            page.keyboard.press("Enter")
            assert page.evaluate(state, name) == start, name


def test_everything_has_a_name_for_who_hears_the_page(page, shown):
    for name, explorer in shown.items():
        section = page.locator(f"#{name}")
        for control in explorer.controls:
            role = "checkbox" if isinstance(control.value, bool) else "slider"
            assert section.get_by_role(role, name=control.label, exact=True).count() == 1, (name, control.label)
        assert section.get_by_role("button", name="Reset", exact=True).count() == bool(explorer.controls)
        assert section.get_by_role("img", name=explorer.alt, exact=True).count() == 1, name


# Letters that are too small, cut off or on top of others, with the panel's name.
_BAD_LETTERS = """() => {
  const bad = [];
  const size = (element) => parseFloat(getComputedStyle(element).fontSize);
  for (const root of document.querySelectorAll(".rbcnb-explorer")) {
    const note = (why, ...texts) =>
      bad.push([root.closest("section").id, why, ...texts.map((text) => text.textContent)]);
    for (const element of root.querySelectorAll("*")) {
      const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
      if (own && element.checkVisibility() && size(element) < 12) note("small", element);
    }
    for (const view of root.views) {
      const frame = view.container().querySelector("svg").getBoundingClientRect();
      const texts = [...view.container().querySelectorAll("text")]
        .filter((text) => text.textContent && getComputedStyle(text).opacity !== "0");
      const boxes = texts.map((text) => text.getBoundingClientRect());
      texts.forEach((text, i) => {
        const { a, b } = text.getScreenCTM();
        if (size(text) * Math.hypot(a, b) < 12) note("small", text);
        const { left, right, top, bottom } = boxes[i];
        if (left < frame.left - 1 || right > frame.right + 1 || top < frame.top - 1 || bottom > frame.bottom + 1)
          note("cut off", text);
        boxes.slice(0, i).forEach((other, j) => {
          const wide = Math.min(right, other.right) - Math.max(left, other.left);
          const high = Math.min(bottom, other.bottom) - Math.max(top, other.top);
          if (wide > 1 && high > 3) note("on top of each other", texts[j], text);
        });
      });
    }
  }
  return bad;
}"""
# Lines are cut at the edge of their own chart, whatever the chart's width: never at that of another chart of the page.
_BAD_CLIPS = """() => [...document.querySelectorAll(".rbcnb-explorer")].flatMap((root) => root.views.flatMap((view) => {
  const clipped = [...view.container().querySelectorAll("[clip-path]")];
  return clipped.filter((group) => {
    const id = group.getAttribute("clip-path").match(/#(\\w+)/)[1];
    const found = [...group.getRootNode().querySelectorAll(`[id="${id}"] > *`)];
    return found.length !== 1 || Math.abs(found[0].getBBox().width - view.width()) > 0.5;
  }).map((group) => [root.closest("section").id, group.outerHTML.slice(0, 80)]);
}))"""


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_letters_are_legible_and_lines_whole_at_every_width(page, width_px):
    page.set_viewport_size({"width": width_px, "height": 900})
    page.wait_for_function(  # the charts hear of the new width
        """() => [...document.querySelectorAll('.rbcnb-explorer')].every((root) => root.views.every((view) => Math.abs(
          view.container().clientWidth - view.container().querySelector('svg').getBoundingClientRect().width) < 2))"""
    )
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width_px
    assert page.evaluate(_BAD_LETTERS) == []
    assert page.evaluate(_BAD_CLIPS) == []
    lefts = page.evaluate(
        """() => [...document.querySelectorAll('.rbcnb-panels')].map((panels) =>
          new Set([...panels.children].map((panel) => Math.round(panel.getBoundingClientRect().left))).size)"""
    )
    n_panels = page.evaluate("[...document.querySelectorAll('.rbcnb-panels')].map((panels) => panels.children.length)")
    assert lefts == ([1] * len(lefts) if width_px == 390 else n_panels)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_take_the_colour_of_the_text_around_them(page, scheme):
    dark = scheme == "dark"
    page.emulate_media(color_scheme=scheme)
    rules = "background: #111; color: #eee" if dark else "color: #010203"
    style = page.add_style_tag(content=f"body {{ {rules} }}")
    try:
        colours = page.evaluate(
            """() => [...document.querySelectorAll(".rbcnb-explorer")].flatMap((root) => allTexts(root)
              .filter((text) => text.closest(".role-axis, .role-legend, .role-title"))
              .map((text) => getComputedStyle(text).fill))"""
        )
        assert len(colours) > 200
        assert set(colours) == {"rgb(238, 238, 238)" if dark else "rgb(1, 2, 3)"}
        backgrounds = """() => [...document.querySelectorAll('.rbcnb-explorer')].flatMap((root) => root.views.map(
          (view) => getComputedStyle(view.container().querySelector('svg .background, svg')).backgroundColor))"""
        assert set(page.evaluate(backgrounds)) == {"rgba(0, 0, 0, 0)"}
    finally:
        style.evaluate("element => element.remove()")
        page.emulate_media(color_scheme="light")


def test_the_paler_blue_of_a_dark_page_is_that_of_marks_and_legend(page):
    style = page.add_style_tag(content=".rbcnb-explorer { --rbcnb-blue: #4db1f0 }")
    blues = """() => explorer("loss_share_bars").views.flatMap((view) =>
      [...view.container().querySelectorAll(".mark-rect path, .mark-symbol path")]
        .filter((mark) => mark.getAttribute("fill") === "#0072B2").map((mark) => getComputedStyle(mark).fill))"""
    try:
        found = page.evaluate(blues)
        assert len(found) >= 3  # hypochromia's two bars, and its place in the legend
        assert set(found) == {"rgb(77, 177, 240)"}
    finally:
        style.evaluate("element => element.remove()")


def test_sentences_have_no_place_left_open(page):
    sentences = page.evaluate("[...document.querySelectorAll('[role=status]')].map((place) => place.textContent)")
    assert sum(map(bool, sentences)) > 8
    assert not [text for text in sentences if "{" in text]
    rng = np.random.default_rng(0)  # the scores of `made_up_toys` after the last step
    sgd, adam = (np.ptp(rng.uniform(0.5, 0.8, (3, 7, 4))[-1].mean(axis=1)) for _ in OPTIMISERS)
    assert f"up to {sgd:.2f} under SGD and {adam:.2f} under Adam, eps = 1e-8." in " ".join(sentences)


def test_the_toy_says_in_words_which_loss_is_best(page):
    page.evaluate("places => put(explorer('toy_frames'), places)", [1, 2])
    status = page.evaluate("explorer('toy_frames').querySelector('[role=status]').textContent")
    assert status == "The highest macro F1: cross entropy, 0.70; the highest balanced accuracy: cross entropy, 0.60."


def test_pictures_of_the_toy_follow_their_sliders(page):
    pictures = "explorer('toy_frames').views.map((view) => view.container().querySelector('image').href.baseVal)"
    words = "allTexts(explorer('toy_frames')).map((text) => text.textContent).filter((text) => text.startsWith('F1'))"
    seen = set()
    for places, f1 in (([0, 0], "F1 0.50, BA 0.40"), ([1, 0], "F1 0.50, BA 0.40"), ([1, 2], "F1 0.70, BA 0.60")):
        page.evaluate("places => put(explorer('toy_frames'), places)", places)
        assert page.evaluate(words) == [f1] * len(LOSSES)
        # Browsers unpack a picture before they show it.
        page.wait_for_function(f"{pictures}.every((href) => href.startsWith('data:image/webp;base64,'))")
        page.wait_for_timeout(500)
        seen |= set(page.evaluate(pictures))
    assert len(seen) == 3 * len(LOSSES)


def test_the_page_asks_nobody_and_no_script_fails(opened):
    asked = [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))]
    assert asked == opened.strangers == opened.errors == []
