"""Tables of a run: what they are asked for, and what is not there."""

import pandas as pd
import pytest
from small_run import small_run

from rbcnb.paper import TABLE1
from rbcnb.workflow.run import MissingResultError, Run
from rbcnb.workflow.run_tables import TABLES, RunTables, recomputed


def test_a_saved_table_is_read_back_and_one_without_a_column_is_not_written(tmp_path):
    here, *_ = small_run(tmp_path / "run")
    tables = RunTables(here, {"protocol": "honest", "margin": 0.02, "seed": 0})
    table = tables.save("table1")
    assert len(table) == len(TABLE1) + 2
    pd.testing.assert_frame_equal(here.load_table("table1"), table, check_dtype=False)
    here.save_csv(tables.final["honest"].assign(arm="table2", rho=7.8), "ladder_trials")
    assert tables.save("slopes").empty  # of one rung there is none
    assert not (here.folder / "tables" / "slopes.csv").exists()


def test_a_protocol_that_was_not_tuned_and_a_parameter_that_is_not_known_are_named(tmp_path):
    here = Run.at(tmp_path)
    here.save_table(pd.DataFrame({"protocol": ["paper"], "outer": [0]}), "choices")
    assert list(RunTables(here, {"protocol": "paper"}).choices["outer"]) == [0]
    with pytest.raises(MissingResultError, match="nothing chosen for honest; run notebook 04_cv_tuning"):
        _ = RunTables(here, {"protocol": "both"}).splits
    with pytest.raises(ValueError, match=r"run.json does not tell protocol"):
        recomputed(here)["table2"]()


def test_every_table_has_one_notebook():
    names = [name for tables in TABLES.values() for name in tables]
    assert len(names) == len(set(names))
