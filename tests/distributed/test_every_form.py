"""Every form of decoder, from its config to a folder that plain transformers reads, and on from there."""

import pytest

from tests.distributed.jobs import run_job
from tests.unit.models.decoder_forms import FORMS


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms")
    return run_job("tests.distributed.forms_body:stories", 1, folder, folder_of_runs=str(folder / "runs"))[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_form_learns_and_is_what_transformers_reads(told, form):
    story = told[form]
    assert story["status"] == 0
    assert story["losses"][-1] < story["losses"][0] - 0.5
    assert story["held_out"][-1] < story["held_out"][0]
    assert story["same_logits"]
    assert story["same_weights"]


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_pad_the_vocabulary_stay_with_training(told, form):
    """400 ids, padded to 448 rows while it trains."""
    assert told[form]["rows"] == [448, 400, 400]
    assert told[form]["generated"] < told[form]["ids"] == 400


def test_training_goes_on_from_a_folder(told):
    """Where the first run ended: with another tokenizer's form of the same ids, all weights or low-rank updates."""
    found = told["continued"]
    assert found["statuses"] == [0, 0]
    assert found["full"][0] < told["qwen3_moe"]["losses"][0] - 0.5
    assert found["lora"][0] < told["gpt2"]["losses"][0] - 0.5
    assert found["lora_moved"]


def test_what_does_not_fit_a_folder_is_refused(told):
    found = told["continued"]
    assert "was prepared with another tokenizer" in found["unfit_tokenizer"]
    assert "gpt2-exported holds other weights than this run started from; restore them" in found["changed_base"]
    assert "was trained on other weights than" in found["changed_under_updates"]
