"""What explorers are made of, as Python has it; `test_explorer_page.py` opens them in a browser."""

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import vl_convert
from PIL import Image

from rbcnb import plotting
from rbcnb.plotting.explorers import (
    N_POINTS,
    Axis,
    Control,
    Curve,
    Explorer,
    asset,
    number,
    panel,
    percent,
    sentence,
    steps,
    switch,
    table_panel,
    vega,
)
from rbcnb.plotting.style import SelfShowingFigure, png
from rbcnb.study import load_study_answer

ARITHMETIC = ("loss_terms", "loss_budget", "noise_budget", "calibration_map", "prior_shift", "best_of")
BATCH = ({"normal": 80, "codocyte": 20}, {"normal": 0.9, "codocyte": 0.4})


def parabola(alt: str = "A parabola.", value: float = 2.0) -> Explorer:
    """The smallest explorer there is."""
    curves = [Curve("mine", "datum.t", "top * datum.t * datum.t", "#0072B2")]
    chart = panel(curves, Axis("x (m)", 0, 1), Axis("y (m)", 0, 5))
    words = sentence("It ends at {end} m.", end=number("top", 1))
    return Explorer("parabola", alt, [steps("top", "top", value, 1, 5, 0.5)], [chart], words)


def pixels(figure: SelfShowingFigure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))


def layers(chart) -> list[dict]:
    return chart.to_dict()["layer"]


def test_steps_stand_at_clean_values():
    control = steps("p", "p", 0.9, 0.05, 0.99, 0.01)
    assert control.as_dict()["values"] == [round(0.05 + i / 100, 2) for i in range(95)]
    assert (control.value, control.text()) == (0.9, "0.9")
    assert steps("p", "p", 0.904, 0.05, 0.99, 0.01).value == 0.9
    shares = steps("share", "share", 0.57, 0, 1, 0.01, percent=True)
    assert [shares.text(), shares.text(0.07), shares.text(1.0)] == ["57 %", "7 %", "100 %"]
    assert steps("k", "k", 7, 1, 20, 1).text() == "7"


def test_a_control_starts_at_the_nearest_value_that_it_has():
    control = Control("majority", "share", [0.34, 0.8, 0.98], 0.34, percent=True)
    assert control.at(0.95).text() == "98 %"
    assert control.value == 0.34  # a control is not changed
    box = switch("log", "log axis")
    assert (box.text(), box.at(True).text(), box.at(True).value) == ("off", "on", True)
    assert control.as_dict() == {
        "name": "majority",
        "label": "share",
        "values": [0.34, 0.8, 0.98],
        "texts": ["34 %", "80 %", "98 %"],
        "value": 0.34,
    }


@pytest.mark.parametrize("name", ARITHMETIC)
def test_whatever_a_slider_shows_is_short(name):
    for control in getattr(plotting, name)().controls:
        values, texts = (control.as_dict()[part] for part in ("values", "texts"))
        assert len(set(texts)) == len(texts)  # no two places look alike
        assert all(re.fullmatch(r"\d{1,2}(\.\d{1,2})?( %)?|on|off", text) for text in texts), texts
        assert control.value in values


@pytest.mark.parametrize("name", ARITHMETIC)
def test_every_axis_has_a_name_and_says_its_unit(name):
    for chart in getattr(plotting, name)().panels:
        for layer in layers(chart):
            for axis in ("x", "y"):
                if title := layer["encoding"].get(axis, {}).get("title"):
                    assert re.search(r"\(.+\)$|macro F1", title), title  # a score has no unit


def test_axes_take_numbers_and_expressions():
    fixed = Axis("x", 0, 5).options()
    assert fixed["scale"].to_dict() == {"nice": False, "zero": False, "domainMin": 0, "domainMax": 5}
    assert fixed["axis"].to_dict() == {"tickCount": 6}
    moving = Axis("x", "low", "2 * low", values="[low]", labels="datum.value + 'm'").options()
    ends = {"domainMin": {"expr": "low"}, "domainMax": {"expr": "2 * low"}}
    assert moving["scale"].to_dict() == {"nice": False, "zero": False, **ends}
    assert moving["axis"].to_dict() == {"values": {"expr": "[low]"}, "labelExpr": "datum.value + 'm'"}


def test_a_panel_has_a_layer_for_each_curve():
    curves = [
        Curve("a", "datum.t", "datum.t", "red", (8, 4)),
        Curve("b", "0.5", "0", "green", mark="rule"),
        Curve("", "0.5", "0.5", "blue", mark="point"),
    ]
    line, rule, point = layers(panel(curves, Axis("x", 0, 1), Axis("y", 0, 1)))
    assert [layer["mark"]["type"] for layer in (line, rule, point)] == ["line", "rule", "point"]
    assert [layer["data"]["sequence"]["stop"] for layer in (line, rule, point)] == [N_POINTS, 1, 1]
    assert line["encoding"]["color"]["scale"] == {"domain": ["a", "b"], "range": ["red", "green"]}
    assert line["encoding"]["strokeDash"]["scale"]["range"] == [[8, 4], [1, 0]]
    assert "y" not in rule["encoding"]
    assert point["encoding"]["color"] == {"value": "blue"}  # it has no name, and is not in the legend
    (bare, *_) = layers(panel(curves, Axis("x", 0, 1), Axis("y", 0, 1), legend=False))
    assert bare["encoding"]["color"]["legend"] is None


def test_a_table_is_drawn_where_the_sliders_say():
    rows = pd.DataFrame({"x": [0, 1], "y": [0.1, 1 / 3], "name": "a", "step": [1, 2], "part": 0})
    bars = rows.assign(low=rows["y"] - 0.1, high=rows["y"] + 0.1).drop(columns="part")
    looks = {"a": ("red", (8, 4))}
    chart = table_panel(rows, looks, Axis("x", 0, 1), Axis("y", 0, 1), where="datum.step == step")
    (lines,) = layers(chart)
    assert chart.to_dict()["data"]["values"][1] == {"x": 1, "y": 0.333333, "name": "a", "step": 2, "part": 0}
    assert lines["transform"] == [{"filter": "datum.step == step"}]
    assert lines["encoding"]["detail"] == {"field": "part", "type": "nominal"}
    lines, rules = layers(table_panel(bars, looks, Axis("x", 0, 1), Axis("y", 0, 1)))
    assert "detail" not in lines["encoding"]
    assert (rules["encoding"]["y"]["field"], rules["encoding"]["y2"]["field"]) == ("low", "high")


def test_a_sentence_is_an_expression():
    assert sentence("Of {n} cells {share} are rare.", n="k", share=percent("rare", 1)) == (
        '"Of " + k + " cells " + format(100 * rare, \'.1f\') + \' %\' + " are rare."'
    )
    assert sentence('"quoted"') == json.dumps('"quoted"')
    with pytest.raises(KeyError):
        sentence("{nobody}")


def test_at_moves_the_start_and_nothing_else():
    start = plotting.loss_terms()
    moved = start.at(gamma=3.04, log_y=True)
    assert [control.value for control in moved.controls] == [1.0, 3.0, False, True]
    assert [control.value for control in start.controls] == [1.0, 2.0, False, False]
    assert moved.at(gamma=2, log_y=False) == start
    assert [control.value for control in plotting.loss_terms(gamma=3.0).controls] == [1.0, 3.0, False, False]


def test_a_still_shows_where_the_sliders_stand():
    still = parabola().still()
    assert isinstance(still, SelfShowingFigure)
    words, moved = pixels(still), pixels(parabola(value=4.0).still())
    np.testing.assert_array_equal(words, pixels(parabola().still()))
    assert words.shape == moved.shape
    head = words.shape[0] // 8
    assert (words[:head] != moved[:head]).any()  # "top = 4"
    assert (words[head:] != moved[head:]).any()  # the curve
    assert {text.get_text() for text in still.texts} == {"top = 2"}


def test_every_viewer_finds_a_form_that_it_shows():
    bundle = parabola()._repr_mimebundle_()
    assert {"text/html", "image/png", "text/plain"} <= set(bundle)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).convert("RGB"))
    assert picture.shape == pixels(parabola().still()).shape
    assert bundle["text/plain"].startswith("A parabola.")
    assert (
        f'alt="A parabola." style="max-width:100%" src="data:image/png;base64,{bundle["image/png"]}"'
        in (bundle["text/html"])
    )


def every_explorer() -> dict[str, Explorer]:
    fixed = [plotting.loss_share_bars(*BATCH), plotting.study_answer(load_study_answer())]
    return {explorer.name: explorer for explorer in [*(getattr(plotting, name)() for name in ARITHMETIC), *fixed]}


def test_the_charts_name_no_address():
    for explorer in every_explorer().values():
        text = json.dumps(explorer.as_dict())
        assert "http" not in text
        assert "$schema" not in text
    page = parabola().html()
    assert "http://" not in page
    assert "https://" not in page
    assert set(re.findall(r"(?:src|href)=['\"]?(\w+:)", page)) == {"data:"}


def test_no_text_ends_the_script():
    wicked = "</script><!-- <script> & \"quotes\" 'and' \\u2028"
    page = parabola(alt=wicked).html()
    assert page.count("</script>") == 2  # of the data, and of what shows them
    assert "<!--" not in page
    found, _ = json.JSONDecoder().raw_decode(page, page.index('{"name": "parabola"'))
    assert found["alt"] == wicked
    assert 'alt="&lt;/script&gt;&lt;!-- &lt;script&gt; &amp; &quot;quotes&quot;' in page


def test_two_explorers_of_a_page_have_places_of_their_own():
    first, second = (re.search(r'<div id="(rbcnb-\w+)"', parabola().html())[1] for _ in range(2))
    assert first != second


def test_names_in_a_sentence_may_be_words():
    numbers = {"SGD": "1 + 1", "Adam, eps = 1e-8": "3"}
    assert sentence("{SGD} here, {Adam, eps = 1e-8} there.", **numbers) == '"" + 1 + 1 + " here, " + 3 + " there."'
    with pytest.raises(KeyError, match="RMS prop"):
        sentence("{RMS prop}", **numbers)


def test_bars_name_the_classes_and_their_cells():
    (chart,) = plotting.loss_share_bars(*BATCH).as_dict()["panels"]
    rows = pd.DataFrame((chart.get("data") or chart["layer"][0]["data"])["values"])
    assert rows["line"].tolist() == ["cells", "cells", "loss", "loss"]
    assert rows["name"].tolist() == ["normal: 80 cells at p_t = 0.9", "codocyte: 20 cells at p_t = 0.4"] * 2


def test_a_control_with_names_prints_them():
    control = Control("score", "score", [0, 1], 1, names=("macro F1", "balanced accuracy"))
    assert control.text() == "balanced accuracy"
    assert control.as_dict()["texts"] == ["macro F1", "balanced accuracy"]


def test_the_kept_vega_is_the_one_that_vl_convert_bundles():
    """Skips where another vl-convert is installed than the one by which .ci/vega.py made it."""
    if vl_convert.get_vega_version() not in vega():
        pytest.skip("another Vega is installed; .ci/vega.py writes the package's file again")
    assert vega() == vl_convert.javascript_bundle("window.rbcnbVega = vegaEmbed;")


def test_vegas_licence_goes_with_it():
    assert "University of Washington Interactive Data Lab" in asset("vega.LICENSE")
