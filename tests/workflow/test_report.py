"""The report of a run: the answer first, each claim in a row, and a page that fits a phone and paper."""

import ast
import shutil

import browser
import pandas as pd
import pytest

from rbcnb.evaluation.verdicts import BASE, LADDER, SLOPES
from rbcnb.paper import CLAIMS
from rbcnb.workflow.report import _CLAIMS, report_run, write_report
from rbcnb.workflow.run import Run


def contrasts(*verdicts: str) -> pd.DataFrame:
    """Primary contrasts of as many networks, judged so."""
    networks = ("densenet121", "resnet50", "small")[: len(verdicts)]
    common = {
        "claim": "focal_beats_ce",
        "protocol": "honest",
        "mean": -0.01,
        "low": -0.03,
        "high": 0.01,
        "margin": 0.02,
    }
    return pd.DataFrame([{**common, "architecture": a, "verdict": v} for a, v in zip(networks, verdicts, strict=True)])


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (["supported"], "Yes: focal loss scored higher than cross entropy with DenseNet-121."),
        (
            ["not supported", "not supported", "not supported"],
            "No: focal loss brought no gain worth having (of 0.02 in macro F1) with DenseNet-121, ResNet-50 and "
            "lesson net.",
        ),
        (["inconclusive"], "Not clear: for DenseNet-121 this run is too small to tell."),
        (
            ["supported", "not supported", "inconclusive"],
            "In part: focal loss scored higher than cross entropy with DenseNet-121, focal loss brought no gain worth "
            "having (of 0.02 in macro F1) with ResNet-50, for lesson net this run is too small to tell.",
        ),
    ],
)
def test_a_report_begins_with_the_answer_in_a_sentence(tmp_path, verdicts, words):
    run = Run.at(tmp_path)
    run.save_table(contrasts(*verdicts), "differences_base")
    page = write_report(run).read_text()
    assert f"<p class=answer>{words}\n" in page
    assert "DenseNet-121 -0.010 [-0.030, +0.010]" in page
    assert page.index("<p class=answer>") < page.index("<nav") < page.index("<dt>macro F1") < page.index('id="run"')


def test_a_report_of_the_published_protocol_alone_does_not_judge(tmp_path):
    run = Run.at(tmp_path)
    run.save_table(contrasts("one run, not judged").assign(protocol="paper"), "differences_base")
    assert "<p class=answer>This run does not judge" in write_report(run).read_text()


def test_a_damaged_comparison_is_named_and_not_called_missing(tmp_path):
    run = Run.at(tmp_path)
    run.save_table(contrasts("supported"), "differences_base")
    (tmp_path / "tables" / "differences_base.csv").write_bytes(b"\xff\xfe")
    page = write_report(run).read_text()
    assert "has not compared" not in page
    assert "differences_base.csv" in page.split("<nav")[0]


def test_a_claim_stands_with_the_papers_words_its_verdict_and_the_intervals(tmp_path):
    run, claim = Run.at(tmp_path), next(claim for claim in CLAIMS if claim.id == "auroc_all_classes")
    evidence = (
        "focal loss − cross entropy, AUROC of codocyte, ResNet-50, honest: -0.008 [-0.013, -0.003], p 0.1 (BH 0.2); "
        "focal loss − cross entropy, AUROC of normal, ResNet-50, honest: +0.001 [-0.001, +0.003], p 0.3 (BH 0.4)"
    )
    rows = [
        {"claim": claim.quote, "place": claim.place, "verdict": "not supported", "evidence": evidence},
        {"claim": "what nobody knows", "place": "here", "verdict": "inconclusive", "evidence": "no numbers"},
    ]
    run.save_table(pd.DataFrame(rows), "verdict")
    page = write_report(run).read_text()
    assert "Focal loss ranks the cells of every class better (AUROC)." in page
    assert f"\u201c{claim.quote}\u201d, section 5, Fig. 10" in page
    assert (
        "focal loss − cross entropy: AUROC of codocyte, ResNet-50 -0.008 [-0.013, -0.003]; "
        "AUROC of normal, ResNet-50 +0.001 [-0.001, +0.003]" in page
    )
    assert "what nobody knows<td" in page
    assert "no numbers" in page


def test_every_claim_that_a_run_judges_has_a_sentence():
    ids = {claim.quote: claim.id for claim in CLAIMS}
    of_the_study = pd.read_csv(browser.ROOT / "results" / "study" / "tables" / "verdict.csv")["claim"].map(ids)
    judged = {comparison.claim for comparison in (*BASE, *LADDER, *SLOPES) if comparison.claim} | set(of_the_study)
    sources = (browser.ROOT / "rbcnb" / "study").glob("*.py")
    calls = [node for path in sources for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    first = [call.args[0] for call in calls if getattr(call.func, "id", "") == "Comparison" and call.args]
    made = {claim.value for claim in first if isinstance(claim, ast.Constant)} - {""}
    assert "accuracy_gain_falls" in made  # of relative gains, which the study's folder does not have yet
    judged |= made
    assert judged <= set(_CLAIMS) <= set(ids.values())


@pytest.mark.slow
@pytest.mark.skipif(bool(browser.missing()), reason=f"needs a browser: {browser.missing()}")
def test_a_report_fits_a_phone_and_prints_short(tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(browser.ROOT / "results" / "study", folder)
    path = report_run(folder)
    with browser.chromium_page(width_px=390) as (page, strangers):
        page.goto(path.as_uri())
        assert page.evaluate("document.scrollingElement.scrollWidth") == 390
        page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
        assert page.evaluate("document.scrollingElement.scrollWidth") == 390
        page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = false))")
        pdf = page.pdf(format="A4", margin=dict.fromkeys(("top", "bottom", "left", "right"), "12mm"))
        assert 1 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 20
        page.emulate_media(media="print")
        page.set_viewport_size({"width": round((210 - 24) / 25.4 * 96), "height": 1000})
        wide = "[...document.querySelectorAll('table')].filter((of) => of.offsetParent).map((of) => of.scrollWidth)"
        assert max(page.evaluate(wide)) <= round((210 - 24) / 25.4 * 96)  # no column is cut
        assert strangers == []
